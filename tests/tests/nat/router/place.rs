//! Addresses that go nowhere.

use std::net::IpAddr;

use tests::frame::Transport;
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, S1, S2, UPLINK};
use tests::party::Family;

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
            let loopback: IpAddr = match family {
                Family::V4 => [127, 0, 0, 1].into(),
                Family::V6 => "::1".parse().expect("an address"),
            };
            for source in [C2.ip(family), UPLINK.ip(family), S2.ip(family), loopback] {
                let (frame, token) = world.datagram(C1.at(family, 5_000), S1.at(family, 7_000));
                reasons.push(world.expect_reason(1, || {
                    world.c1.send(&frame.source(source));
                    world.expect_none("a foreign source", token, family);
                }));
            }
            for (source, to) in [
                (C2.ip(family), C1.at(family, 5_000)),
                (C2.ip(family), outside),
                (C1.ip(family), outside),
            ] {
                let (frame, token) = world.datagram(S1.at(family, 7_000), to);
                let transport = frame.transport.clone();
                let frame = world.atk.frame(source, to.ip(), transport);
                reasons.push(world.expect_reason(1, || {
                    world.atk.send(&frame);
                    world.expect_none("an inside source from outside", token, family);
                }));
            }
        }
        reasons.sort();
        reasons.dedup();
        reasons
    });

    row.pass(&format!("none arrives; counted under {reasons:?}"));
}

#[test]
fn broadcasts_groups_and_link_local_addresses_go_no_further() {
    let row = Row::new(
        "R6",
        "RFC 1812 §5.3.5, RFC 4291 §2.5.6 (MUST NOT): directed broadcast, multicast, link-local",
        "nothing of them leaves by the uplink or reaches another endpoint",
    );

    row.check(&Options::default(), |world| {
        for (family, addresses) in [
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
        ] {
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
