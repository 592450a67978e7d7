//! Three nodes on segments of their own, and a plain router between them.
//!
//! ```text
//!  web ── edge-1 ── 198.18.1.0/24 ┐
//!  api ── edge-2 ── 198.18.2.0/24 ├─ router: 10.0.N.0/24 via 198.18.N.10
//!  db  ── edge-3 ── 198.18.3.0/24 ┘
//! ```
//!
//! All of them masquerade.

use std::net::IpAddr;
use std::slice;

use serde_json::Value;

use super::agent;
use super::estate::{self, Resident};
use super::machine::Machine;
use super::namespace::Namespace;
use super::node::answers;
use super::offload::Offload;
use super::wait_until;
use crate::frame::UDP;
use crate::party::Family;

/// The endpoint of each node.
const ENDPOINTS: [Resident; 3] = [
    ("web", r#"labels = { app = "web" }"#),
    ("api", r#"labels = { app = "api" }"#),
    ("db", r#"labels = { app = "db" }"#),
];

/// Is a lab of three nodes.
pub struct ThreeNodes {
    pub machine: Machine,
    pub router: Namespace,
    pub nodes: [Namespace; 3],
    /// Of the first endpoint of each.
    pub endpoints: [Namespace; 3],
}

impl ThreeNodes {
    /// Sets all three up.
    pub fn new(host_routing: &str, offload: Offload) -> Self {
        let machine = Machine::new();
        let router = Namespace::add("router");
        let nodes = [1, 2, 3].map(|number| Namespace::add(&format!("edge-{number}")));
        let endpoints = ENDPOINTS.map(|(name, _)| Namespace::add(name));
        let net = Self {
            machine,
            router,
            nodes,
            endpoints,
        };
        net.connect();
        let file = estate::file(host_routing, &ENDPOINTS.each_ref().map(slice::from_ref));
        let file = net.machine.write("ciliate.toml", &file);
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
                    let duplicates = if address.contains(':') { " nodad" } else { "" };
                    place.run(&format!("ip address add {address} dev {link}{duplicates}"));
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
    pub fn flow(&self, node: usize, to: IpAddr) -> Value {
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
    pub fn identity(&self, node: usize) -> u64 {
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

/// Returns the address of a node's endpoint.
pub fn address(node: usize, family: Family) -> IpAddr {
    let number = node + 1;
    let text = match family {
        Family::V4 => format!("10.0.{number}.10"),
        Family::V6 => format!("fd00:{number}::10"),
    };
    text.parse().expect("an address")
}
