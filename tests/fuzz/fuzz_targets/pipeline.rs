//! Any packets → the pipeline, masquerade included: never a panic, nothing touched of what is dropped,
//! no length changed, checksums valid afterwards if they were valid before.
//!
//! The input is a chain of packets, so that flows form: each a hook, a link, a frame of
//! [`frames`] and bytes to be written over it.

#![no_main]

use std::sync::LazyLock;

use datapath::hook::Hook;
use datapath::model::{ModelNode, ModelPacket};
use datapath::verdict::{DropReason, Verdict};
use libfuzzer_sys::fuzz_target;
use tests::frame::{ACK, FIN, Frame, SYN, Transport, checksum};
use tests::party::{A, B, C, D, FAR, Family, HOST, model};
use tests::rules;

const ETH_LEN: usize = 14;
const SECOND_NS: u64 = 1_000_000_000;

/// Length of what describes a packet, before the bytes that are written over it.
const HEAD_LEN: usize = 8;

static FRAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(frames);

fuzz_target!(|input: &[u8]| {
    let mut model = model();
    set_up(&mut model, input.first().copied().unwrap_or(0));
    set_clock(&mut model, 100_000 * SECOND_NS);
    let mut rest = input;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD_LEN>() {
        let [hook, link, frame, at, patch_len, cut, gso, seconds] = *head;
        let (patch, next) = behind.split_at(usize::from(patch_len % 64).min(behind.len()));
        rest = next;
        let mut packet = ModelPacket {
            bytes: FRAMES[usize::from(frame) % FRAMES.len()].clone(),
            ifindex: 99 + u32::from(link % 22),
            ingress_ifindex: 99 + u32::from(gso % 22),
            gso_size: u32::from(gso) * 16,
            vlan_tag: u32::from(link >= 252) << 16 | u32::from(link & 1),
            is_foreign: link == 251,
        };
        overwrite(&mut packet.bytes, usize::from(at), patch);
        if cut != 0 {
            packet.bytes.truncate(usize::from(cut));
        }
        let now_ns = model.tables4.now_ns + u64::from(seconds) * SECOND_NS / 2;
        set_clock(&mut model, now_ns);
        run(
            &mut model,
            Hook::ALL[usize::from(hook) % Hook::ALL.len()],
            packet,
        );
    }
});

/// Chooses settings of the node by the bits of a number.
fn set_up(model: &mut ModelNode, number: u8) {
    for node in [&mut model.tables4.node, &mut model.tables6.node] {
        let node = node.as_mut().expect("the node is described");
        node.reassembles = u32::from(number & 1);
        node.legacy_routing = number >> 1 & 1;
        node.masquerade.endpoint_independent = number >> 2 & 1;
        node.masquerade.unfiltered = number >> 3 & 1;
    }
    if number >> 4 & 1 != 0 {
        rules::give(model, u64::from(number));
    }
}

fn set_clock(model: &mut ModelNode, now_ns: u64) {
    (model.tables4.now_ns, model.tables6.now_ns) = (now_ns, now_ns);
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, patch: &[u8]) {
    if bytes.len() < at + patch.len() {
        bytes.resize(at + patch.len(), 0);
    }
    bytes[at..at + patch.len()].copy_from_slice(patch);
}

fn run(model: &mut ModelNode, hook: Hook, packet: ModelPacket) {
    let mut after = packet.clone();
    let result = model.run(hook, &mut after);
    let (before, after) = (packet.bytes, after.bytes);
    assert_eq!(after.len(), before.len(), "packets keep their length");
    match result {
        // A packet that is cut off may have been written to in part.
        Err(DropReason::WriteError) => return,
        Ok(Verdict::Consumed) | Err(_) => {
            assert_eq!(after, before, "{result:?} changes nothing");
            return;
        }
        Ok(Verdict::Peer(target)) if hook == Hook::FromContainer && target == packet.ifindex => {
            check_answer(&after);
            return;
        }
        Ok(
            Verdict::Pass
            | Verdict::Peer(_)
            | Verdict::Egress(_)
            | Verdict::Host(_)
            | Verdict::Neighbour(..),
        ) => {}
    }
    for (name, is_valid) in [
        ("header", is_header_valid as fn(&[u8]) -> Option<bool>),
        ("transport", is_transport_valid),
    ] {
        // What the stack puts in order travels under another address for a while.
        let is_turned =
            name == "transport" && model.tables4.node.is_some_and(|node| node.reassembles != 0);
        if is_valid(&before) == Some(true) && !is_turned {
            assert_eq!(
                is_valid(&after),
                Some(true),
                "{name} checksum after {result:?}"
            );
        }
    }
}

/// An answer to a question for a neighbour: ARP, or an advertisement with a valid checksum.
fn check_answer(bytes: &[u8]) {
    if bytes[12..14] == [0x08, 0x06] {
        assert_eq!(bytes[20..22], [0, 2], "ARP is answered by a reply");
        return;
    }
    let len = usize::from(u16::from_be_bytes([bytes[18], bytes[19]]));
    let message = &bytes[ETH_LEN + 40..ETH_LEN + 40 + len];
    assert_eq!(
        message[0], 136,
        "solicitations are answered by advertisements"
    );
    assert_eq!(
        is_transport_valid(bytes),
        Some(true),
        "the advertisement's checksum is valid"
    );
}

/// Tells whether the checksum of an IPv4 header is valid; `None` if there is none, or it is cut off.
fn is_header_valid(bytes: &[u8]) -> Option<bool> {
    let is_ipv4 = bytes.get(12..14)? == [0x08, 0x00];
    let len = usize::from(bytes.get(ETH_LEN)? & 0x0f) * 4;
    let header = bytes.get(ETH_LEN..ETH_LEN + len)?;
    (is_ipv4 && len >= 20).then(|| checksum(header) == 0)
}

/// Tells whether the transport checksum of a whole packet is valid; `None` if it has none, or comes
/// behind extension headers.
fn is_transport_valid(bytes: &[u8]) -> Option<bool> {
    let ip = bytes.get(ETH_LEN..)?;
    let (addresses, protocol, payload) = match bytes.get(12..14)? {
        [0x08, 0x00] => {
            let header_len = usize::from(ip.first()? & 0x0f) * 4;
            let total_len = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
            let payload = ip.get(header_len..total_len)?;
            (fragment == 0).then_some((ip.get(12..20)?, *ip.get(9)?, payload))?
        }
        [0x86, 0xdd] => {
            let payload_len = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            let payload = ip.get(40..40 + payload_len)?;
            (ip.get(8..40)?, *ip.get(6)?, payload)
        }
        _ => return None,
    };
    let has_none = protocol == 17 && payload.get(6..8)? == [0, 0];
    let len = u16::try_from(payload.len()).ok()?.to_be_bytes();
    let pseudo = [addresses, &[0, protocol], &len].concat();
    match protocol {
        1 => Some(checksum(payload) == 0),
        6 | 17 | 58 if !has_none => {
            let mut covered = pseudo;
            covered.extend(payload);
            Some(checksum(&covered) == 0)
        }
        _ => None,
    }
}

/// Returns what inputs begin from: a bit of everything that parties of the node say.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for family in Family::BOTH {
        let other = if family == Family::V4 { C } else { D };
        for (from, to) in [
            (A, B),
            (B, A),
            (A, HOST),
            (HOST, A),
            (other, B),
            (A, FAR),
            (B, FAR),
        ] {
            let tcp = |from_port, to_port, flags| {
                Frame::new(
                    &from,
                    &to,
                    family,
                    Transport::tcp(from_port, to_port, flags),
                )
            };
            let datagram = Frame::new(&from, &to, family, Transport::udp(40_000, 53, 100));
            let back = Frame::new(&to, &from, family, Transport::udp(53, 40_000, 30));
            let error = Transport::error(
                family,
                if family == Family::V4 { 3 } else { 1 },
                0,
                &back.quote(),
            );
            frames.extend([
                tcp(40_000, 80, SYN).bytes(),
                tcp(80, 40_000, SYN | ACK).bytes(),
                tcp(40_000, 80, ACK).bytes(),
                tcp(80, 40_000, FIN | ACK).bytes(),
                back.bytes(),
                Frame::new(&from, &to, family, error).bytes(),
                Frame::new(&from, &to, family, Transport::echo(family, false, 7)).bytes(),
                Frame::new(&from, &to, family, Transport::echo(family, true, 7)).bytes(),
                datagram.clone().part(0..48).bytes(),
                datagram.part(48..96).bytes(),
                tcp(40_000, 80, ACK)
                    .options(&[1; 8])
                    .extension(60, &[0, 1, 4, 0, 0, 0, 0])
                    .bytes(),
            ]);
        }
    }
    for family in Family::BOTH {
        let answer = |transport| Frame::new(&FAR, &FAR, family, transport).to(family.outer());
        frames.extend([
            answer(Transport::tcp(80, 40_000, SYN | ACK)).bytes(),
            answer(Transport::udp(53, 49_152, 100)).bytes(),
            answer(Transport::udp(53, 49_152, 100)).part(0..48).bytes(),
            answer(Transport::udp(53, 49_152, 100)).part(48..96).bytes(),
        ]);
    }
    let solicitation = [&[0; 4], &[0xfd, 0, 0, 1][..], &[0; 11], &[1, 1, 1], &A.mac].concat();
    let router = Family::V6.router();
    let asked = Frame::to_address(
        &A,
        router,
        Transport::icmp(Family::V6, 135, 0, &solicitation),
    );
    frames.push(asked.hop_limit(255).bytes());
    let mut arp = [
        &[0xff; 6],
        &A.mac[..],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &A.mac,
    ]
    .concat();
    arp.extend([10, 0, 1, 10, 0, 0, 0, 0, 0, 0, 10, 0, 1, 1]);
    frames.push(arp);
    frames
}
