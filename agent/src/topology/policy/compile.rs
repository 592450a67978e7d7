//! Compiles the policy of one node.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::identity::{HEALTH, HOST, Identities};
use super::super::number::{assign, digest};
use super::super::{Endpoint, Prefix};
use super::limit::{check_prefixes, check_tables, check_terms};
use super::party::Parties;
use super::row::Rows;
use super::side::{Side, Who, sides};
use super::table::{Draft, Tables};
use super::term::{Placed, TermId, numbers, terms};
use super::{Policy, TermInfo, words};
use crate::config::family::Family;
use crate::config::{self, Config, Diagnostic};
use crate::plan::policy::{self, Entry, EntryKey, Subject, Verdict};

/// Numbers of policies of endpoints that share an identity, but not their names of ports.
const VARIANTS: Range<u32> = 0x0300_0000..0x0400_0000;

/// Is a subject with what its policy derives from.
#[derive(Clone, Copy, Debug)]
struct Party<'c> {
    slot: u16,
    who: Who<'c>,
    identity: u32,
    /// Number of its policy, if it has one.
    number: u32,
    audit: bool,
}

/// Compiles the policy of a node with these endpoints; `prefixes` are complete.
///
/// # Errors
/// If it has more terms than can be told apart, or more entries than the tables hold.
pub(in crate::topology) fn compile(
    config: &Config,
    node: &config::Node,
    identities: &Identities,
    endpoints: &[Endpoint],
    prefixes: BTreeMap<IpNet, Prefix>,
) -> Result<Policy, Box<Diagnostic>> {
    let terms = terms(&config.policy);
    check_prefixes(node, prefixes.len(), &terms, &config.policy)?;
    let parties = parties(config, node, endpoints);
    let mut policies: BTreeMap<u32, Applying<'_>> = BTreeMap::new();
    for party in &parties {
        policies.entry(party.number).or_insert_with(|| Applying {
            who: party.who,
            sides: sides(&config.policy, &terms, party.who),
        });
    }
    let numbers = numbered(policies.values(), &terms);
    check_terms(node, numbers.len())?;
    let peers = Parties::new(config, node.name.get_ref(), identities);
    let rules = config.policy.rules.len();
    let mut tables = Tables::new(&terms, &peers, numbers.clone(), rules);
    for (number, applying) in policies.iter().filter(|(_, applying)| applying.is_any()) {
        for side in &applying.sides {
            tables.add(*number, applying.who, side);
        }
        check_tables(node, &tables, &config.policy)?;
    }
    let infos = numbers.iter();
    let infos = infos.map(|(id, number)| (*number, info(*id, &terms[*id])));
    Ok(Policy {
        tables: Arc::new(policy::Policy {
            subjects: each(&parties, |party| party.subject(&policies[&party.number])),
            prefixes,
            entries: entries(&tables.entries, &tables.rows),
            ranges: ranges(&tables.rows),
        }),
        terms: infos.collect(),
        sides: each(&parties, |party| {
            let sides = &policies[&party.number].sides;
            sides.each_ref().map(|side| side.info(&numbers))
        }),
        nodes: nodes(config, node, identities),
        names: names(config, node, &peers),
        rule_entries: tables.shares,
    })
}

/// Returns something of each party by its slot.
fn each<T>(parties: &[Party<'_>], what: impl Fn(&Party<'_>) -> T) -> BTreeMap<u16, T> {
    let parties = parties.iter();
    parties.map(|party| (party.slot, what(party))).collect()
}

/// Is what applies to subjects that share a policy, one of whom stands for all.
#[derive(Debug)]
struct Applying<'c> {
    who: Who<'c>,
    sides: [Side; 2],
}

impl Applying<'_> {
    fn is_any(&self) -> bool {
        self.sides.iter().any(Side::has_policy)
    }
}

impl Party<'_> {
    fn subject(&self, applying: &Applying<'_>) -> Subject {
        Subject {
            identity: self.identity,
            policy: if applying.is_any() { self.number } else { 0 },
            audit: self.audit,
        }
    }
}

/// Lists the node and its endpoints.
fn parties<'c>(
    config: &'c Config,
    node: &'c config::Node,
    endpoints: &[Endpoint],
) -> Vec<Party<'c>> {
    let audits = config.policy.audit || node.audit;
    let name = node.name.get_ref();
    let host = Party {
        slot: 0,
        who: Who::Host(name),
        identity: HOST,
        number: HOST,
        audit: audits || !config.policy.enforces_host,
    };
    let given = config.endpoints.iter();
    let given: Vec<_> = given.filter(|endpoint| endpoint.node == *name).collect();
    let numbers = policy_numbers(&given, endpoints);
    let mine = given.into_iter().zip(endpoints).zip(numbers);
    let mine = mine.map(|((given, endpoint), number)| Party {
        slot: endpoint.id,
        who: Who::Endpoint(given),
        identity: endpoint.identity,
        number,
        audit: audits || given.audit,
    });
    [host].into_iter().chain(mine).collect()
}

/// Numbers the policies of endpoints: as their identities, unless endpoints of one identity
/// call different ports by the same names.
fn policy_numbers(given: &[&config::Endpoint], endpoints: &[Endpoint]) -> Vec<u32> {
    let mut variants: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
    for (given, endpoint) in given.iter().zip(endpoints) {
        variants
            .entry(endpoint.identity)
            .or_default()
            .insert(&given.ports);
    }
    let digests = given.iter().zip(endpoints).map(|(given, endpoint)| {
        let differ = variants[&endpoint.identity].len() > 1;
        let content = || format!("{} {:?}", endpoint.identity, given.ports);
        differ.then(|| digest([content().as_str()]))
    });
    let digests: Vec<_> = digests.collect();
    let numbers = assign(&digests.iter().flatten().copied().collect(), &VARIANTS);
    let own = endpoints.iter().map(|endpoint| endpoint.identity);
    let numbered = own.zip(&digests);
    numbered
        .map(|(own, digest)| digest.map_or(own, |digest| numbers[&digest]))
        .collect()
}

/// Numbers the terms that apply to any of these.
fn numbered<'p, 'c: 'p>(
    policies: impl Iterator<Item = &'p Applying<'c>>,
    terms: &[Placed<'_>],
) -> BTreeMap<TermId, u16> {
    let sides = policies.flat_map(|applying| &applying.sides);
    let applying: BTreeSet<_> = sides.flat_map(|side| side.terms.iter().copied()).collect();
    let applying = applying.into_iter().map(|id| (id, &terms[id]));
    numbers(&applying.collect::<Vec<_>>())
}

fn info(term_idx: TermId, placed: &Placed<'_>) -> TermInfo {
    TermInfo {
        rule_idx: placed.rule_idx,
        term_idx,
        description: placed.rule.description.clone(),
        place: placed.term.place.clone(),
        direction: placed.direction,
        denies: placed.denies,
        rejects: placed.denies && placed.rule.reject,
        peers: words::peers(&placed.term.peers),
        ports: words::all_ports(&placed.term.ports),
    }
}

fn entries(drafts: &BTreeMap<EntryKey, Draft>, rows: &Rows) -> BTreeMap<EntryKey, Entry> {
    let rows = rows.numbered();
    let entry = |(verdict, row): &(Verdict, Option<usize>)| Entry {
        row: row.map_or(0, |at| rows[&at].0),
        verdict: *verdict,
    };
    let entries = drafts.iter();
    entries.map(|(key, draft)| (*key, entry(draft))).collect()
}

fn ranges(rows: &Rows) -> BTreeMap<policy::Range, Verdict> {
    let mut ranges = BTreeMap::new();
    for (row, cells) in rows.numbered().into_values() {
        for cell in cells {
            let [_, protocol, high, low] = cell.start.to_be_bytes();
            let range = policy::Range {
                row,
                protocol,
                port: u16::from_be_bytes([high, low]),
                bits: cell.bits,
            };
            ranges.insert(range, cell.verdict);
        }
    }
    ranges
}

fn nodes(config: &Config, node: &config::Node, identities: &Identities) -> BTreeMap<String, u32> {
    let identity = |other: &config::Node| {
        let seen = identities.node(other.name.get_ref());
        if other == node { HOST } else { seen }
    };
    let nodes = config.nodes.iter();
    nodes
        .map(|node| (node.name.get_ref().clone(), identity(node)))
        .collect()
}

/// Names everybody whom a node may meet.
fn names(config: &Config, node: &config::Node, parties: &Parties<'_>) -> BTreeMap<u32, String> {
    let identities = parties.identities();
    let mut names = BTreeMap::from([(HOST, "host".to_owned()), (HEALTH, "health".to_owned())]);
    for family in Family::BOTH {
        let identity = identities.worlds.identity(family);
        names.insert(identity, identities.worlds.name(family).to_owned());
    }
    for other in config.nodes.iter().filter(|other| *other != node) {
        let name = other.name.get_ref();
        let named = identities.nodes.contains_key(name);
        let text = if named { name } else { "remote-node" };
        names.insert(identities.node(name), text.to_owned());
    }
    for (identity, alike) in parties.endpoints() {
        let name = match alike.as_slice() {
            [one] => one.name.get_ref().clone(),
            all => words::labels(&all[0].labels),
        };
        names.insert(*identity, name);
    }
    names.extend(class_names(identities));
    names
}

fn class_names(identities: &Identities) -> impl Iterator<Item = (u32, String)> {
    let classes = &identities.classes;
    let mut sizes = vec![0_usize; classes.list.len()];
    for class in classes.prefixes.iter().filter_map(|(_, class)| *class) {
        sizes[class] += 1;
    }
    let sized = classes.list.iter().zip(sizes);
    sized.map(|(class, size)| {
        let first = class.first;
        let name = match size {
            1 => first.to_string(),
            2 => format!("{first} and another prefix"),
            size => format!("{first} and {} more prefixes", size - 1),
        };
        (class.identity, name)
    })
}
