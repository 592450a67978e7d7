//! Long lists of prefixes stay small and quick.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use ciliate::config::policy::{Peer, Ports, Rule, Subject, Term};
use ciliate::config::{Config, Kind};
use ciliate::plan::policy::Policy;
use ciliate::topology::resolve;
use ipnet::{IpNet, Ipv4Net};

const PREFIXES: u32 = 100_000;

const LAB: &str = "[[node]]\nname = \"n1\"\nipv4 = \"10.0.1.0/24\"\n\
                   [[endpoint]]\nname = \"e1\"\nlabels = { app = \"web\" }\n";

/// Returns every other /30 of 16.0.0.0/12 and what follows it.
fn list() -> Vec<IpNet> {
    let start = u32::from(Ipv4Addr::new(16, 0, 0, 0));
    let prefix = |at: u32| Ipv4Net::new_assert(Ipv4Addr::from(start + 8 * at), 30);
    (0..PREFIXES).map(|at| prefix(at).into()).collect()
}

fn cidrs(prefixes: impl IntoIterator<Item = IpNet>) -> Vec<Peer> {
    let peer = |prefix| Peer::Cidr {
        prefix,
        except: Vec::new(),
    };
    prefixes.into_iter().map(peer).collect()
}

fn term(peers: Vec<Peer>) -> Term {
    Term {
        place: "a.toml:9:9".to_owned(),
        peers,
        ports: Vec::new(),
    }
}

fn rule(egress: Vec<Term>, egress_deny: Vec<Term>) -> Rule {
    Rule {
        place: "a.toml:8:1".to_owned(),
        description: None,
        subject: Subject::Endpoints {
            selectors: Vec::new(),
            names: ["e1".to_owned()].into(),
        },
        default_deny: true,
        reject: false,
        ingress: None,
        egress: Some(egress),
        ingress_deny: None,
        egress_deny: Some(egress_deny),
    }
}

fn compile(what: &str, rules: Vec<Rule>) -> Arc<Policy> {
    let mut config = Config::parse("a.toml", LAB).expect("a good file");
    config.policy.rules = rules;
    let start = Instant::now();
    let topology = resolve(&config, None, None).expect("a good policy");
    eprintln!("{what}: {:?}", start.elapsed());
    topology.policy.tables
}

/// Returns the prefixes but the pool of the node.
fn spoken_of(tables: &Policy) -> Vec<IpNet> {
    let prefixes = tables.prefixes.iter();
    let spoken = prefixes.filter(|(_, known)| !known.excluded);
    spoken.map(|(prefix, _)| *prefix).collect()
}

/// Returns how many entries there are beside those for everybody.
fn entries(tables: &Policy) -> usize {
    let keys = tables.entries.keys();
    keys.filter(|key| key.identity != 0).count()
}

#[test]
fn a_list_of_100_000_prefixes_is_one_entry() {
    let tables = compile("flat", vec![rule(Vec::new(), vec![term(cidrs(list()))])]);

    assert_eq!(spoken_of(&tables).len(), list().len());
    // The list, and nobody else.
    assert_eq!(entries(&tables), 1);
}

#[test]
fn a_prefix_around_100_000_others_multiplies_nothing() {
    let around = "16.0.0.0/8".parse().expect("a prefix");
    let all = "0.0.0.0/0".parse().expect("a prefix");
    let allow = vec![term(cidrs([around])), term(cidrs([all]))];

    let tables = compile("nested", vec![rule(allow, vec![term(cidrs(list()))])]);

    assert_eq!(spoken_of(&tables).len(), list().len() + 2);
    assert_eq!(entries(&tables), 3, "the list, what is around it, the rest");
}

#[test]
fn prefixes_inside_of_one_that_is_treated_alike_are_left_out() {
    let around = "16.0.0.0/8".parse().expect("a prefix");
    let term = term(cidrs(list().into_iter().chain([around])));

    let tables = compile("redundant", vec![rule(vec![term], Vec::new())]);

    assert_eq!(spoken_of(&tables), [around]);
}

#[test]
fn exceptions_are_as_quick_as_prefixes() {
    let peer = Peer::Cidr {
        prefix: "16.0.0.0/8".parse().expect("a prefix"),
        except: list(),
    };

    let tables = compile("exceptions", vec![rule(vec![term(vec![peer])], Vec::new())]);

    assert_eq!(spoken_of(&tables).len(), list().len() + 1);
    assert_eq!(entries(&tables), 1);
}

#[test]
fn rules_for_a_thousand_endpoints_with_labels_of_their_own_are_in_the_tables_once() {
    let endpoints = (0..1000).map(|at| {
        format!(
            "[[endpoint]]\nname = \"x{at}\"\nlabels = {{ app = \"x{at}\", zone = \"z{}\" }}\n",
            at % 10
        )
    });
    let rules = (0..100).map(|at| {
        let zone = at % 10;
        format!(
            "[[policy.rule]]\nendpoints = {{ zone = \"z{zone}\" }}\ningress = [{{ from = [\"cluster\", \
             {{ app = \"x{at}\" }}], ports = \"tcp/{}\" }}]\n",
            1000 + at
        )
    });
    let node = "[[node]]\nname = \"n1\"\nipv4 = \"10.0.0.0/16\"\n".to_owned();
    let text = node + &endpoints.chain(rules).collect::<String>();
    let config = Config::parse("a.toml", &text).expect("a good file");

    let start = Instant::now();
    let topology = resolve(&config, None, None).expect("a good policy");
    eprintln!("endpoints: {:?}", start.elapsed());

    let subjects = topology.policy.tables.subjects.values();
    let policies: BTreeSet<_> = subjects.map(|subject| subject.policy).collect();
    assert_eq!(
        policies.len(),
        11,
        "one for each zone, and none for the node"
    );
    // For each zone everybody of the file, the node, the health endpoint, and the rest.
    assert_eq!(entries(&topology.policy.tables), 10 * (1000 + 2));
}

/// Resolves a file that is too large. Returns the message, and the hint.
fn refuse(rules: Vec<Rule>) -> (String, String) {
    let mut config = Config::parse("a.toml", LAB).expect("a good file");
    config.policy.rules = rules;
    let mut errors = resolve(&config, None, None).expect_err("it is too large");
    assert_eq!(errors.len(), 1);
    let error = errors.remove(0);
    assert_eq!(error.kind, Kind::PolicyTooLarge);
    (error.message, error.help.unwrap_or_default())
}

/// Returns a rule with a place and a name.
fn large(rule: Rule) -> Rule {
    Rule {
        place: "a.toml:20:1".to_owned(),
        description: Some("the large one".to_owned()),
        ..rule
    }
}

/// Returns one address out of two, so many times.
fn scattered(count: u32) -> impl Iterator<Item = IpNet> {
    let start = u32::from(Ipv4Addr::new(16, 0, 0, 0));
    (0..count).map(move |at| Ipv4Net::new_assert(Ipv4Addr::from(start + 2 * at), 32).into())
}

#[test]
fn more_prefixes_than_the_table_holds_are_blamed_on_their_rule() {
    let many = cidrs(scattered((1 << 17) + 1));
    let small = rule(vec![term(Vec::new())], Vec::new());

    let (message, help) = refuse(vec![small, large(rule(vec![term(many)], Vec::new()))]);

    assert!(message.starts_with("node n1: the policy makes more than 131072 prefixes"));
    assert!(help.contains("a.toml:20:1 (the large one)"), "{help}");
}

#[test]
fn more_ranges_than_the_table_holds_are_blamed_on_their_rule() {
    // Every other port of ten protocols: nothing of it can be joined.
    let odd = |protocol| {
        let ports = (1..=u16::MAX).step_by(2);
        ports.map(move |port| Ports::Range {
            protocol,
            first: port,
            last: port,
        })
    };
    let mut many = term(Vec::new());
    many.ports = (100..110).flat_map(odd).collect();
    let mut few = term(Vec::new());
    few.ports = odd(6).take(3).collect();
    let small = rule(vec![few], Vec::new());

    let (message, help) = refuse(vec![small, large(rule(vec![many], Vec::new()))]);

    assert!(
        message.contains("more than 65536 ranges of ports"),
        "{message}"
    );
    assert!(help.contains("a.toml:20:1 (the large one)"), "{help}");
}

#[test]
fn more_terms_than_have_numbers_are_refused() {
    let terms = |count| vec![term(cidrs(scattered(1))); count];

    compile("terms", vec![rule(terms(2048), Vec::new())]);
    let (message, _) = refuse(vec![rule(terms(2049), Vec::new())]);

    assert!(
        message.contains("2049 terms of the policy apply here"),
        "{message}"
    );
}
