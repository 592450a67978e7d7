//! What is translated, and what is not.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, ROUTER, S1, S2, UPLINK};
use tests::lab::stream::Stream;
use tests::lab::world::World;
use tests::lab::{PATIENCE, uninterrupted};
use tests::packet::Packet;
use tests::party::Family;

const EXCLUDED: [&str; 2] = ["198.51.100.128/25", "2001:db8:52::/64"];
/// The address that the device gets.
const RENEWED: &str = "203.0.113.9";
/// How long a change of the device's address may take to be followed.
const FOLLOWED: Duration = Duration::from_secs(1);

/// Lets inside addresses be seen outside: this is what exclusions are for. The router learns the
/// way back.
fn trust(world: &World) {
    for station in [&world.uplink, &world.s2] {
        station.is_trusted.set(true);
    }
    world
        .x
        .place
        .run("ip route add 10.9.0.0/24 via 203.0.113.2");
    world
        .x
        .place
        .run("ip route add fd00:9::/64 via 2001:db8:1::2");
}

#[test]
fn excluded_destinations_see_the_endpoints_own_address() {
    let row = Row::new(
        "E1",
        "issue 3: exclusions, both families, changed without loss",
        "sources stay towards excluded prefixes, not towards others; an edit of the file loses no packet of a stream",
    );

    row.check(&Options::default().exclude(&EXCLUDED), |world| {
        trust(world);
        for family in Family::BOTH {
            let inside = C1.at(family, 5_000);
            for _ in 0..3 {
                assert_eq!(world.out(inside, S2.at(family, 7_000)), inside);
                world.back(S2.at(family, 7_000), inside, inside);
                assert_eq!(
                    world.out(inside, S1.at(family, 7_000)).ip(),
                    UPLINK.ip(family)
                );
            }
        }
    });
    row.check(&Options::default(), |world| {
        World::speak(&world.c1);
        World::speak(&world.s1);
        let stream = Stream::start(&world.c1.place, &world.s1.place, S1.ip(Family::V4));
        for options in [Options::default().exclude(&EXCLUDED), Options::default()] {
            world.change(&options);
        }
        stream.expect_complete();
    });

    row.pass("198.51.100.128/25 and 2001:db8:52::/64 see the inside, others do not; nothing lost across two edits");
}

#[test]
fn existing_flows_keep_their_translation_when_an_exclusion_comes() {
    let row = Row::new(
        "E2",
        "issue 3: exclusions and existing flows",
        "a flow that is translated stays so; a new one to the excluded prefix is not",
    );

    row.check(&Options::default(), |world| {
        trust(world);
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S2.at(family, 7_000));
            let outside = world.out(inside, far);
            assert_eq!(outside.ip(), UPLINK.ip(family), "translated");
            world.change(&Options::default().exclude(&EXCLUDED));
            for _ in 0..3 {
                assert_eq!(world.out(inside, far), outside, "stays so");
                world.back(far, outside, inside);
            }
            let other = C1.at(family, 5_001);
            assert_eq!(world.out(other, far), other, "a new one");
            world.change(&Options::default());
        }
    });

    row.pass("as expected, both ways and in both families");
}

#[test]
fn the_nodes_own_traffic_is_left_alone() {
    let row = Row::new(
        "E3",
        "RFC 4787 §4.2, issue 3: the node's own traffic",
        "connects with its own ports while the range is exhausted; from a port that an endpoint has it gets its replies",
    );

    row.check(&Options::default().ports(61_000, 61_063), |world| {
        World::speak(&world.s1);
        for family in Family::BOTH {
            world.fence(family);
            for port in 20_000..20_063 {
                world.udp(C1.at(family, port), S1.at(family, 7_000));
            }
            world.fence(family);
            expect_own_connection(world, family);
            expect_own_port(world, family);
        }
    });

    row.pass("both hold, in both families");
}

/// Connects from the node, with a port that the kernel chooses.
fn expect_own_connection(world: &World, family: Family) {
    let far = S1.at(family, 80);
    let listener = world
        .s1
        .place
        .inside(|| TcpListener::bind(far))
        .expect("listen");
    let near = world
        .gw
        .inside(|| TcpStream::connect_timeout(&far, PATIENCE));
    let mut near = near.expect("the node connects");
    let (mut server, from) = listener.accept().expect("accept");
    assert_eq!(from, near.local_addr().expect("connected"), "its own port");
    assert_eq!(from.ip(), UPLINK.ip(family));
    near.write_all(b"from the node").expect("send");
    let mut bytes = [0; 13];
    server.read_exact(&mut bytes).expect("receive");
    assert_eq!(&bytes, b"from the node");
}

/// Sends from the node with a port of the range that an endpoint's flow has.
fn expect_own_port(world: &World, family: Family) {
    let far = S1.at(family, 7_000);
    let server = world
        .s1
        .place
        .inside(|| UdpSocket::bind(far))
        .expect("bind");
    let own = world
        .gw
        .inside(|| UdpSocket::bind(UPLINK.at(family, 61_010)))
        .expect("bind");
    for socket in [&server, &own] {
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("set a timeout");
    }
    own.send_to(b"of the node", far).expect("send");
    let mut bytes = [0; 64];
    let from = loop {
        let (len, from) =
            uninterrupted(|| server.recv_from(&mut bytes)).expect("the node's datagram");
        if &bytes[..len] == b"of the node" {
            break from;
        }
    };
    assert_eq!(from, UPLINK.at(family, 61_010), "the node's own port");
    server.send_to(b"to the node", from).expect("send");
    let (len, _) = uninterrupted(|| own.recv_from(&mut bytes)).expect("the reply is the node's");
    assert_eq!(&bytes[..len], b"to the node");
}

#[test]
fn the_uplinks_own_address_sees_the_endpoint() {
    let row = Row::new(
        "E4",
        "issue 3: from an endpoint to the uplink's own address",
        "reaches the node, which sees the endpoint's own address; a closed port is refused",
    );

    row.check(&Options::default(), |world| {
        World::speak(&world.c1);
        for family in Family::BOTH {
            for site in [UPLINK, ROUTER] {
                let listener = world
                    .gw
                    .inside(|| TcpListener::bind(site.at(family, 8_080)))
                    .expect("listen");
                let target = site.at(family, 8_080);
                let client = world
                    .c1
                    .place
                    .inside(|| TcpStream::connect_timeout(&target, PATIENCE))
                    .expect("connect");
                let (_, from) = listener.accept().expect("accept");
                assert_eq!(from, client.local_addr().expect("connected"));
                assert_eq!(from.ip(), C1.ip(family), "the endpoint's own address");
                let target = site.at(family, 8_081);
                let refused = world
                    .c1
                    .place
                    .inside(|| TcpStream::connect_timeout(&target, PATIENCE));
                let error = refused.expect_err("nobody listens");
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            }
        }
    });

    row.pass("untranslated, in both families, at the uplink's address as at the router's");
}

#[test]
fn changes_of_the_uplinks_address_are_followed() {
    let row = Row::new(
        "E5",
        "RFC 4787 REQ-7, issue 3: the device's address changes",
        "new flows have the new address within a second; nothing leaves with the old one, or none, after that",
    );

    row.check(&Options::default(), |world| {
        let agent = world.run_agent();
        let far = S1.at(Family::V4, 7_000);
        let known = C1.at(Family::V4, 5_000);
        assert_eq!(world.out(known, far).ip(), UPLINK.ip(Family::V4));
        renew_address(world);
        let start = Instant::now();
        expect_new_source(world, far, start);
        thread::sleep(FOLLOWED.saturating_sub(start.elapsed()));
        world.uplink.forget();
        for _ in 0..3 {
            world.udp(known, far);
            world.udp(C1.at(Family::V4, 5_001), far);
        }
        world.out(C1.at(Family::V4, 5_002), far);
        let is_stale =
            |packet: &Packet| packet.source.is_ipv4() && packet.source.to_string() != "203.0.113.9";
        let stale = tests::packet::briefs(&world.uplink.arrived(is_stale));
        assert!(stale.is_empty(), "with another source: {stale:?}");
        drop(agent);
    });

    row.pass(
        "followed within a second by the running agent; no packet with the old source afterwards",
    );
}

/// Does as a lease does: a new address comes, the old ones go, with them the route.
fn renew_address(world: &World) {
    world
        .gw
        .set_sysctl("net/ipv4/conf/up0/promote_secondaries", "1");
    for change in [
        &format!("address add {RENEWED}/24"),
        "address del 203.0.113.3/24",
        "address del 203.0.113.2/24",
        "route replace default via 203.0.113.1",
    ] {
        world.gw.run(&format!("ip {change} dev up0"));
    }
}

/// Opens flows until one leaves with the new address, which must be soon.
fn expect_new_source(world: &World, far: SocketAddr, start: Instant) {
    for port in 6_000.. {
        let token = world.udp(C1.at(Family::V4, port), far);
        thread::sleep(Duration::from_millis(20));
        let seen = world.s1.arrived(|packet| packet.token() == Some(token));
        if seen
            .iter()
            .any(|packet| packet.source.to_string() == RENEWED)
        {
            return;
        }
        assert!(start.elapsed() < FOLLOWED, "the new address should be used");
    }
}
