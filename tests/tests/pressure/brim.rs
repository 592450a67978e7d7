//! A range of ports that serve all destinations, filled to its end.
//!
//! `CILIATE_CROWD` of 100,000 or more fills the whole default range.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tests::lab::gateway::{Gateway, Options};
use tests::lab::offload::Offload;
use tests::lab::site::{C1, C2, S1, S2};
use tests::lab::uninterrupted;
use tests::lab::world::World;
use tests::party::Family;

use crate::number;

const FIRST: u16 = 49_152;
const SHORT: u16 = 1_024;
const WHOLE: u16 = 16_384;

/// Flows that begin when no port is left.
const TOO_MANY: u16 = 50;

#[test]
fn full_range_refuses_new_flows_and_harms_nobody() {
    let is_long = number("CILIATE_CROWD", 0) >= 100_000;
    let count = if is_long { WHOLE } else { SHORT };
    let options = Options {
        mapping: "endpoint-independent",
        // What is forgotten has to be let in by one of an endpoint's permits, which are fewer.
        flows: u32::from(count) * 8,
        ..Options::default()
    }
    .ports(FIRST, FIRST + (count - 1));
    let world = World::new(&options, Offload::Off);
    if world.gateway != Gateway::Ciliate {
        return;
    }
    for family in Family::BOTH {
        world.fence(family);
        let mut owners = BTreeMap::new();
        let most = u16::try_from(u32::from(count) * 95 / 100).expect("is less");
        for number in 0..most {
            let inside = inside(family, number);
            let outside = world.out(inside, S1.at(family, 7_000));
            let before = owners.insert(outside.port(), inside);
            assert_eq!(before, None, "port {} is another's", outside.port());
            world.back(S1.at(family, 7_000), outside, inside);
        }
        check(&world, family, &owners);

        let opened = fill(&world, family, most..count + TOO_MANY);

        let used = most + opened + 1;
        eprintln!("{family:?}: {used} of {count} ports used, one by the fence");
        assert!(used <= count);
        check(&world, family, &owners);
        speak_as_host(&world, family);
    }
}

fn inside(family: Family, number: u16) -> SocketAddr {
    let site = if number.is_multiple_of(2) { C1 } else { C2 };
    site.at(family, 10_000 + number / 2)
}

/// Every owner still gets what comes to its port.
fn check(world: &World, family: Family, owners: &BTreeMap<u16, SocketAddr>) {
    let outside = tests::lab::site::UPLINK.ip(family);
    for (port, inside) in owners {
        let outside = SocketAddr::new(outside, *port);
        world.back(S1.at(family, 7_000), outside, *inside);
    }
}

/// Begins more flows than there are ports; returns how many got one.
fn fill(world: &World, family: Family, numbers: std::ops::Range<u16>) -> u16 {
    let reason = "No mapping for NAT masquerade";
    let before = world.drops().get(reason).copied().unwrap_or(0);
    let tried = numbers.len();
    for number in numbers {
        world.udp(inside(family, number), S1.at(family, 7_000));
    }
    world.fence(family);
    let opened = world.s1.arrived(|packet| packet.to().port() == 7_000).len();
    let refused = world.drops().get(reason).copied().unwrap_or(0) - before;
    assert_eq!(opened + usize::try_from(refused).expect("few"), tried);
    assert!(refused >= u64::from(TOO_MANY));
    let prohibited = match family {
        Family::V4 => (3, 13),
        Family::V6 => (1, 1),
    };
    world.c1.catch("\"administratively prohibited\"", |packet| {
        packet.icmp() == Some(prohibited)
    });
    u16::try_from(opened).expect("few")
}

/// The node itself speaks to the outside, and is answered.
fn speak_as_host(world: &World, family: Family) {
    let far = S2.at(family, 7_001);
    let nobody = match family {
        Family::V4 => "0.0.0.0:0",
        Family::V6 => "[::]:0",
    };
    for _ in 0..20 {
        let socket = UdpSocket::bind(nobody).expect("open a socket");
        socket.connect(far).expect("connect a socket");
        let timeout = Some(Duration::from_secs(3));
        socket.set_read_timeout(timeout).expect("set a timeout");
        socket.send(&[0x4e, 1, 2, 3, 5, 6, 7, 8]).expect("ask");
        let seen = world
            .s2
            .catch("the node's datagram", |packet| packet.to() == far);
        let token = world.udp(far, seen.from());
        let mut buffer = [0; 64];
        let len = uninterrupted(|| socket.recv(&mut buffer)).expect("the node is answered");
        assert_eq!(buffer[..len][..4], token.to_be_bytes());
    }
}
