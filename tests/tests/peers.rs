//! Three nodes on segments of their own, and a plain router between them.
//!
//! ```text
//!  web ── edge-1 ── 198.18.1.0/24 ┐
//!  api ── edge-2 ── 198.18.2.0/24 ├─ router: 10.0.N.0/24 via 198.18.N.10
//!  db  ── edge-3 ── 198.18.3.0/24 ┘
//! ```
//!
//! All of them masquerade; what endpoints of different nodes send to each other is not translated.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::Value;
use tests::frame::UDP;
use tests::lab::agent;
use tests::lab::conversation::{bound, exchange, exchange_with, pattern, transfer};
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::node::{answers, ping};
use tests::lab::offload::Offload;
use tests::lab::wait_until;
use tests::lab::wire::Wire;
use tests::party::Family;

const ENDPOINTS: [&str; 3] = ["web", "api", "db"];
const TRANSFER_LEN: usize = 2 << 20;
/// The hop limit that arrives: the sender's, less one for each node and the router.
const HOP_LIMIT: u8 = 61;

/// Is a lab of three nodes.
struct ThreeNodes {
    machine: Machine,
    router: Namespace,
    nodes: [Namespace; 3],
    endpoints: [Namespace; 3],
}

impl ThreeNodes {
    fn new(host_routing: &str, offload: Offload) -> Self {
        let machine = Machine::new();
        let router = Namespace::add("router");
        let nodes = [1, 2, 3].map(|number| Namespace::add(&format!("edge-{number}")));
        let endpoints = ENDPOINTS.map(Namespace::add);
        let net = Self {
            machine,
            router,
            nodes,
            endpoints,
        };
        net.connect();
        let file = net.machine.write("ciliate.toml", &file(host_routing));
        for (index, node) in net.nodes.iter().enumerate() {
            let line = format!("--node edge-{} apply {}", index + 1, file.display());
            agent::expect(node, &line, 0);
        }
        for place in net.nodes.iter().chain(&net.endpoints).chain([&net.router]) {
            offload.set_in(place);
        }
        net
    }

    /// Joins the nodes to the router, which knows where their pools are.
    fn connect(&self) {
        for place in self.nodes.iter().chain([&self.router]) {
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        for family in ["ipv4", "ipv6"] {
            let path = format!("net/{family}/conf/all/forwarding");
            self.router.set_sysctl(&path, "1");
        }
        for (number, node) in (1..).zip(&self.nodes) {
            let link = format!("to{number}");
            self.router.run(&format!(
                "ip link add {link} type veth peer name eth0 netns edge-{number}"
            ));
            for (place, link, last) in [(&self.router, link.as_str(), 1), (node, "eth0", 10)] {
                place.run(&format!("ip link set {link} up"));
                for address in [
                    format!("198.18.{number}.{last}/24"),
                    format!("2001:db8:{number}::{last}/64"),
                ] {
                    place.run(&format!("ip address add {address} dev {link}"));
                }
            }
            for (pool, hop, gateway) in ways(number) {
                self.router.run(&format!("ip route add {pool} via {hop}"));
                node.run(&format!("ip route add default via {gateway}"));
                let gateway = gateway.parse().expect("an address");
                wait_until("the router is there", || answers(node, gateway));
            }
        }
    }

    /// Returns what `flows` of a node knows of datagrams to an address.
    fn flow(&self, node: usize, to: IpAddr) -> Value {
        let flows = agent::json(
            &self.nodes[node],
            &format!("--node edge-{} flows", node + 1),
        );
        let flows = flows.as_array().expect("a list").iter();
        let mut found =
            flows.filter(|flow| flow["protocol"] == UDP && flow["destination"] == to.to_string());
        found.next().expect("the flow is known").clone()
    }

    /// Returns the identity of a node's endpoint.
    fn identity(&self, node: usize) -> u64 {
        let line = format!("--node edge-{} status", node + 1);
        let status = agent::json(&self.nodes[node], &line);
        status["endpoints"][0]["identity"]
            .as_u64()
            .expect("a number")
    }
}

/// Returns each family's pool of a node, its address, and the router's.
fn ways(number: usize) -> [(String, String, String); 2] {
    [
        (
            format!("10.0.{number}.0/24"),
            format!("198.18.{number}.10"),
            format!("198.18.{number}.1"),
        ),
        (
            format!("fd00:{number}::/64"),
            format!("2001:db8:{number}::10"),
            format!("2001:db8:{number}::1"),
        ),
    ]
}

/// Returns the file that all three read.
fn file(host_routing: &str) -> String {
    let mut file = format!("[routing]\nhost_routing = \"{host_routing}\"\n");
    for (number, endpoint) in (1..).zip(ENDPOINTS) {
        write!(
            file,
            r#"
[[node]]
name = "edge-{number}"
address = ["198.18.{number}.10", "2001:db8:{number}::10"]
ipv4 = "10.0.{number}.0/24"
ipv6 = "fd00:{number}::/64"

[[device]]
node = "edge-{number}"
name = "eth0"
masquerade = true

[[endpoint]]
node = "edge-{number}"
name = "{endpoint}"
ipv4 = "10.0.{number}.10"
ipv6 = "fd00:{number}::10"
labels = {{ app = "{endpoint}" }}
"#
        )
        .expect("text can be written");
    }
    file
}

/// Returns the address of a node's endpoint.
fn address(node: usize, family: Family) -> IpAddr {
    let number = node + 1;
    let text = match family {
        Family::V4 => format!("10.0.{number}.10"),
        Family::V6 => format!("fd00:{number}::10"),
    };
    text.parse().expect("an address")
}

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
            assert_eq!(flow["to"], "world", "{what}: {flow}");
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
