//! Three nodes on segments of their own: what their endpoints send to each other passes the router
//! between them with their own addresses, and what they send to others does not.

use std::net::IpAddr;

use serde_json::Value;
use tests::frame::UDP;
use tests::lab::agent;
use tests::lab::conversation::{bound, exchange, exchange_with, pattern, transfer};
use tests::lab::node::{answers, ping};
use tests::lab::offload::Offload;
use tests::lab::peers::{ThreeNodes, address};
use tests::lab::wire::Wire;
use tests::party::Family;

const TRANSFER_LEN: usize = 2 << 20;
/// The hop limit that arrives: the sender's, less one for each node and the router.
const HOP_LIMIT: u8 = 61;

/// MTU of a link that carries less than the others.
const NARROW: u32 = 1_400;

/// Does something with every lab of three nodes.
fn everywhere(work: impl Fn(&ThreeNodes, &str)) {
    for host_routing in ["bpf", "legacy"] {
        for offload in Offload::BOTH {
            let net = ThreeNodes::new(host_routing, offload);
            work(
                &net,
                &format!("{host_routing}, checksums by the links: {offload:?}"),
            );
        }
    }
}

#[test]
fn endpoints_of_different_nodes_talk_with_their_own_addresses() {
    everywhere(|net, what| {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            for family in Family::BOTH {
                let (client, server) = (&net.endpoints[from], &net.endpoints[to]);
                let (near, far) = (address(from, family), address(to, family));
                ping(client, far);
                let at_server = Wire::open(server, "eth0");
                let sockets = (bound(client, near), bound(server, far));
                for round in 0..4 {
                    exchange(&sockets.0, &sockets.1);
                    let seen = at_server.receive("the datagram", |frame| frame.carries(UDP));
                    assert_eq!(seen.hop_limit(), HOP_LIMIT, "round {round}, {what}");
                }
                let data = transfer(client, server, far, TRANSFER_LEN);
                assert!(
                    data == pattern(TRANSFER_LEN),
                    "{far} gets what was sent, {what}"
                );
            }
        }
    });
}

#[test]
fn identities_of_peers_endpoints_are_known_and_nothing_is_translated() {
    everywhere(|net, what| {
        let (own, other) = (net.identity(0), net.identity(1));
        for family in Family::BOTH {
            let (near, far) = (address(0, family), address(1, family));
            let sockets = (
                bound(&net.endpoints[0], near),
                bound(&net.endpoints[1], far),
            );
            exchange(&sockets.0, &sockets.1);

            for node in [0, 1] {
                let flow = net.flow(node, far);
                assert_eq!(
                    flow["source_identity"], own,
                    "of node {node}, {what}: {flow}"
                );
                assert_eq!(
                    flow["destination_identity"], other,
                    "of node {node}, {what}: {flow}"
                );
                assert_eq!(flow["translated_source"], Value::Null, "{what}: {flow}");
            }
        }
    });
}

#[test]
fn the_router_itself_sees_the_nodes_address() {
    everywhere(|net, what| {
        for (family, [near, far]) in Family::BOTH.into_iter().zip([
            ["198.18.1.10", "198.18.1.1"],
            ["2001:db8:1::10", "2001:db8:1::1"],
        ]) {
            let [near, far]: [IpAddr; 2] =
                [near, far].map(|text| text.parse().expect("an address"));
            let client = bound(&net.endpoints[0], address(0, family));

            let seen = exchange_with(&client, &bound(&net.router, far));

            assert_eq!(seen.ip(), near, "{what}");
            let flow = net.flow(0, far);
            assert_eq!(
                flow["translated_source"],
                near.to_string(),
                "{what}: {flow}"
            );
            assert_eq!(
                flow["translated_source_port"],
                seen.port(),
                "{what}: {flow}"
            );
            let world = match family {
                Family::V4 => "world-ipv4",
                Family::V6 => "world-ipv6",
            };
            assert_eq!(flow["to"], world, "{what}: {flow}");
        }
    });
}

#[test]
fn first_packet_to_a_peer_waits_for_the_router_to_be_found() {
    everywhere(|net, what| {
        for family in Family::BOTH {
            let (near, far) = (address(0, family), address(1, family));
            let sockets = (
                bound(&net.endpoints[0], near),
                bound(&net.endpoints[1], far),
            );
            for round in 0..3 {
                for place in net.nodes.iter().chain([&net.router]) {
                    place.run("ip neigh flush all");
                }
                eprintln!("round {round} of {family:?}, {what}");
                exchange(&sockets.0, &sockets.1);
            }
        }
    });
}

#[test]
fn each_hop_answers_for_packets_that_end_there() {
    everywhere(|net, what| {
        for (family, hops) in Family::BOTH.into_iter().zip([
            ["10.0.1.1", "198.18.1.1", "198.18.2.10"],
            ["fd00:1::1", "2001:db8:1::1", "2001:db8:2::10"],
        ]) {
            for (limit, hop) in (1..).zip(hops) {
                let far = address(1, family);
                let ping = format!("ping -n -c 1 -W 2 -t {limit} {far}");
                let said = net.endpoints[0].attempt(&ping).stdout;
                assert!(
                    said.contains(&format!("From {hop}")),
                    "{hop} should answer, {what}: {said}"
                );
            }
        }
    });
}

#[test]
fn narrower_link_on_the_way_is_found_out() {
    everywhere(|net, what| {
        for (place, link) in [(&net.router, "to2"), (&net.nodes[1], "eth0")] {
            place.run(&format!("ip link set {link} mtu {NARROW}"));
        }
        for family in Family::BOTH {
            for (from, to) in [(0, 1), (1, 0)] {
                let far = address(to, family);
                let data = transfer(&net.endpoints[from], &net.endpoints[to], far, TRANSFER_LEN);
                assert!(
                    data == pattern(TRANSFER_LEN),
                    "{far} gets what was sent, {what}"
                );
            }
        }
    });
}

#[test]
fn nodes_reach_endpoints_of_their_peers() {
    everywhere(|net, what| {
        for family in Family::BOTH {
            let far = address(1, family);
            assert!(answers(&net.nodes[0], far), "{far}, {what}");
            let data = transfer(&net.nodes[0], &net.endpoints[1], far, TRANSFER_LEN);
            assert!(
                data == pattern(TRANSFER_LEN),
                "{far} gets what was sent, {what}"
            );
        }
    });
}

#[test]
fn nothing_is_left_of_the_routes_to_peers() {
    let net = ThreeNodes::new("auto", Offload::Off);
    let routes = || net.nodes[0].run("ip route") + &net.nodes[0].run("ip -6 route");
    for pool in ["10.0.2.0/24", "10.0.3.0/24", "fd00:2::/64", "fd00:3::/64"] {
        assert!(routes().contains(pool), "{pool} {}", routes());
    }

    agent::expect(&net.nodes[0], "--node edge-1 down", 0);

    assert!(!routes().contains("193"), "{}", routes());
    assert!(!routes().contains("10.0.2.0/24"), "{}", routes());
}
