//! Files made up at random, in which names, labels, prefixes and ports often meet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ciliate::config::Config;
use ciliate::config::policy::{
    Enforcement, Entity, Peer, Policy, Ports, Requirement, Rule, Selector, Subject, Term,
};
use ipnet::IpNet;

use crate::random::Random;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Prefixes around, inside of and beside those of nodes and of each other.
const PREFIXES: &[&str] = &[
    "0.0.0.0/0",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.128/25",
    "10.0.1.2/32",
    "192.0.2.0/24",
    "192.0.2.1/32",
    "198.51.100.0/24",
    "198.51.100.0/25",
    "198.51.100.64/26",
    "198.51.100.65/32",
    "198.51.100.128/25",
    "203.0.113.0/24",
    "::/0",
    "fd00::/8",
    "fd00:1::/64",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::1/128",
];

/// Addresses of which each prefix contains some and not others.
pub(crate) const STRANGERS: &[&str] = &[
    "10.0.1.200",
    "10.0.1.90",
    "10.0.3.90",
    "10.9.0.1",
    "192.0.2.99",
    "198.51.100.1",
    "198.51.100.65",
    "198.51.100.66",
    "198.51.100.200",
    "203.0.113.7",
    "8.8.8.8",
    "200.0.0.1",
    "fd00:1::99",
    "fd77::1",
    "2001:db8::99",
    "2001:db8:1::1",
    "2001:db8:1::2",
    "2600::1",
];

/// Ports that rules are about, and their neighbours.
pub(crate) const PORTS: &[u16] = &[
    0, 22, 79, 80, 81, 443, 1023, 1024, 8080, 9000, 40_000, 65_535,
];

/// Protocols of packets.
pub(crate) const PROTOCOLS: &[u8] = &[1, TCP, TCP, TCP, UDP, 47, 58, 132];

const ENTITIES: &[Entity] = &[
    Entity::Host,
    Entity::World,
    Entity::WorldIpv4,
    Entity::WorldIpv6,
    Entity::RemoteNode,
    Entity::Cluster,
    Entity::Health,
    Entity::All,
    Entity::None,
];

/// Makes up a file.
pub(crate) fn config(random: &mut Random) -> Config {
    let (nodes, endpoints) = (1 + random.below(3), random.below(8));
    let text = nodes_and_endpoints(random, nodes, endpoints);
    let mut config = Config::parse("made-up.toml", &text).expect("a good file");
    for endpoint in &mut config.endpoints {
        for name in ["http", "api"] {
            if random.one_in(3) {
                let port = *random.pick(PORTS);
                endpoint.ports.insert(name.to_owned(), port.max(1));
            }
        }
        endpoint.audit = random.one_in(8);
    }
    config.policy = policy(random, nodes, endpoints);
    config
}

fn nodes_and_endpoints(random: &mut Random, nodes: usize, endpoints: usize) -> String {
    let mut text = String::new();
    let both = random.one_in(2);
    for node in 1..=nodes {
        writeln!(
            text,
            "[[node]]\nname = \"n{node}\"\nipv4 = \"10.0.{node}.0/24\""
        )
        .expect("a string");
        if both {
            writeln!(text, "ipv6 = \"fd00:{node}::/64\"").expect("a string");
            writeln!(text, "address = [\"192.0.2.{node}\", \"2001:db8::{node}\"]")
                .expect("a string");
        } else {
            writeln!(text, "address = \"192.0.2.{node}\"").expect("a string");
        }
    }
    for endpoint in 0..endpoints {
        let node = 1 + random.below(nodes);
        writeln!(
            text,
            "[[endpoint]]\nnode = \"n{node}\"\nname = \"e{endpoint}\""
        )
        .expect("a string");
        let labels = [
            "app = \"web\"",
            "app = \"db\"",
            "app = \"web\", tier = \"front\"",
            "",
        ];
        writeln!(text, "labels = {{ {} }}", random.pick(&labels)).expect("a string");
    }
    if random.one_in(2) {
        text.push_str("[masquerade]\nexclude = [\"10.0.0.0/8\", \"198.51.100.64/26\"]\n");
    }
    text
}

fn policy(random: &mut Random, nodes: usize, endpoints: usize) -> Policy {
    let modes = [
        Enforcement::Default,
        Enforcement::Default,
        Enforcement::Default,
        Enforcement::Always,
    ];
    let enforcement = if random.one_in(12) {
        Enforcement::Never
    } else {
        *random.pick(&modes)
    };
    let rules = (0..random.below(8)).map(|at| rule(random, at, nodes, endpoints));
    Policy {
        rules: rules.collect(),
        enforcement,
        audit: random.one_in(8),
        enforces_host: random.one_in(2),
    }
}

/// Makes up a rule; its place and those of its terms tell it from others.
pub(crate) fn rule(random: &mut Random, at: usize, nodes: usize, endpoints: usize) -> Rule {
    let subject = if random.one_in(4) {
        let nodes = random.some(1, |random| format!("n{}", 1 + random.below(nodes)));
        Subject::Host {
            nodes: nodes.into_iter().collect(),
        }
    } else {
        let names = random
            .one_in(3)
            .then(|| format!("e{}", random.below(endpoints.max(1))));
        Subject::Endpoints {
            selectors: random.some(2, selector),
            names: names.into_iter().collect(),
        }
    };
    let mut list = |name: &str, often: usize| {
        random.one_in(often).then(|| {
            let mut terms = random.some(3, |random| term(random, nodes, endpoints));
            for (ordinal, term) in terms.iter_mut().enumerate() {
                term.place = format!("{at} {name} {ordinal}");
            }
            terms
        })
    };
    Rule {
        place: format!("rule {at}"),
        ingress: list("ingress", 2),
        egress: list("egress", 2),
        ingress_deny: list("ingress_deny", 3),
        egress_deny: list("egress_deny", 3),
        description: random
            .one_in(2)
            .then(|| format!("about {}", random.below(3))),
        subject,
        default_deny: !random.one_in(3),
        reject: random.one_in(4),
    }
}

fn term(random: &mut Random, nodes: usize, endpoints: usize) -> Term {
    Term {
        place: String::new(),
        peers: if random.one_in(6) {
            Vec::new()
        } else {
            random.some(3, |random| peer(random, nodes, endpoints))
        },
        ports: random.some(3, ports),
    }
}

fn peer(random: &mut Random, nodes: usize, endpoints: usize) -> Peer {
    match random.below(10) {
        0 | 1 => Peer::Entity(*random.pick(ENTITIES)),
        2 | 3 => Peer::Selector(selector(random)),
        4 => Peer::Endpoint(format!("e{}", random.below(endpoints.max(1)))),
        5 => Peer::Node(format!("n{}", 1 + random.below(nodes))),
        _ => {
            let prefix: IpNet = random.pick(PREFIXES).parse().expect("a prefix");
            let inner = PREFIXES.iter().map(|text| text.parse().expect("a prefix"));
            let inner: Vec<IpNet> = inner.filter(|inner| prefix.contains(inner)).collect();
            Peer::Cidr {
                prefix,
                except: random.some(2, |random| *random.pick(&inner)),
            }
        }
    }
}

fn selector(random: &mut Random) -> Selector {
    let requirements = |random: &mut Random| -> BTreeMap<_, _> {
        let list = random.some(2, |random| {
            let key = random.pick(&["app", "tier"]).to_string();
            (key, requirement(random))
        });
        list.into_iter().collect()
    };
    Selector {
        requirements: requirements(random),
        not: random.one_in(3).then(|| requirements(random)),
    }
}

fn requirement(random: &mut Random) -> Requirement {
    match random.below(5) {
        0 => Requirement::Exists,
        1 => Requirement::Absent,
        _ => {
            let values = random.some(2, |random| random.pick(&["web", "db", "front"]).to_string());
            Requirement::In(values.into_iter().collect::<BTreeSet<_>>())
        }
    }
}

fn ports(random: &mut Random) -> Ports {
    let protocol = *random.pick(&[TCP, TCP, UDP, 132]);
    let port = |random: &mut Random| *random.pick(PORTS);
    match random.below(9) {
        0 | 8 => Ports::Named {
            protocol,
            name: random.pick(&["http", "api"]).to_string(),
        },
        1 => Ports::Icmp {
            protocol: *random.pick(&[1, 58]),
            kind: *random.pick(&[0, 3, 8, 128]),
            code: random.one_in(2).then(|| *random.pick(&[0, 4])),
        },
        2 => Ports::Protocol(*random.pick(PROTOCOLS)),
        3 | 4 => {
            let (one, other) = (port(random), port(random));
            Ports::Range {
                protocol,
                first: one.min(other),
                last: one.max(other),
            }
        }
        _ => {
            let port = port(random);
            Ports::Range {
                protocol,
                first: port,
                last: port,
            }
        }
    }
}

/// Makes up the port that a packet is for; of ICMP the type and code.
pub(crate) fn port(random: &mut Random, protocol: u8) -> u16 {
    match protocol {
        1 | 58 => u16::from_be_bytes([*random.pick(&[0, 3, 8, 128]), *random.pick(&[0, 1, 4])]),
        TCP | UDP | 132 => *random.pick(PORTS),
        _ => 0,
    }
}

/// Returns an address of somebody who is nobody of the file.
pub(crate) fn stranger(random: &mut Random) -> IpAddr {
    random.pick(STRANGERS).parse().expect("an address")
}
