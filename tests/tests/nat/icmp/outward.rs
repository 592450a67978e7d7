//! Errors from inside.

use std::net::SocketAddr;

use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, S1, UPLINK};
use tests::lab::world::World;
use tests::packet::Packet;
use tests::party::Family;

use crate::forge;

/// Port unreachable.
fn port_unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    }
}

#[test]
fn errors_from_inside_leave_about_the_outside_packet() {
    let row = Row::new(
        "I5",
        "RFC 5508 REQ-5 (MUST): errors from inside are translated",
        "the sender gets the error from the outside address, about the packet that it sent",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let outside = world.out(inside, far);
            let error = refuse(world, (far, outside), inside);
            expect_error(&error, family, (far, outside));
            assert_eq!(error.destination, far.ip());
        }
    });

    row.pass("outer source 203.0.113.2 and 2001:db8:1::2; the quoted packet has the outside tuple, and its sums are right");
}

/// Sends a datagram to an endpoint, which refuses it; returns the error that the sender gets.
fn refuse(world: &World, (from, outside): (SocketAddr, SocketAddr), to: SocketAddr) -> Packet {
    let family = tests::lab::site::family_of(to.ip());
    let token = world.udp(from, outside);
    let seen = world.station(to.ip()).catch_token(token);
    let frame = forge::error(world, to.ip(), port_unreachable(family), 0, &seen);
    world.station(to.ip()).send(&frame);
    world.station(from.ip()).catch_error(token)
}

fn expect_error(error: &Packet, family: Family, (from, to): (SocketAddr, SocketAddr)) {
    assert_eq!(error.icmp(), Some(port_unreachable(family)));
    assert_eq!(error.source, UPLINK.ip(family), "of {}", error.brief());
    let quoted = error.quoted().expect("an error quotes");
    assert_eq!(
        (quoted.from(), quoted.to()),
        (from, to),
        "of {}",
        error.brief()
    );
}

#[test]
fn errors_between_endpoints_are_translated_both_ways() {
    let row = Row::new(
        "I7",
        "RFC 5508 REQ-7 (MUST): hairpinned errors",
        "c2 gets the error of c1 from c1's outside address, about the packet that c2 sent",
    );

    row.check(&Options::default().open(), |world| {
        for family in Family::BOTH {
            let (inside, other) = (C1.at(family, 5_000), C2.at(family, 6_000));
            let outside = world.out(inside, S1.at(family, 7_000));
            let error = refuse(world, (other, outside), inside);
            expect_error(&error, family, (other, outside));
            assert_eq!(error.destination, other.ip());
        }
    });

    row.pass("from the outside address, about c2's own packet");
}
