//! Fragments, and what they make together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tests::frame::{Frame, UDP};
use tests::lab::station::Station;
use tests::packet::{Packet, Part};

/// Bytes of each fragment, a multiple of eight.
pub(crate) const PIECE_LEN: usize = 400;

/// The orders in which three fragments may come.
pub(crate) const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// Cuts a packet into fragments.
pub(crate) fn cut(frame: &Frame) -> Vec<Frame> {
    let len = frame.transport.bytes.len();
    (0..len)
        .step_by(PIECE_LEN)
        .map(|start| frame.clone().part(start..len.min(start + PIECE_LEN)))
        .collect()
}

/// Waits for a datagram, whole or in fragments, whose payload begins with this token.
pub(crate) fn catch_whole(station: &Station, to: IpAddr, token: u32) -> Packet {
    let mut begun: BTreeMap<(IpAddr, u32), Vec<Packet>> = BTreeMap::new();
    loop {
        let packet = station.catch(&format!("datagram {token:#x}"), |packet| {
            packet.destination == to && packet.protocol == UDP
        });
        let pieces = begun.entry((packet.source, packet.id)).or_default();
        pieces.push(packet);
        if let Some(whole) = join(pieces).filter(|whole| whole.token() == Some(token)) {
            return whole;
        }
    }
}

/// Returns the packet that fragments make, if none is missing.
pub(crate) fn join(pieces: &[Packet]) -> Option<Packet> {
    let mut pieces = pieces.to_vec();
    pieces.sort_by_key(start);
    let first = pieces.first()?.clone();
    let mut body = Vec::new();
    for piece in &pieces {
        if start(piece) != body.len() {
            return None;
        }
        body.extend(&piece.body);
    }
    let last = pieces.last()?.part;
    last.is_none_or(|part| !part.more).then_some(Packet {
        body,
        part: None,
        ..first
    })
}

fn start(packet: &Packet) -> usize {
    packet.part.map_or(0, |part: Part| part.start)
}
