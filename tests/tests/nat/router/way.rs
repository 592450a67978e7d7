//! Routes, neighbours, next hops, and changes of them.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, S1, UPLINK};
use tests::lab::world::World;
use tests::party::Family;

/// How long a change may take to be followed.
const FOLLOWED: Duration = Duration::from_secs(1);
/// Another address of the router.
const OTHER_MAC: &str = "02:00:00:00:0f:01";

#[test]
fn first_packet_to_an_unknown_neighbour_is_not_lost() {
    let row = Row::new(
        "R7",
        "RFC 1812 §3.3.2, RFC 4861 §7.2.2 (SHOULD): packets wait for their neighbour",
        "with an empty neighbour table the only packet of a new flow, and of a known one, arrives",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            for port in [5_000, 5_001, 5_000] {
                world.gw.run("ip neigh flush dev up0");
                world.x.place.run("ip neigh flush dev near");
                world.out(C1.at(family, port), S1.at(family, 7_000));
            }
        }
    });

    row.pass("arrives, after `ip neigh flush` on both sides");
}

#[test]
fn policy_routing_and_multipath_are_honoured() {
    let row = Row::new(
        "R8",
        "RFC 1812 §5.2.4, issue 3: ECMP and policy routing honoured, or refused with the reason",
        "a rule for one endpoint's source sends it elsewhere; one flow takes one way of several",
    );

    row.check(&Options::default(), |world| {
        world.gw.run("ip rule add from 10.9.0.11 table 100");
        world.gw.run("ip route add default via 203.0.113.66 dev up0 table 100");
        world.change(&Options::default());
        let far = S1.at(Family::V4, 7_000);
        let token = world.udp(C1.at(Family::V4, 5_000), far);
        let seen = world.atk.catch_token(token);
        assert_eq!(seen.source, UPLINK.ip(Family::V4), "of {}", seen.brief());
        world.out(C2.at(Family::V4, 5_000), far);

        world.gw.run("ip rule del from 10.9.0.11 table 100");
        world.gw.run("ip route replace default nexthop via 203.0.113.1 dev up0 nexthop via 203.0.113.66 dev up0");
        world.change(&Options::default());
        for port in 6_000..6_010 {
            expect_one_way(world, C1.at(Family::V4, port), far);
        }
    });

    row.pass("the rule is honoured; each of ten flows takes one way");
}

/// Sends three packets of a flow, which must all go to one of two neighbours.
fn expect_one_way(world: &World, inside: SocketAddr, far: SocketAddr) {
    let macs = [(); 3].map(|()| {
        let token = world.udp(inside, far);
        let seen = world.uplink.catch_token(token);
        assert_eq!(seen.source, UPLINK.ip(Family::V4), "of {}", seen.brief());
        seen.to_mac
    });
    assert!(
        [world.x.mac, world.atk.mac].contains(&macs[0]),
        "one of the two"
    );
    assert!(
        macs.iter().all(|mac| *mac == macs[0]),
        "always the same: {macs:02x?}"
    );
}

#[test]
fn changes_of_the_way_are_followed_within_a_second() {
    let row = Row::new(
        "R9",
        "RFC 1812 §3.3.2, issue 3: changes of neighbours, routes and links are followed within a second",
        "the router's MAC changes, then the route: a stream loses less than a second; the uplink goes: new flows leave by the second",
    );

    let options = Options {
        second_device: true,
        ..Options::default()
    };
    row.check(&options, |world| {
        let far = S1.at(Family::V4, 7_000);
        let known = C1.at(Family::V4, 5_000);
        world.out(known, far);
        change_router(world);
        expect_within(world, "the router's new address", known, far);
        world
            .gw
            .run("ip route replace default via 203.0.114.1 dev up1");
        expect_within(world, "the new route", C1.at(Family::V4, 5_001), far);
        world
            .gw
            .run("ip route replace default via 203.0.113.1 dev up0");
        expect_within(world, "the old route", C1.at(Family::V4, 5_002), far);
        world.gw.run("ip link set up0 down");
        let outside = expect_within(world, "the other uplink", C1.at(Family::V4, 5_003), far);
        assert_eq!(
            outside.ip().to_string(),
            "203.0.114.2",
            "the other's address"
        );
        world.back(far, outside, C1.at(Family::V4, 5_003));
    });

    row.pass("each followed within a second; behind the second device new flows have its address");
}

/// Gives the router another Ethernet address, which it announces.
fn change_router(world: &World) {
    world
        .x
        .place
        .set_sysctl("net/ipv4/conf/near/arp_notify", "1");
    // The kernel believes no second announcement within a second (`locktime`).
    thread::sleep(Duration::from_millis(1_100));
    let line = format!("ip link set near address {OTHER_MAC}");
    world.x.place.run(&line);
}

/// Sends datagrams until one arrives, which must be soon; returns its outside tuple.
fn expect_within(world: &World, what: &str, inside: SocketAddr, far: SocketAddr) -> SocketAddr {
    let start = Instant::now();
    loop {
        let token = world.udp(inside, far);
        thread::sleep(Duration::from_millis(20));
        let seen = world.s1.arrived(|packet| packet.token() == Some(token));
        if let Some(seen) = seen.first() {
            return seen.from();
        }
        assert!(start.elapsed() < FOLLOWED, "{what} should be followed");
    }
}

#[test]
fn attackers_on_the_segment_are_strangers() {
    let row = Row::new(
        "R5a",
        "issue 3: frames to another MAC are not ours",
        "a reply to a live flow in a frame to another Ethernet address does not reach the endpoint",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let outside = world.out(inside, far);
            world.gw.run("ip link set up0 promisc on");
            let (frame, token) = world.datagram(far, outside);
            let frame = world.atk.frame(far.ip(), outside.ip(), frame.transport);
            world.atk.send(&frame.to_mac([2, 9, 9, 9, 9, 9]));
            world.expect_none("a frame to another", token, family);
            world.back(far, outside, inside);
        }
    });

    row.pass("not delivered, in promiscuous mode either");
}
