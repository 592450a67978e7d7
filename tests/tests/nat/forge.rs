//! Errors of ICMP about a packet, in all variants.

use std::net::IpAddr;

use tests::frame::{Frame, Transport};
use tests::lab::site::family_of;
use tests::lab::world::World;
use tests::packet::Packet;
use tests::party::Family;

/// Returns type and code of every error that a router or host may report.
pub(crate) fn errors(family: Family) -> Vec<(u8, u8)> {
    let kinds: &[(u8, u8)] = match family {
        Family::V4 => &[(3, 15), (11, 1), (12, 2)],
        Family::V6 => &[(1, 7), (2, 0), (3, 1), (4, 2)],
    };
    kinds
        .iter()
        .flat_map(|(kind, last)| (0..=*last).map(|code| (*kind, code)))
        .collect()
}

/// Returns type and code of messages that no router hands on (RFC 5508 REQ-10, RFC 4861 §8.1).
pub(crate) fn forbidden(family: Family) -> Vec<(u8, u8)> {
    match family {
        Family::V4 => vec![(4, 0), (5, 0), (5, 1), (5, 2), (5, 3)],
        Family::V6 => vec![(137, 0)],
    }
}

/// Returns all of these.
pub(crate) fn all(family: Family) -> Vec<(u8, u8)> {
    [errors(family), forbidden(family)].concat()
}

/// Says how many there are.
pub(crate) fn counts() -> String {
    let [v4, v6] = Family::BOTH.map(|family| all(family).len());
    format!("{v4} kinds of IPv4 and {v6} of IPv6, each from three sources")
}

/// Returns an error about a packet as somebody saw it; `word` is the MTU or the pointer.
pub(crate) fn error(
    world: &World,
    from: IpAddr,
    (kind, code): (u8, u8),
    word: u32,
    seen: &Packet,
) -> Frame {
    error_quoting(
        world,
        (from, seen.source),
        (kind, code),
        word,
        &seen.bytes(),
    )
}

/// Returns an error that quotes any bytes, from one address to another.
pub(crate) fn error_quoting(
    world: &World,
    (from, to): (IpAddr, IpAddr),
    (kind, code): (u8, u8),
    word: u32,
    quoted: &[u8],
) -> Frame {
    let body = [&word.to_be_bytes(), quoted].concat();
    let transport = Transport::icmp(family_of(from), kind, code, &body);
    world.frame(from, to, transport)
}

/// Returns a word that is right for the error: an MTU where one belongs.
pub(crate) fn word_of(family: Family, kind: (u8, u8)) -> u32 {
    match (family, kind) {
        (Family::V4, (3, 4)) | (Family::V6, (2, 0)) => 1_300,
        _ => 0,
    }
}
