//! Addresses that go nowhere.

use std::net::{IpAddr, SocketAddr};

use tests::frame::Transport;
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, S1, S2, UPLINK};
use tests::lab::world::World;
use tests::party::Family;

/// Addresses to which a router hands nothing on.
const NOWHERE: [(Family, [&str; 5]); 2] = [
    (
        Family::V4,
        [
            "10.9.0.255",
            "255.255.255.255",
            "224.0.0.1",
            "239.1.2.3",
            "169.254.1.1",
        ],
    ),
    (
        Family::V6,
        [
            "fe80::1234",
            "ff02::1",
            "ff05::1",
            "ff0e::1",
            "fe80::ff:fe00:1",
        ],
    ),
];

#[test]
fn addresses_of_the_wrong_side_are_dropped() {
    let row = Row::new(
        "R5",
        "RFC 1812 §5.3.7, §5.3.8 (MUST/SHOULD): martians and source validation, on both sides",
        "a foreign source from an endpoint and an inside source on the uplink: dropped and counted",
    );

    let reasons = row.check(&Options::default(), |world| {
        let mut reasons = Vec::new();
        for family in Family::BOTH {
            let outside = world.out(C1.at(family, 5_000), S1.at(family, 7_000));
            reasons.extend(expect_no_lie(world, family));
            reasons.extend(expect_no_return(world, family, outside));
        }
        reasons.sort();
        reasons.dedup();
        reasons
    });

    row.pass(&format!("none arrives; counted under {reasons:?}"));
}

/// Sends packets from sources that are not the endpoint's; returns what they count under.
fn expect_no_lie(world: &World, family: Family) -> Vec<String> {
    let loopback: IpAddr = match family {
        Family::V4 => [127, 0, 0, 1].into(),
        Family::V6 => "::1".parse().expect("an address"),
    };
    let sources = [C2.ip(family), UPLINK.ip(family), S2.ip(family), loopback];
    let lie = |source| {
        let (frame, token) = world.datagram(C1.at(family, 5_000), S1.at(family, 7_000));
        world.expect_reason(1, || {
            world.c1.send(&frame.source(source));
            world.expect_none("a foreign source", token, family);
        })
    };
    sources.map(lie).to_vec()
}

/// Sends packets from inside sources to the uplink; returns what they count under.
fn expect_no_return(world: &World, family: Family, outside: SocketAddr) -> Vec<String> {
    let lie = |(source, to): (IpAddr, SocketAddr)| {
        let (frame, token) = world.datagram(S1.at(family, 7_000), to);
        let frame = world.atk.frame(source, to.ip(), frame.transport);
        world.expect_reason(1, || {
            world.atk.send(&frame);
            world.expect_none("an inside source from outside", token, family);
        })
    };
    let inside = C1.at(family, 5_000);
    let [own, other] = [C1.ip(family), C2.ip(family)];
    [(other, inside), (other, outside), (own, outside)]
        .map(lie)
        .to_vec()
}

#[test]
fn broadcasts_groups_and_link_local_addresses_go_no_further() {
    let row = Row::new(
        "R6",
        "RFC 1812 §5.3.5, RFC 4291 §2.5.6 (MUST NOT): directed broadcast, multicast, link-local",
        "nothing of them leaves by the uplink or reaches another endpoint",
    );

    row.check(&Options::default(), |world| {
        for (family, addresses) in NOWHERE {
            for address in addresses {
                let to: IpAddr = address.parse().expect("an address");
                let token = world.next_token();
                let payload = token.to_be_bytes();
                let frame = world.frame(C1.ip(family), to, Transport::datagram(9, 9, &payload));
                world.c1.send(&frame);
                world.expect_none(address, token, family);
            }
        }
    });

    row.pass("5 addresses of IPv4 and 5 of IPv6: nothing leaves");
}
