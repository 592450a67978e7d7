//! Twelve endpoints on three nodes under one rich policy: every ordered pair, by TCP, UDP and
//! ping in both families, is what a reader of the rules without tables says, and what
//! `ciliate policy test` says.

use std::thread;

use ciliate::config::{Config, Endpoint};
use ciliate::plan::policy::{Decision, Direction};
use serde_json::Value;
use tests::lab::agent;
use tests::lab::attempt::{Attempt, Fate, Means, expect_all};
use tests::lab::estate::{Estate, Resident};
use tests::party::Family;

use super::model::{Party, Question};

const RESIDENTS: [&[Resident]; 3] = [
    &[
        ("web1", "labels = { app = \"web\", tier = \"front\" }"),
        ("api1", "labels = { app = \"api\", tier = \"back\" }"),
        ("db1", "labels = { app = \"db\", tier = \"back\" }"),
        ("bare1", ""),
    ],
    &[
        (
            "web2",
            "labels = { app = \"web\", tier = \"front\" }\nports = { http = 5432 }",
        ),
        (
            "api2",
            "labels = { app = \"api\", tier = \"back\", old = \"yes\" }",
        ),
        ("dns2", "labels = { app = \"dns\" }"),
        ("bare2", ""),
    ],
    &[
        (
            "web3",
            "labels = { app = \"web\", tier = \"front\", old = \"yes\" }",
        ),
        (
            "db3",
            "labels = { app = \"db\", tier = \"back\" }\nports = { http = 5432 }",
        ),
        ("log3", "labels = { app = \"log\" }"),
        ("free3", "labels = { zone = \"free\" }"),
    ],
];

const POLICY: &str = r#"
[[policy.rule]]
description = "everybody may ask for names"
endpoints = { not = { zone = "free" } }
default_deny = false
egress = [{ to = { app = "dns" }, ports = ["udp/53", "icmp/echo-request"] }]

[[policy.rule]]
description = "the front speaks with the back"
endpoints = { app = "web" }
ingress = [{ from = ["world", "bare1", { zone = true }], ports = ["tcp/http", "icmp/echo-request"] }]
egress = [{ to = { app = "api" }, ports = "tcp/80" }, { to = { tier = "front" } }]

[[policy.rule]]
endpoints = { app = "api", old = false }
ingress = [{ from = { app = "web" }, ports = "tcp/1-1024" }]
egress = [{ to = { app = "db" }, ports = ["tcp/http", "tcp/5000-6000"] }]

[[policy.rule]]
endpoints = { app = "db" }
ingress = [{ from = { tier = "back" } }, { from = "free3", ports = "icmpv6/echo-request" }]

[[policy.rule]]
description = "old ones lose their last right"
endpoints = { app = ["db", "dns"] }
ingress_deny = [{ from = { old = true }, ports = ["tcp/5432", "udp/53"] }]

[[policy.rule]]
endpoints = "dns2"
ingress = [{ ports = ["any/53"] }, { from = "cluster", ports = "icmpv6" }]

[[policy.rule]]
endpoints = { zone = "free" }
default_deny = false
egress_deny = [{ to = { app = "log" }, ports = "udp/53" }]

[[policy.rule]]
endpoints = ["bare2", "log3"]
ingress = [{ from = { app = ["web", "api"], not = { old = true } }, ports = ["tcp", "icmp/echo-request"] }]
"#;

const MEANS: [&str; 4] = ["tcp/80", "tcp/5432", "udp/53", "icmp"];

/// Is one cell: who speaks with whom, and how.
#[derive(Clone, Copy, Debug)]
struct Cell<'c> {
    from: &'c Endpoint,
    to: &'c Endpoint,
    means: &'static str,
    family: Family,
}

impl Cell<'_> {
    /// Returns the protocol and the port, of ICMP the type and code.
    fn port(self) -> (u8, u16) {
        match (Means::parse(self.means), self.family) {
            (Means::Tcp(port), _) => (6, port),
            (Means::Udp(port), _) => (17, port),
            (_, Family::V4) => (1, 8 << 8),
            (_, Family::V6) => (58, 128 << 8),
        }
    }

    /// Asks the reader of rules about both ends.
    fn is_allowed(self, config: &Config) -> bool {
        let (protocol, port) = self.port();
        let ends = [
            (self.from, Direction::Egress, self.to),
            (self.to, Direction::Ingress, self.from),
        ];
        ends.into_iter().all(|(subject, direction, other)| {
            let question = Question {
                config,
                node: &subject.node,
                subject: Party::Endpoint(subject),
                direction,
                other: Party::Endpoint(other),
                protocol,
                port,
            };
            question.answer().0 == Decision::Allow
        })
    }

    /// Asks the agent.
    fn is_allowed_by_agent(self, net: &Estate) -> bool {
        let port = match (self.means, self.family) {
            ("icmp", Family::V6) => "icmpv6/echo-request",
            ("icmp", Family::V4) => "icmp/echo-request",
            (means, _) => means,
        };
        let [from, to] = [self.from, self.to].map(|endpoint| endpoint.name.get_ref());
        let file = net.machine.folder.join("ciliate.toml");
        let line = format!(
            "--json policy test --from {from} --to {to} --port {port} {}",
            file.display()
        );
        let outcome = agent::ciliate(&net.machine.own, &line);
        let answer: Value = serde_json::from_str(&outcome.stdout).expect("`--json` prints JSON");
        let is_allowed = answer["verdict"] == "allowed";
        assert_eq!(outcome.code, Some(i32::from(!is_allowed)), "{outcome:#?}");
        is_allowed
    }

    fn attempt(self, is_allowed: bool) -> Attempt<'static> {
        // The names are those of the table above.
        let name = |endpoint: &Endpoint| {
            let names = RESIDENTS.iter().flat_map(|of_node| of_node.iter());
            let mut names = names.map(|(name, _)| *name);
            names
                .find(|name| name == endpoint.name.get_ref())
                .expect("a resident")
        };
        Attempt {
            from: name(self.from),
            to: name(self.to),
            means: Means::parse(self.means),
            family: self.family,
            expected: if is_allowed {
                Fate::Passes
            } else {
                Fate::Silence
            },
        }
    }
}

/// Lists all cells; neighbours in the list have different senders.
fn cells(config: &Config) -> Vec<Cell<'_>> {
    let endpoints = &config.endpoints;
    let mut cells = Vec::new();
    for means in MEANS {
        for family in Family::BOTH {
            for shift in 1..endpoints.len() {
                let receivers = endpoints.iter().cycle().skip(shift);
                let pairs = endpoints.iter().zip(receivers);
                cells.extend(pairs.map(|(from, to)| Cell {
                    from,
                    to,
                    means,
                    family,
                }));
            }
        }
    }
    cells
}

/// Compares what the agent says with what the reader says, one party at a time.
fn expect_same_words(net: &Estate, config: &Config, cells: &[Cell<'_>]) {
    let wrong: Vec<_> = cells
        .iter()
        // Only pings differ between the families.
        .filter(|cell| cell.family == Family::V4 || cell.means == "icmp")
        .filter(|cell| cell.is_allowed(config) != cell.is_allowed_by_agent(net))
        .map(|cell| {
            format!(
                "{} > {}, {} {:?}",
                cell.from.name.get_ref(),
                cell.to.name.get_ref(),
                cell.means,
                cell.family
            )
        })
        .collect();
    assert_eq!(
        wrong, [""; 0],
        "`policy test` should say what the rules say"
    );
}

fn expect_matrix(host_routing: &str, asks_agent: bool) {
    let net = Estate::new(host_routing, &RESIDENTS);
    let text = net.text(POLICY);
    let config = Config::parse("a.toml", &text).expect("a good file");
    let cells = cells(&config);
    let judged: Vec<_> = cells.iter().map(|cell| cell.is_allowed(&config)).collect();
    let allowed = judged.iter().filter(|is_allowed| **is_allowed).count();
    assert_eq!(cells.len(), 12 * 11 * MEANS.len() * 2);
    assert!(
        (cells.len() / 8..cells.len() / 2).contains(&allowed),
        "of {} cells {allowed} allow",
        cells.len()
    );

    net.apply_everywhere(POLICY);

    let attempts: Vec<_> = cells
        .iter()
        .zip(&judged)
        .map(|(cell, is_allowed)| cell.attempt(*is_allowed))
        .collect();
    expect_all(&net, host_routing, &attempts);
    if asks_agent {
        thread::scope(|scope| {
            for half in cells.chunks(cells.len().div_ceil(2)) {
                scope.spawn(|| expect_same_words(&net, &config, half));
            }
        });
    }
}

#[test]
fn every_pair_of_twelve_does_what_the_rules_say_past_the_stack() {
    expect_matrix("bpf", true);
}

#[test]
fn every_pair_of_twelve_does_what_the_rules_say_through_the_stack() {
    expect_matrix("legacy", false);
}
