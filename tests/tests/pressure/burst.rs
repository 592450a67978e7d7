//! Flows that begin at once: none loses its first packet on its way through the node's stack.
//!
//! A bucket that is empty holds the packets back in their endpoint, and lets all go together, so
//! that many are in the queues of the node at a time.

use tests::frame::{Frame, Transport};
use tests::lab::gateway::Options;
use tests::lab::offload::Offload;
use tests::lab::site::{C1, C2, S1};
use tests::lab::wait_until;
use tests::lab::world::World;
use tests::party::Family;

/// Flows that begin at once: more than an endpoint has places for pending ones.
const FLOWS: u16 = 500;

const HOLD: &str = "tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 10000000";
const LET_GO: &str = "tc qdisc change dev eth0 root tbf rate 10gbit burst 10000000 limit 10000000";

#[test]
fn flows_to_the_outside_lose_nothing_in_the_stack() {
    for mapping in ["symmetric", "endpoint-independent"] {
        let world = legacy(mapping);
        for family in Family::BOTH {
            let to = S1.at(family, 7_000);
            let arrived = begin_at_once(&world, |port| world.datagram(C1.at(family, port), to));
            wait_until("every flow arrives", || arrived(&world, false) == FLOWS);
        }
    }
}

#[test]
fn flows_between_endpoints_lose_nothing_in_the_stack() {
    let world = legacy("symmetric");
    for family in Family::BOTH {
        let to = C2.at(family, 7_000);
        let arrived = begin_at_once(&world, |port| world.datagram(C1.at(family, port), to));
        wait_until("every flow arrives", || arrived(&world, true) == FLOWS);
    }
}

fn legacy(mapping: &'static str) -> World {
    let options = Options {
        mapping,
        routing: Some("legacy"),
        ..Options::default()
    };
    World::new(&options, Offload::Off)
}

/// Sends the first packets of many flows together; returns what counts those that arrived.
fn begin_at_once(
    world: &World,
    packet: impl Fn(u16) -> (Frame, u32),
) -> impl Fn(&World, bool) -> u16 {
    let seen = std::cell::Cell::new(0);
    let mut tokens = std::collections::BTreeSet::new();
    // The gateway's neighbours are known by then.
    world.fence(Family::V4);
    world.fence(Family::V6);
    world.c1.place.run(HOLD);
    for port in 0..FLOWS {
        let (frame, token) = packet(20_000 + port);
        tokens.insert(token);
        world.c1.send(&frame);
    }
    world.c1.place.run(LET_GO);
    let other = Frame::to_address(
        &tests::party::A,
        S1.ip(Family::V4),
        Transport::udp(1, 2, 20),
    );
    // What comes next finds the bucket full, and takes all others along.
    world.c1.send(
        &world
            .c1
            .frame(C1.ip(Family::V4), S1.ip(Family::V4), other.transport),
    );
    move |world, is_inside| {
        let station = if is_inside { &world.c2 } else { &world.s1 };
        let found =
            station.arrived(|packet| packet.token().is_some_and(|token| tokens.contains(&token)));
        seen.set(seen.get() + u16::try_from(found.len()).expect("few"));
        if seen.get() == FLOWS {
            world.c1.place.run("tc qdisc del dev eth0 root");
        }
        seen.get()
    }
}
