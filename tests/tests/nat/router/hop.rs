//! Hop limits, and errors about them.

use std::net::IpAddr;

use tests::frame::{Frame, Transport};
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, ROUTER, S1, Site, UPLINK, X};
use tests::lab::world::World;
use tests::packet::{Packet, briefs};
use tests::party::Family;

/// Packets that expire, and errors that they may bring.
const EXPIRED: usize = 2_000;
const MOST: usize = 100;

/// Time exceeded.
fn expired(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (11, 0),
        Family::V6 => (3, 0),
    }
}

#[test]
fn each_packet_has_one_hop_less_behind_the_gateway() {
    let row = Row::new(
        "R1",
        "RFC 1812 §5.3.1, RFC 8200 (MUST): hop limit decremented once; at its end answered, not forwarded",
        "hop limits 1, 2, 3 and 64 outward and inward: the gateway is one hop, first packets and later ones",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let outside = world.out(inside, far);
            for port in [5_000, 5_001, 5_001, 5_001] {
                let from = C1.at(family, port);
                let last = send(world, (from, far), 1);
                expect_error(world, family, last, ROUTER);
                let next = send(world, (from, far), 2);
                let seen = world.uplink.catch_token(next);
                assert_eq!(seen.hop_limit, 1, "behind the gateway");
                expect_error(world, family, next, X);
                let seen = world.s1.catch_token(send(world, (from, far), 3));
                assert_eq!(seen.hop_limit, 1, "behind the router");
            }
            for _ in 0..3 {
                let seen = world.c1.catch_token(send(world, (far, outside), 64));
                assert_eq!(seen.hop_limit, 62, "behind the router and the gateway");
            }
            let last = send(world, (far, outside), 2);
            let error = world.s1.catch_error(last);
            assert_eq!(error.icmp(), Some(expired(family)), "of {}", error.brief());
            assert_eq!(error.source, UPLINK.ip(family), "of {}", error.brief());
            let quoted = error.quoted().expect("an error quotes");
            assert_eq!((quoted.from(), quoted.to()), (far, outside));
            world.expect_none("a packet at its end", last, family);
        }
    });

    row.pass("one hop, in both directions; time exceeded from the gateway's side that the packet came to");
}

fn send(world: &World, ends: (std::net::SocketAddr, std::net::SocketAddr), hop_limit: u8) -> u32 {
    let (frame, token) = world.datagram(ends.0, ends.1);
    world.station(ends.0.ip()).send(&frame.hop_limit(hop_limit));
    token
}

/// Waits for the error about a packet of the endpoint; it goes no further.
fn expect_error(world: &World, family: Family, token: u32, by: Site) {
    let error = world.c1.catch_error(token);
    assert_eq!(error.icmp(), Some(expired(family)), "of {}", error.brief());
    assert_eq!(error.source, by.ip(family), "of {}", error.brief());
    let quoted = error.quoted().expect("an error quotes");
    assert_eq!(quoted.source, C1.ip(family), "of {}", error.brief());
    let seen = world.s1.arrived(|packet| packet.token() == Some(token));
    assert!(
        seen.is_empty(),
        "it should go no further: {:?}",
        briefs(&seen)
    );
}

#[test]
fn some_packets_are_never_answered_with_an_error() {
    let row = Row::new(
        "R2",
        "RFC 1812 §4.3.2.7, RFC 4443 §2.4e (MUST NOT): errors about errors, broadcasts, later fragments, multicast",
        "packets at the end of their hop limit that are one of these bring no error",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            world.out(inside, far);
            for (what, frame) in unanswerable(world, family) {
                world.c1.send_as_is(&frame.hop_limit(1).bytes());
                world.fence(family);
                let errors = briefs(&world.c1.arrived(Packet::is_error));
                assert!(errors.is_empty(), "about {what}: {errors:?}");
            }
            // So that silence means something.
            let last = send(world, (inside, far), 1);
            world.c1.catch_error(last);
        }
    });

    row.pass("no error about any of them; one about an ordinary packet behind");
}

fn unanswerable(world: &World, family: Family) -> Vec<(&'static str, Frame)> {
    let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
    let (whole, _) = world.long_datagram(inside, far, 1_192);
    let quoted = world.datagram(far, inside).0.quote();
    let kind = if family == Family::V4 { 3 } else { 1 };
    let error = Transport::error(family, kind, 0, &quoted);
    let to = |address: IpAddr| world.frame(inside.ip(), address, Transport::udp(5_000, 7_000, 20));
    let (group, source): (IpAddr, IpAddr) = match family {
        Family::V4 => ([224, 0, 0, 1].into(), [224, 0, 0, 9].into()),
        Family::V6 => {
            let addresses = ["ff05::1", "ff05::9"].map(|text| text.parse().expect("an address"));
            (addresses[0], addresses[1])
        }
    };
    let mut all = vec![
        ("an error", world.frame(inside.ip(), far.ip(), error)),
        ("a later fragment", whole.part(400..800)),
        ("a group", to(group)),
        ("a group's packet", to(far.ip()).source(source)),
    ];
    if family == Family::V4 {
        all.push(("a broadcast", to([255; 4].into())));
        all.push(("a directed broadcast", to([10, 9, 0, 255].into())));
    }
    all
}

#[test]
fn errors_are_few_and_come_from_the_side_that_the_packet_came_to() {
    let row = Row::new(
        "R3",
        "RFC 1812 §4.3.2.8, §4.3.2.4, RFC 4443 §2.4f (MUST): rate limit; source of errors",
        "2000 expiring packets bring few errors, all from the gateway's inside address",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            for _ in 0..EXPIRED {
                send(world, (C1.at(family, 5_000), S1.at(family, 7_000)), 1);
            }
            world.fence(family);
            let errors = world.c1.arrived(Packet::is_error);
            assert!(
                (1..=MOST).contains(&errors.len()),
                "{} errors",
                errors.len()
            );
            let strange: Vec<Packet> = errors
                .into_iter()
                .filter(|error| error.source != ROUTER.ip(family))
                .collect();
            assert!(strange.is_empty(), "{:?}", briefs(&strange));
        }
    });

    row.pass("at most 100 for 2000 packets, from 10.9.0.1 and fd00:9::1");
}
