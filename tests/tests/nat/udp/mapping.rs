//! Which outside tuple a datagram leaves with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};

use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, S1, S1_TOO, S2, UPLINK};
use tests::lab::world::World;
use tests::lab::{PATIENCE, uninterrupted};
use tests::party::Family;

#[test]
fn one_source_keeps_its_outside_tuple_towards_everybody() {
    let row = Row::new(
        "U1",
        "RFC 4787 REQ-1 (MUST): endpoint-independent mapping",
        "one outside tuple per inside tuple",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            expect_one_tuple(world, family);
        }
    });

    row.pass("one tuple towards 6 destinations, and replies of all of them arrive");
}

fn expect_one_tuple(world: &World, family: Family) {
    let inside = C1.at(family, 5_000);
    let mut seen = BTreeSet::new();
    for site in [S1, S1_TOO, S2] {
        for port in [7_000, 7_001] {
            let far = site.at(family, port);
            let outside = world.out(inside, far);
            world.back(far, outside, inside);
            seen.insert(outside);
        }
    }
    assert_eq!(seen.len(), 1, "one tuple should be seen: {seen:?}");
    for outside in seen {
        assert_eq!(outside.ip(), UPLINK.ip(family), "the uplink's address");
    }
}

#[test]
fn one_endpoint_keeps_its_outside_address() {
    let row = Row::new(
        "U2",
        "RFC 4787 REQ-2 (REC): paired address pooling",
        "all flows of an endpoint leave with one outside address, though the device has two",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            for site in [C1, C2] {
                let addresses: BTreeSet<IpAddr> = (20_000..20_100)
                    .map(|port| world.out(site.at(family, port), S1.at(family, 7_000)).ip())
                    .collect();
                assert_eq!(addresses.len(), 1, "one address: {addresses:?}");
            }
        }
    });

    row.pass("100 flows of each of two endpoints: one address each");
}

#[test]
fn two_endpoints_never_share_an_outside_tuple_and_an_exhausted_range_is_told() {
    let row = Row::new(
        "U3",
        "RFC 4787 REQ-3 (MUST): no port overloading",
        "distinct ports for equal sources; in a range of 64 the 65th flow is dropped and counted",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            for port in [5_000, 50_000] {
                let [one, other] =
                    [C1, C2].map(|site| world.out(site.at(family, port), S1.at(family, 7_000)));
                assert_ne!(one, other, "from port {port}");
                world.back(S1.at(family, 7_000), one, C1.at(family, port));
                world.back(S1.at(family, 7_000), other, C2.at(family, port));
            }
        }
    });
    let reasons = row.check(&Options::default().ports(61_000, 61_063), |world| {
        Family::BOTH.map(|family| {
            let far = S1.at(family, 7_000);
            fill(world, family);
            world.expect_reason(1, || {
                let token = world.udp(C1.at(family, 30_000), far);
                world.expect_none("the 65th flow", token, family);
            })
        })
    });

    row.pass(&format!(
        "distinct ports; 64 flows have 64 ports; the next is counted under {:?}",
        reasons[0]
    ));
}

/// Takes all 64 ports of the range: the flow behind which all others are waited for has one.
fn fill(world: &World, family: Family) {
    world.fence(family);
    let far = S1.at(family, 7_000);
    let ports: BTreeSet<u16> = (0..63)
        .map(|index| world.out(C1.at(family, 20_000 + index), far).port())
        .collect();
    assert_eq!(ports.len(), 63, "a port each");
    assert!(
        ports.iter().all(|port| (61_000..=61_063).contains(port)),
        "of the range: {ports:?}"
    );
}

#[test]
fn class_of_the_port_is_kept_where_the_range_allows() {
    let row = Row::new(
        "U3a",
        "RFC 4787 REQ-3a (REC): class 0–1023 or 1024–65535 is kept",
        "a source in 1024–65535 leaves from there; one in 0–1023 leaves from 0–1023",
    );

    let ports = row.check(&Options::default(), |world| {
        Family::BOTH.map(|family| {
            [500, 5_000].map(|port| {
                let outside = world.out(C1.at(family, port), S1.at(family, 7_000));
                outside.port() < 1_024
            })
        })
    });
    assert!(ports.iter().all(|[_, high]| !high), "high ports stay high");

    if ports.iter().all(|[low, _]| *low) {
        row.pass("both classes are kept");
    } else {
        row.declare(
            "1024–65535 is kept; 0–1023 leaves from the masquerade range",
            "outside ports come from one range, which the node reserves from its own sockets; ports below 1024 belong to the node's services",
        );
    }
}

#[test]
fn ports_are_preserved_unless_the_node_itself_has_them() {
    let row = Row::new(
        "U3b",
        "RFC 4787 §4.2.1: ports of the node's own sockets are not taken",
        "a port of the range is preserved; one that the node listens on is not, and its packets reach the node",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let far = S1.at(family, 7_000);
            let kept = world.out(C1.at(family, 50_123), far);
            assert_eq!(kept.port(), 50_123, "a free port is preserved");
            for port in [8_472, 50_200] {
                let own = world
                    .gw
                    .inside(|| UdpSocket::bind(UPLINK.at(family, port)))
                    .expect("listen on the node");
                own.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
                let outside = world.out(C1.at(family, port), far);
                assert_ne!(outside.port(), port, "the node listens there");
                let token = world.udp(far, UPLINK.at(family, port));
                let mut bytes = [0; 64];
                let (len, from) =
                    uninterrupted(|| own.recv_from(&mut bytes)).expect("the node should hear it");
                assert_eq!((&bytes[..4], from), (&token.to_be_bytes()[..], far));
                assert_eq!(len, 12);
                world.back(far, outside, C1.at(family, port));
            }
        }
    });

    row.pass("50123 preserved; 8472 (VXLAN) and 50200, on which the node listens, are not taken");
}

#[test]
fn parity_of_ports_is_counted() {
    let row = Row::new(
        "U4",
        "RFC 4787 REQ-4 (REC): port parity",
        "even ports become even ports, odd ones odd ones",
    );

    let kept = row.check(&Options::default(), |world| {
        Family::BOTH.map(|family| {
            let is_kept = |port: &u16| {
                let outside = world.out(C1.at(family, *port), S1.at(family, 7_000));
                outside.port() % 2 == port % 2
            };
            let in_range = (50_000..50_100).filter(is_kept).count();
            let others = (5_000..5_100).filter(is_kept).count();
            assert_eq!(in_range, 100, "preserved ports have their parity");
            others == 100
        })
    });

    if kept == [true, true] {
        row.pass("kept by 200 of 200 ports");
    } else {
        row.declare(
            "kept by all ports of the masquerade range, not by others",
            "RFC 3550 no longer needs it: RTCP ports are signalled (RFC 3605) or multiplexed (RFC 5761)",
        );
    }
}

#[test]
fn mapping_and_filtering_are_the_same_under_load() {
    let row = Row::new(
        "U11",
        "RFC 4787 REQ-11 (MUST): deterministic",
        "U1 and U8 hold while another endpoint has 95 % of the range and opens and renews flows",
    );

    row.check(&Options::default().ports(61_000, 62_023), |world| {
        for family in Family::BOTH {
            churn(world, family);
            expect_one_tuple(world, family);
            churn(world, family);
            let outside = world.out(C1.at(family, 5_000), S1.at(family, 7_000));
            let to = C1.at(family, 5_000);
            assert!(world.reaches(S1.at(family, 7_009), outside, to), "known");
            let stranger = world.out(C1.at(family, 5_001), S1.at(family, 7_000));
            let to = C1.at(family, 5_001);
            assert!(
                !world.reaches(S2.at(family, 7_000), stranger, to),
                "strange"
            );
        }
    });

    row.pass(
        "one tuple, the same filtering, with 972 of 1024 ports taken and 3888 flows of another opened and renewed",
    );
}

/// Lets `c2` have 95 % of 1024 ports, and several flows from each.
fn churn(world: &World, family: Family) {
    let mut ports: BTreeMap<u16, u16> = BTreeMap::new();
    for far in 0..4 {
        for port in 10_000..10_972 {
            world.udp(C2.at(family, port), S2.at(family, 8_000 + far));
            *ports.entry(port).or_default() += 1;
        }
        world.fence(family);
        world.uplink.forget();
        world.s2.forget();
    }
    assert_eq!(ports.len(), 972, "95 % of the range");
}
