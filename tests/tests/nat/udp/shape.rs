//! Sizes, fragments, checksums, payloads.

use std::net::SocketAddr;

use tests::frame::Transport;
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, ROUTER, S1, S2, X};
use tests::lab::world::World;
use tests::packet::Packet;
use tests::party::Family;

use crate::piece::{self, ORDERS, PIECE_LEN};

/// Sends fragments that begin nothing.
const FLOOD: u16 = 20_000;
/// What fragments may take of the node's memory: `ipfrag_high_thresh`, 4 MiB.
const FRAGMENTS_LEN: u64 = 4 << 20;

#[test]
fn payloads_are_left_alone() {
    let row = Row::new(
        "U10",
        "RFC 4787 REQ-10: no application layer gateways",
        "inside addresses in payloads of SIP and DNS arrive unchanged",
    );

    row.check(&Options::default(), |world| {
        for (port, text) in [
            (5_060, "REGISTER sip:s1 SIP/2.0\r\nContact: <sip:c1@10.9.0.11:5060>\r\nc=IN IP4 10.9.0.11\r\n"),
            (53, "\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x0210\x019\x010\x0211\0\0\x01\0\x01\n\x09\0\x0b"),
        ] {
            for family in Family::BOTH {
                let far = S1.at(family, port);
                let transport = Transport::datagram(port, port, text.as_bytes());
                let frame = world.frame(C1.ip(family), far.ip(), transport);
                world.c1.send(&frame);
                let seen = world.s1.catch("the datagram", |packet| packet.to() == far);
                assert_eq!(seen.payload(), text.as_bytes());
            }
        }
    });

    row.pass("unchanged");
}

#[test]
fn packets_that_are_too_big_are_answered_or_cut() {
    let row = Row::new(
        "U13",
        "RFC 4787 REQ-13 (MUST): too big with DF is answered, without DF cut",
        "an error with the MTU of the far link (1280) from the router, of the uplink (1400) from the gateway; without DF all arrives",
    );

    row.check(&Options::default(), |world| {
        world.set_far_mtu(1_280);
        world.set_uplink_mtu(1_400);
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            for (len, mtu, site) in [(1_300, 1_280, X), (1_420, 1_400, ROUTER)] {
                // The second packet takes the way of a known flow.
                for _ in 0..2 {
                    let (frame, token) = world.long_datagram(inside, far, len);
                    world.c1.send(&frame.dont_fragment());
                    let error = world.c1.catch_error(token);
                    expect_too_big(&error, family, mtu);
                    assert_eq!(error.source, site.ip(family), "of {}", error.brief());
                }
            }
        }
        let (inside, far) = (C1.at(Family::V4, 5_000), S1.at(Family::V4, 7_000));
        let (frame, token) = world.long_datagram(inside, far, 1_440);
        world.c1.send(&frame);
        expect_whole(world, far, token, 1_440);
    });

    row.pass("1280 from the router, 1400 from the gateway, in both families; 1440 bytes without DF arrive whole");
}

fn expect_too_big(error: &Packet, family: Family, mtu: u32) {
    let kind = if family == Family::V4 { (3, 4) } else { (2, 0) };
    assert_eq!(error.icmp(), Some(kind), "of {}", error.brief());
    assert_eq!(error.second_word(), mtu, "of {}", error.brief());
    let quoted = error.quoted().expect("an error quotes");
    assert_eq!(quoted.from(), C1.at(family, 5_000), "of {}", error.brief());
    assert_eq!(quoted.to(), S1.at(family, 7_000), "of {}", error.brief());
}

/// Waits for a datagram in fragments, which must be whole and from outside.
fn expect_whole(world: &World, to: SocketAddr, token: u32, len: usize) -> Packet {
    let whole = piece::catch_whole(world.station(to.ip()), to.ip(), token);
    assert_eq!(whole.to(), to, "of {}", whole.brief());
    assert_eq!(whole.payload().len(), len, "of {}", whole.brief());
    assert!(whole.is_sound(), "of {}", whole.brief());
    whole
}

#[test]
fn fragments_pass_in_every_order_and_a_flood_of_them_harms_nobody() {
    let row = Row::new(
        "U14",
        "RFC 4787 REQ-14, REQ-14a (MUST): fragments in and out of order, safely",
        "three fragments in all six orders arrive, both ways; 20,000 fragments of nothing take bounded memory and stop nobody",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let outside = world.out(inside, far);
            for (id, order) in (1..).zip(ORDERS) {
                let token = send_pieces(world, (inside, far), id, order);
                let whole = expect_whole(world, far, token, PIECE_LEN * 3 - 8);
                assert_eq!(whole.from(), outside, "outward, order {order:?}");
                let token = send_pieces(world, (far, outside), id, order);
                let whole = expect_whole(world, inside, token, PIECE_LEN * 3 - 8);
                assert_eq!(whole.from(), far, "inward, order {order:?}");
            }
        }
    });
    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let outside = world.out(inside, far);
            for id in 0..FLOOD {
                // An endpoint floods the world, and somebody out there the endpoints.
                let (from, to) = if id % 2 == 0 {
                    (C2.at(family, 9), S2.at(family, 9))
                } else {
                    (S2.at(family, 9), outside)
                };
                let (frame, _) = world.long_datagram(from, to, 1_192);
                let nothing = frame.id(id).part(PIECE_LEN..PIECE_LEN * 2);
                world.station(from.ip()).send(&nothing);
                if id % 1_000 == 0 {
                    let order = ORDERS[usize::from(id / 1_000) % ORDERS.len()];
                    for (from, to) in [(inside, far), (far, outside)] {
                        let token = send_pieces(world, (from, to), id, order);
                        let arrives = if from == inside { far } else { inside };
                        expect_whole(world, arrives, token, PIECE_LEN * 3 - 8);
                    }
                }
            }
            let used = fragments_len(world);
            assert!(used <= FRAGMENTS_LEN, "{used} bytes for {family:?}");
        }
    });

    row.pass(
        "all six orders, both ways, both families; while two senders flood, an endpoint and one outside, another's fragments pass in every order both ways, and memory for fragments stays below 4 MiB",
    );
}

/// Sends a datagram of three fragments in some order, and returns its token.
fn send_pieces(
    world: &World,
    (from, to): (SocketAddr, SocketAddr),
    id: u16,
    order: [usize; 3],
) -> u32 {
    let (frame, token) = world.long_datagram(from, to, PIECE_LEN * 3 - 8);
    let pieces = piece::cut(&frame.id(id));
    for index in order {
        world.station(from.ip()).send(&pieces[index]);
    }
    token
}

/// Returns what fragments take of the gateway's memory, in bytes.
fn fragments_len(world: &World) -> u64 {
    let read = |file: &'static str| {
        world
            .gw
            .inside(move || std::fs::read_to_string(file))
            .expect("read the statistics")
    };
    let text = ["/proc/net/sockstat", "/proc/net/sockstat6"]
        .map(read)
        .concat();
    text.lines()
        .filter(|line| line.starts_with("FRAG"))
        .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn datagrams_without_a_checksum_stay_so() {
    let row = Row::new(
        "U15",
        "RFC 768, RFC 8200 §8.1: checksum 0; partial checksums",
        "0 stays 0 in IPv4, is dropped in IPv6; all others are right with tx checksumming on and off",
    );

    row.check(&Options::default(), |world| {
        let (inside, far) = (C1.at(Family::V4, 5_000), S1.at(Family::V4, 7_000));
        let outside = world.out(inside, far);
        for (from, to, at) in [(inside, far, &world.s1), (far, outside, &world.c1)] {
            let (mut frame, token) = world.datagram(from, to);
            frame.transport.checksum_at = None;
            world.station(from.ip()).send(&frame);
            let seen = at.catch_token(token);
            assert_eq!(seen.body[6..8], [0, 0], "none stays none");
        }
        let (inside, far) = (C1.at(Family::V6, 5_000), S1.at(Family::V6, 7_000));
        world.out(inside, far);
        let (mut frame, token) = world.datagram(inside, far);
        frame.transport.checksum_at = None;
        world.c1.send(&frame);
        world.expect_none("a datagram without a sum", token, Family::V6);
    });

    row.pass("0 stays 0 (IPv4), is dropped (IPv6); all others right, summed and unsummed");
}
