//! Headers that are refused, and those that are kept.

use tests::frame::{Frame, Transport, checksum, cut, patched};
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, S1};
use tests::lab::world::World;
use tests::packet::Packet;
use tests::party::Family;

/// Random datagrams that are compared byte by byte.
const RANDOM: usize = 500;

#[test]
fn malformed_headers_are_dropped() {
    let row = Row::new(
        "R4",
        "RFC 1812 §5.2.2 (MUST): header validation",
        "wrong version, header length, total length or header checksum: nothing of it leaves",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            for _ in 0..3 {
                world.out(inside, far);
            }
            for (what, bytes) in malformed(world, family) {
                world.uplink.forget();
                world.c1.send_as_is(&bytes);
                world.fence(family);
                let seen = world.uplink.arrived(|packet| packet.to() == far);
                assert!(
                    seen.is_empty(),
                    "{what}: {:?}",
                    tests::packet::briefs(&seen)
                );
            }
        }
    });

    row.pass("8 of IPv4, 4 of IPv6, on a known flow: none leaves");
}

fn malformed(world: &World, family: Family) -> Vec<(&'static str, Vec<u8>)> {
    let (frame, _) = world.datagram(C1.at(family, 5_000), S1.at(family, 7_000));
    let good = frame.bytes();
    if family == Family::V6 {
        return vec![
            ("version 5", patched(good.clone(), 0, &[0x50])),
            ("version 4", patched(good.clone(), 0, &[0x40])),
            ("longer than it is", patched(good.clone(), 4, &[1, 0])),
            ("cut in its header", cut(good, 30)),
        ];
    }
    let summed = |at: usize, with: &[u8]| resummed(patched(good.clone(), at, with));
    vec![
        ("version 5", summed(0, &[0x55])),
        ("version 6", summed(0, &[0x65])),
        ("a header of 16 bytes", summed(0, &[0x44])),
        ("a header longer than the packet", summed(0, &[0x4f])),
        ("longer than it is", summed(2, &[1, 0])),
        ("shorter than its header", summed(2, &[0, 16])),
        ("a wrong checksum", patched(good.clone(), 10, &[0x12, 0x34])),
        ("cut in its header", cut(good, 16)),
    ]
}

/// Computes the checksum of a damaged header anew: the damage alone is to be noticed.
fn resummed(bytes: Vec<u8>) -> Vec<u8> {
    let bytes = patched(bytes, 10, &[0, 0]);
    let sum = checksum(&bytes[14..34]).to_be_bytes();
    patched(bytes, 10, &sum)
}

#[test]
fn all_other_fields_are_kept_and_sums_are_right_at_their_edges() {
    let row = Row::new(
        "R10",
        "RFC 2474, RFC 3168, RFC 1624 (MUST): DSCP and ECN kept, checksums updated right",
        "every traffic class arrives as sent; sums that become 0 or 0xffff are right; random payloads arrive whole",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let outside = world.out(inside, far);
            for (from, to) in [(inside, far), (far, outside)] {
                let at = if from == inside { &world.s1 } else { &world.c1 };
                for class in (0..=255).step_by(5) {
                    let (frame, token) = world.datagram(from, to);
                    world.station(from.ip()).send(&frame.traffic_class(class));
                    assert_eq!(at.catch_token(token).traffic_class, class);
                }
                expect_edges(world, &world.datagram(from, to).0, at);
                for _ in 0..RANDOM / 2 {
                    let len = 4 + usize::try_from(world.next_token() / 0x100 % 300).expect("small");
                    let (frame, token) = world.long_datagram(from, to, len);
                    world.station(from.ip()).send(&frame);
                    let seen = at.catch_token(token);
                    assert_eq!(seen.payload(), &frame.transport.bytes[8..]);
                }
            }
        }
    });

    row.pass("52 traffic classes each way; sums of 0x0000 and 0xffff, before and behind, are right; 1000 datagrams whole");
}

/// Sends datagrams whose sums take every value around 0, before or behind the translation.
fn expect_edges(world: &World, frame: &Frame, at: &tests::lab::station::Station) {
    let station = world.station(frame.source);
    let send = |word: u16| -> (u16, Packet) {
        let token = world.next_token();
        let payload = [&token.to_be_bytes(), &[0, 0][..], &word.to_be_bytes()].concat();
        let [from, to] = frame.transport.ports;
        let frame = Frame {
            transport: Transport::datagram(from, to, &payload),
            ..frame.clone()
        };
        let bytes = frame.quote();
        let sum_at = bytes.len() - 8 - 2;
        station.send(&frame);
        let sent = u16::from_be_bytes([bytes[sum_at], bytes[sum_at + 1]]);
        (sent, at.catch_token(token))
    };
    let mut edges = [0; 2];
    // The token moves the sum as well: what is left to the next edge is measured each time.
    for (index, pick) in [0_usize, 1].into_iter().enumerate() {
        for nudge in 0..4_u16 {
            let (sent, seen) = send(0);
            let sums = [sent, u16::from_be_bytes([seen.body[6], seen.body[7]])];
            // One more in the payload is one less in the sum, and the next token is 0x100 more.
            let word = sums[pick].wrapping_sub(0x100).wrapping_sub(nudge);
            let (sent, seen) = send(word);
            let sums = [sent, u16::from_be_bytes([seen.body[6], seen.body[7]])];
            assert_ne!(sums[1], 0, "0 would stand for no sum");
            assert!(seen.is_sound(), "of {}", seen.brief());
            edges[index] += u32::from(sums[pick] == 0xffff);
        }
    }
    assert!(
        edges[0] > 0 && edges[1] > 0,
        "the edges should be met: {edges:?}"
    );
}
