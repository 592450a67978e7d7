//! The compiled policy says what the rules say: files made up at random, asked at random, and
//! held against a reader that knows neither identities nor tables.
//!
//! `CILIATE_POLICY_PAIRS` is the number of questions.

mod large;
mod model;
mod random;
mod scenario;
mod sketch;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::IpAddr;

use ciliate::config::policy::{Peer, Rule, Selector, Subject, Term};
use ciliate::config::{Config, Endpoint};
use ciliate::plan::policy::{Direction, Range};
use ciliate::topology::{Topology, resolve};

use model::{Answer, Party, Question};
use random::Random;

/// Questions of an ordinary run, and of each file.
const PAIRS: usize = 20_000;
const PAIRS_OF_FILE: usize = 50;

/// Files of properties that are dear to check.
const FILES: u64 = 200;

fn number(variable: &str, default: usize) -> usize {
    let parse = |text: String| text.parse().expect("the variable holds a number");
    env::var(variable).map_or(default, parse)
}

/// Resolves a file for each of its nodes.
fn nodes(config: &Config) -> Vec<Topology> {
    let names = config.nodes.iter().map(|node| node.name.get_ref());
    let resolve = |name| resolve(config, Some(name), None).expect("a good file");
    names.map(|name| resolve(name)).collect()
}

#[test]
fn tables_say_what_the_rules_say() {
    let pairs = number("CILIATE_POLICY_PAIRS", PAIRS);
    for seed in 0..pairs.div_ceil(PAIRS_OF_FILE) {
        let mut random = Random::new(seed as u64);
        let config = sketch::config(&mut random);
        let nodes = nodes(&config);
        for _ in 0..PAIRS_OF_FILE {
            let (question, at, slot, address) = ask(&mut random, &config, &nodes);
            let identity = identity(at, &question.other, address);
            let verdict = at.policy.tables.verdict(
                slot,
                question.direction,
                identity,
                (question.protocol, question.port),
            );
            let term = at.policy.terms.get(&verdict.term);
            let answer: Answer<'_> = (verdict.decision, term.map(|term| term.place.as_str()));
            assert_eq!(
                answer,
                question.answer(),
                "seed {seed}: {} at {}, {:?} of {:?} to {:?} ({identity}): {:?}",
                if slot == 0 { "host" } else { "endpoint" },
                question.node,
                question.direction,
                question.subject,
                question.other,
                (question.protocol, question.port),
            );
        }
    }
}

/// Makes up a question, with the node that is asked, the slot of its subject and an address of the
/// other party.
fn ask<'c>(
    random: &mut Random,
    config: &'c Config,
    nodes: &'c [Topology],
) -> (Question<'c>, &'c Topology, u16, IpAddr) {
    let at = random.pick(nodes);
    let of_node = |endpoint: &&Endpoint| endpoint.node == at.node;
    let mine: Vec<_> = config.endpoints.iter().filter(of_node).collect();
    let of_host = mine.is_empty() || random.one_in(5);
    let (subject, slot) = if of_host {
        (Party::Node(&at.node), 0)
    } else {
        let chosen = random.below(mine.len());
        (Party::Endpoint(mine[chosen]), at.endpoints[chosen].id)
    };
    let direction = *random.pick(&[Direction::Ingress, Direction::Egress]);
    let (other, address) = match other(random, config, nodes) {
        // A node does not meet itself.
        (Party::Node(name), address) if of_host && name == at.node => (Party::Health, address),
        other => other,
    };
    let protocol = *random.pick(sketch::PROTOCOLS);
    let question = Question {
        config,
        node: &at.node,
        subject,
        direction,
        other,
        protocol,
        port: sketch::port(random, protocol),
    };
    (question, at, slot, address)
}

/// Makes up whom a subject speaks with.
fn other<'c>(random: &mut Random, config: &'c Config, nodes: &[Topology]) -> (Party<'c>, IpAddr) {
    let stranger = sketch::stranger(random);
    match random.below(8) {
        0..3 if !config.endpoints.is_empty() => {
            let endpoint = random.pick(&config.endpoints);
            (Party::Endpoint(endpoint), address_of(endpoint, nodes))
        }
        3 => {
            let node = random.pick(&config.nodes);
            let address = *random.pick(&node.addresses).get_ref();
            (Party::Node(node.name.get_ref()), address)
        }
        4 if random.one_in(4) => (Party::Health, stranger),
        _ => (Party::Stranger(stranger), stranger),
    }
}

fn address_of(endpoint: &Endpoint, nodes: &[Topology]) -> IpAddr {
    let mut all = nodes.iter().flat_map(|at| &at.endpoints);
    let found = all.find(|one| one.name == *endpoint.name.get_ref());
    found.and_then(|one| one.ipv4).expect("it is there").into()
}

/// Returns what the datapath of a node takes somebody for.
fn identity(at: &Topology, other: &Party<'_>, address: IpAddr) -> u32 {
    match other {
        Party::Health => 4,
        Party::Endpoint(endpoint) if endpoint.node == at.node => {
            let mut mine = at.endpoints.iter();
            let found = mine.find(|mine| mine.name == *endpoint.name.get_ref());
            found.expect("it is there").identity
        }
        Party::Endpoint(_) | Party::Node(_) | Party::Stranger(_) => {
            at.policy.tables.identity_of(address)
        }
    }
}

#[test]
fn ranges_of_a_row_are_disjoint_and_say_what_their_entries_do_not() {
    for seed in 0..FILES {
        for at in nodes(&sketch::config(&mut Random::new(seed))) {
            let tables = &at.policy.tables;
            let mut rows: BTreeMap<u32, Vec<_>> = BTreeMap::new();
            for (range, verdict) in &tables.ranges {
                rows.entry(range.row)
                    .or_default()
                    .push((span(*range), verdict));
            }
            for row in rows.values() {
                let sorted = row.is_sorted_by(|(one, _), (other, _)| one.1 < other.0);
                assert!(sorted, "seed {seed}: {row:?}");
            }
            for (key, entry) in &tables.entries {
                assert_eq!(rows.contains_key(&entry.row), entry.row != 0);
                let row = rows.get(&entry.row).into_iter().flatten();
                assert!(
                    row.clone().all(|(_, verdict)| **verdict != entry.verdict),
                    "seed {seed}: {key:?} {entry:?} {row:?}"
                );
            }
        }
    }
}

/// Returns the first and the last place of a range.
fn span(range: Range) -> (u32, u32) {
    let first = u32::from(range.protocol) << 16 | u32::from(range.port);
    (first, first + (1 << (Range::BITS - range.bits)) - 1)
}

#[test]
fn no_entry_and_no_row_is_there_without_need() {
    for seed in 0..FILES {
        for at in nodes(&sketch::config(&mut Random::new(seed))) {
            let tables = &at.policy.tables;
            for (key, entry) in tables.entries.iter().filter(|(key, _)| key.identity != 0) {
                let mut general = *key;
                general.identity = 0;
                assert_ne!(entry, &tables.entries[&general], "seed {seed}: {key:?}");
                assert!(at.policy.names.contains_key(&key.identity), "{key:?}");
            }
            let used: BTreeSet<_> = tables.entries.values().map(|entry| entry.row).collect();
            let rows = tables.ranges.keys().map(|range| range.row);
            assert!(rows.clone().all(|row| used.contains(&row)), "seed {seed}");
            let subjects: BTreeSet<_> = tables.subjects.values().map(|s| s.policy).collect();
            let keys = tables.entries.keys();
            assert!(keys.clone().all(|key| subjects.contains(&key.subject)));
        }
    }
}

#[test]
fn all_nodes_agree_who_is_who() {
    for seed in 0..FILES {
        let nodes = nodes(&sketch::config(&mut Random::new(seed)));
        let strangers = sketch::STRANGERS
            .iter()
            .map(|text| text.parse().expect("an address"));
        for stranger in strangers {
            let seen = nodes
                .iter()
                .map(|at| at.policy.tables.identity_of(stranger));
            assert_eq!(
                seen.collect::<BTreeSet<_>>().len(),
                1,
                "seed {seed}: {stranger}"
            );
        }
        let endpoints = nodes.iter().flat_map(|at| &at.endpoints);
        for endpoint in endpoints {
            let address = endpoint.ipv4.expect("it has one").into();
            let others = nodes.iter().filter(|at| !at.endpoints.contains(endpoint));
            for at in others {
                assert_eq!(at.policy.tables.identity_of(address), endpoint.identity);
            }
        }
    }
}

#[test]
fn another_rule_renumbers_nobody_and_no_term() {
    for seed in 0..FILES {
        let mut random = Random::new(seed);
        let before = sketch::config(&mut random);
        let mut after = before.clone();
        let at = random.below(after.policy.rules.len() + 1);
        after.policy.rules.insert(at, unrelated(&before));

        for (before, after) in nodes(&before).iter().zip(nodes(&after)) {
            assert_eq!(before.endpoints, after.endpoints, "seed {seed}");
            for text in sketch::STRANGERS {
                let address = text.parse().expect("an address");
                let (one, other) = (&before.policy.tables, &after.policy.tables);
                assert_eq!(
                    one.identity_of(address),
                    other.identity_of(address),
                    "seed {seed}: {address}"
                );
            }
            for (number, term) in &before.policy.terms {
                // A number that the new term prefers is lost to it if its digest is smaller.
                let holder = after.policy.terms.get(number);
                assert!(
                    holder.is_some_and(|now| now.place == term.place || now.place == "new"),
                    "seed {seed}: {term:?} is no longer {number}"
                );
            }
        }
    }
}

/// Returns a rule about addresses that no other rule is about.
fn unrelated(config: &Config) -> Rule {
    let selectors = vec![Selector::default()];
    let prefix = "100.64.0.0/10".parse().expect("a prefix");
    let peer = Peer::Cidr {
        prefix,
        except: Vec::new(),
    };
    let term = Term {
        place: "new".to_owned(),
        peers: vec![peer],
        ports: Vec::new(),
    };
    Rule {
        place: "new".to_owned(),
        description: Some(format!("beside {}", config.policy.rules.len())),
        subject: Subject::Endpoints {
            selectors,
            names: BTreeSet::new(),
        },
        default_deny: true,
        reject: false,
        ingress: Some(vec![term]),
        egress: None,
        ingress_deny: None,
        egress_deny: None,
    }
}
