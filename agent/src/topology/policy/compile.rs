//! Compiles the policy of one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::super::identity::Identities;
use super::super::{Endpoint, Prefix};
use super::Policy;
use super::explain::{info, names, nodes, rules};
use super::limit::{check_prefixes, check_tables, check_terms};
use super::party::Parties;
use super::row::Rows;
use super::subject::{Subject, subjects};
use super::table::{Draft, Tables};
use super::term::{Placed, TermId, numbers, terms};
use crate::config::{self, Config, Diagnostic};
use crate::plan::policy::{self, Entry, EntryKey, Verdict};

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
    check_prefixes(node, &prefixes, &terms, &config.policy)?;
    let subjects = subjects(config, node, endpoints, &terms);
    let numbers = numbered(&subjects, &terms);
    check_terms(node, numbers.len())?;
    let parties = Parties::new(config, node.name.get_ref(), identities);
    let rule_count = config.policy.rules.len();
    let mut tables = Tables::new(&terms, &parties, numbers.clone(), rule_count);
    for subject in one_of_each(&subjects) {
        for side in &subject.sides {
            tables.add(subject.policy, subject.who, side);
        }
        check_tables(node, &tables, &config.policy)?;
    }
    let infos = numbers.iter();
    let infos = infos.map(|(id, number)| (*number, info(*id, &terms[*id])));
    Ok(Policy {
        enforcement: config.policy.enforcement,
        tables: Arc::new(policy::Policy {
            subjects: each(&subjects, Subject::entry),
            prefixes,
            entries: entries(&tables.entries, &tables.rows),
            ranges: ranges(&tables.rows),
        }),
        terms: infos.collect(),
        sides: each(&subjects, |subject| {
            subject.sides.each_ref().map(|side| side.info(&numbers))
        }),
        nodes: nodes(config, node, identities),
        names: names(config, node, &parties),
        rule_entries: std::iter::zip(&tables.shares, tables.range_shares())
            .map(|(entries, ranges)| entries + ranges)
            .collect(),
        rules: rules(&config.policy),
    })
}

/// Returns something of each subject by its slot.
fn each<'c, T>(subjects: &[Subject<'c>], what: impl Fn(&Subject<'c>) -> T) -> BTreeMap<u16, T> {
    let subjects = subjects.iter();
    subjects
        .map(|subject| (subject.slot, what(subject)))
        .collect()
}

/// Returns one subject for each policy.
fn one_of_each<'s, 'c>(subjects: &'s [Subject<'c>]) -> impl Iterator<Item = &'s Subject<'c>> {
    let policies: BTreeMap<_, _> = subjects.iter().map(|one| (one.policy, one)).collect();
    policies.into_values().filter(|one| one.policy != 0)
}

/// Numbers the terms that apply to any subject.
fn numbered(subjects: &[Subject<'_>], terms: &[Placed<'_>]) -> BTreeMap<TermId, u16> {
    let sides = subjects.iter().flat_map(|subject| &subject.sides);
    let applying: BTreeSet<_> = sides.flat_map(|side| side.terms.iter().copied()).collect();
    let applying = applying.into_iter().map(|id| (id, &terms[id]));
    numbers(&applying.collect::<Vec<_>>())
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
