//! Nodes with as many endpoints as a test likes, a plain router between them, and a world behind
//! it: a lab for policies.
//!
//! ```text
//!  web, api, … ── edge-1 ── 198.18.1.0/24 ┐
//!  far, …      ── edge-2 ── 198.18.2.0/24 ├─ router ── 198.51.100.0/24 ── world (.2), other (.3)
//!  …           ── edge-N ── 198.18.N.0/24 ┘    out     2001:db8:51::/64
//! ```
//!
//! The router knows the way to every endpoint, so that the world reaches them by their own
//! addresses; what they send to it is masqueraded. Everybody listens.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::agent;
use super::listener::Listeners;
use super::machine::Machine;
use super::namespace::{Namespace, Outcome};
use super::node::answers;
use super::wait_until;
use crate::party::Family;

/// Is an endpoint: its name, and its labels as the file has them.
pub type Resident = (&'static str, &'static str);

/// Is the lab.
pub struct Estate {
    pub machine: Machine,
    pub router: Namespace,
    pub world: Namespace,
    pub nodes: Vec<Namespace>,
    /// Everybody by name, with one address of each family.
    parties: BTreeMap<String, (Namespace, [IpAddr; 2])>,
    /// The file without a policy.
    base: String,
    /// They answer as long as they are held.
    listeners: Vec<Listeners>,
}

impl Estate {
    /// Sets all nodes up, each with its endpoints and without a policy.
    pub fn new(host_routing: &str, residents: &[&[Resident]]) -> Self {
        let machine = Machine::new();
        let [router, world] = ["router", "world"].map(Namespace::add);
        let numbers = 1..=residents.len();
        let nodes = numbers.map(|number| Namespace::add(&format!("edge-{number}")));
        let mut estate = Self {
            machine,
            router,
            world,
            nodes: nodes.collect(),
            parties: BTreeMap::new(),
            base: file(host_routing, residents),
            listeners: Vec::new(),
        };
        estate.connect();
        estate.connect_world();
        for (number, residents) in (1..).zip(residents) {
            for (last, (name, _)) in (10..).zip(*residents) {
                let place = Namespace::add(name);
                let addresses = pair(
                    &format!("10.0.{number}.{last}"),
                    &format!("fd00:{number}::{last}"),
                );
                estate
                    .parties
                    .insert((*name).to_owned(), (place, addresses));
            }
        }
        estate.apply_everywhere("");
        estate.listen();
        estate.meet(residents.len());
        estate
    }

    /// Joins the nodes to the router, which knows where their pools are.
    fn connect(&mut self) {
        for place in self.nodes.iter().chain([&self.router, &self.world]) {
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        for family in ["ipv4", "ipv6"] {
            let path = format!("net/{family}/conf/all/forwarding");
            self.router.set_sysctl(&path, "1");
        }
        for (number, node) in (1..).zip(&self.nodes) {
            let (link, peer) = (format!("to{number}"), format!("edge-{number}"));
            join(
                &self.router,
                (&link, &peer, node),
                &format!("198.18.{number}"),
                &format!("2001:db8:{number}:"),
                10,
            );
            self.router.run(&format!(
                "ip route add 10.0.{number}.0/24 via 198.18.{number}.10"
            ));
            self.router.run(&format!(
                "ip route add fd00:{number}::/64 via 2001:db8:{number}::10"
            ));
            let addresses = pair(
                &format!("198.18.{number}.10"),
                &format!("2001:db8:{number}::10"),
            );
            self.parties.insert(peer, (node.clone(), addresses));
        }
        let router = pair("10.0.1.1", "fd00:1::1");
        self.parties
            .insert("host".to_owned(), (self.nodes[0].clone(), router));
    }

    fn connect_world(&mut self) {
        join(
            &self.router,
            ("out", "world", &self.world),
            "198.51.100",
            "2001:db8:51:",
            2,
        );
        self.world.run("ip address add 198.51.100.3/24 dev eth0");
        // Only who asks for it sends with it.
        self.world
            .run("ip address add 2001:db8:51::3/64 dev eth0 nodad preferred_lft 0");
        for (name, last) in [("world", 2), ("other", 3)] {
            let addresses = pair(
                &format!("198.51.100.{last}"),
                &format!("2001:db8:51::{last}"),
            );
            self.parties
                .insert(name.to_owned(), (self.world.clone(), addresses));
        }
    }

    fn listen(&mut self) {
        let parties = self.parties.values();
        let listeners = parties.map(|(place, addresses)| {
            // Whoever is told of an error often would fall silent otherwise.
            place.set_sysctl("net/ipv4/icmp_ratelimit", "0");
            place.set_sysctl("net/ipv6/icmp/ratelimit", "0");
            place.set_sysctl("net/ipv4/ping_group_range", "0 0");
            Listeners::start(place, addresses)
        });
        self.listeners = listeners.collect();
    }

    /// Waits until all links are there, and neighbours are known.
    fn meet(&self, nodes: usize) {
        for family in Family::BOTH {
            for number in 1..=nodes {
                let address = self.address(&format!("edge-{number}"), family);
                wait_until("the node is there", || answers(&self.world, address));
            }
        }
    }

    /// Writes the file with this policy and returns its path.
    pub fn write(&self, policy: &str) -> PathBuf {
        self.machine.write("ciliate.toml", &self.text(policy))
    }

    /// Returns the file with this policy.
    pub fn text(&self, policy: &str) -> String {
        format!("{}{policy}", self.base)
    }

    /// Gives one node, counted from 0, a policy; the agent must end with `code`.
    pub fn apply_with(&self, node: usize, policy: &str, code: i32) -> Outcome {
        self.write(policy);
        self.ciliate(node, "apply", code)
    }

    /// Gives one node, counted from 0, a policy that may cut connections which the test has itself.
    pub fn apply_lockout(&self, node: usize, policy: &str) {
        self.write(policy);
        self.ciliate(node, "apply --allow-lockout", 0);
    }

    /// Gives one node, counted from 0, a whole file.
    pub fn apply_text(&self, node: usize, text: &str) {
        self.machine.write("ciliate.toml", text);
        self.ciliate(node, "apply", 0);
    }

    /// Runs the agent at a node, counted from 0, with the file; it must end with `code`.
    pub fn ciliate(&self, node: usize, verb: &str, code: i32) -> Outcome {
        let file = self.machine.folder.join("ciliate.toml");
        let line = format!("--node edge-{} {verb} {}", node + 1, file.display());
        agent::expect(&self.nodes[node], &line, code)
    }

    /// Gives one node, counted from 0, a policy.
    pub fn apply(&self, node: usize, policy: &str) {
        self.apply_with(node, policy, 0);
    }

    /// Gives all nodes a policy.
    pub fn apply_everywhere(&self, policy: &str) {
        for node in 0..self.nodes.len() {
            self.apply(node, policy);
        }
    }

    /// Returns where somebody is: an endpoint, a node, `world` or `other`.
    pub fn place(&self, name: &str) -> &Namespace {
        &self.party(name).0
    }

    /// Returns an address of an endpoint, a node, `world` or `other`; of `host`, the first node's
    /// as its endpoints' router.
    pub fn address(&self, name: &str, family: Family) -> IpAddr {
        let [v4, v6] = self.party(name).1;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    fn party(&self, name: &str) -> &(Namespace, [IpAddr; 2]) {
        let found = self.parties.get(name);
        found.unwrap_or_else(|| panic!("{name} should be somebody"))
    }

    /// Returns what `status` of a node says, counted from 0.
    pub fn status(&self, node: usize) -> Value {
        agent::json(
            &self.nodes[node],
            &format!("--node edge-{} status", node + 1),
        )
    }

    /// Returns how many packets a node dropped, by reason.
    pub fn drops(&self, node: usize) -> BTreeMap<String, u64> {
        let status = self.status(node);
        let drops = status["drops"].as_object().expect("drops by reason");
        let count = |count: &Value| count.as_u64().expect("a number");
        drops
            .iter()
            .map(|(reason, n)| (reason.clone(), count(n)))
            .collect()
    }
}

/// Joins a place to the router by a link that has its `eth0` at the other end.
fn join(
    router: &Namespace,
    (link, peer, place): (&str, &str, &Namespace),
    v4: &str,
    v6: &str,
    last: u32,
) {
    router.run(&format!(
        "ip link add {link} type veth peer name eth0 netns {peer}"
    ));
    for (place, link, last) in [(router, link, 1), (place, "eth0", last)] {
        place.run(&format!("ip link set {link} up"));
        place.run(&format!("ip address add {v4}.{last}/24 dev {link}"));
        place.run(&format!("ip address add {v6}:{last}/64 dev {link} nodad"));
    }
    place.run(&format!("ip route add default via {v4}.1"));
    place.run(&format!("ip route add default via {v6}:1"));
    let gateway = format!("{v4}.1").parse().expect("an address");
    wait_until("the router is there", || answers(place, gateway));
}

fn pair(v4: &str, v6: &str) -> [IpAddr; 2] {
    [v4, v6].map(|text| text.parse().expect("an address"))
}

/// Returns the file that all nodes read, without a policy.
pub(super) fn file(host_routing: &str, residents: &[&[Resident]]) -> String {
    let mut file = format!("[routing]\nhost_routing = \"{host_routing}\"\n");
    for (number, residents) in (1..).zip(residents) {
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
"#
        )
        .expect("text can be written");
        for (last, (name, more)) in (10..).zip(*residents) {
            write!(
                file,
                r#"
[[endpoint]]
node = "edge-{number}"
name = "{name}"
ipv4 = "10.0.{number}.{last}"
ipv6 = "fd00:{number}::{last}"
{more}
"#
            )
            .expect("text can be written");
        }
    }
    file
}
