//! Any packets → the pipeline: never a panic, nothing touched that the verdict does not rewrite,
//! checksums valid afterwards if they were valid before.
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
use tests::party::{A, ALL, B, C, D, Family, HOST, model};

const ETH_LEN: usize = 14;
const SECOND_NS: u64 = 1_000_000_000;

/// Length of what describes a packet, before the bytes that are written over it.
const HEAD_LEN: usize = 8;

static FRAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(frames);

fuzz_target!(|input: &[u8]| {
    let mut model = model();
    set_clock(&mut model, 100_000 * SECOND_NS);
    let mut rest = input;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD_LEN>() {
        let [hook, link, frame, at, patch_len, cut, gso, seconds] = *head;
        let (patch, next) = behind.split_at(usize::from(patch_len % 64).min(behind.len()));
        rest = next;
        let mut packet = ModelPacket {
            bytes: FRAMES[usize::from(frame) % FRAMES.len()].clone(),
            ifindex: 99 + u32::from(link % 18),
            ingress_ifindex: 99 + u32::from(gso % 18),
            gso_size: u32::from(gso) * 16,
            has_vlan_tag: link >= 252,
        };
        overwrite(&mut packet.bytes, usize::from(at), patch);
        if cut != 0 {
            packet.bytes.truncate(usize::from(cut));
        }
        let now_ns = model.tables4.now_ns + u64::from(seconds) * SECOND_NS / 2;
        set_clock(&mut model, now_ns);
        run(&mut model, Hook::ALL[usize::from(hook % 4)], packet);
    }
});

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
    let target = match result {
        Ok(Verdict::Pass | Verdict::Consumed) | Err(_) => {
            assert_eq!(after.bytes, packet.bytes, "{result:?} changes nothing");
            return;
        }
        Ok(Verdict::Peer(target) | Verdict::Egress(target) | Verdict::Host(target)) => target,
    };
    assert!(
        ALL.iter().any(|who| who.link == target),
        "{target} is a party's link"
    );
    assert_eq!(
        after.bytes.len(),
        packet.bytes.len(),
        "packets keep their length"
    );
    if result == Ok(Verdict::Peer(packet.ifindex)) {
        check_answer(&after.bytes);
    } else {
        check_forwarded(result, &packet.bytes, &after.bytes);
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
    let length = bytes[18..20].to_vec();
    let covered = [&bytes[22..54], &length, &[0, 58], message].concat();
    assert_eq!(
        checksum(&covered),
        0,
        "the advertisement's checksum is valid"
    );
}

/// Only Ethernet addresses change, and the hop limit of what is routed.
fn check_forwarded(result: Result<Verdict, DropReason>, before: &[u8], after: &[u8]) {
    let mut expected = before.to_vec();
    expected[..12].copy_from_slice(&after[..12]);
    if matches!(result, Ok(Verdict::Peer(_))) {
        let is_ipv4 = before[12..14] == [0x08, 0x00];
        let hop_limit = if is_ipv4 { ETH_LEN + 8 } else { ETH_LEN + 7 };
        assert!(before[hop_limit] > 1, "what is routed has a hop to go");
        expected[hop_limit] -= 1;
        if is_ipv4 {
            let check = ETH_LEN + 10..ETH_LEN + 12;
            expected[check.clone()].copy_from_slice(&after[check]);
            if let (Some(true), valid) = (is_valid(before), is_valid(after)) {
                assert_eq!(valid, Some(true), "a valid header checksum stays valid");
            }
        }
    }
    assert_eq!(expected, after, "{result:?} changes nothing else");
}

/// Tells whether the checksum of an IPv4 header is valid; `None` if it is cut off.
fn is_valid(bytes: &[u8]) -> Option<bool> {
    let len = usize::from(bytes.get(ETH_LEN)? & 0x0f) * 4;
    Some(checksum(bytes.get(ETH_LEN..ETH_LEN + len)?) == 0)
}

/// Returns what inputs begin from: a bit of everything that parties of the node say.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for family in Family::BOTH {
        let other = if family == Family::V4 { C } else { D };
        for (from, to) in [(A, B), (B, A), (A, HOST), (HOST, A), (other, B)] {
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
