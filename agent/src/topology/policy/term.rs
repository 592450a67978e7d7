//! The terms of a file in its order, and the numbers of those that matter on a node.
//!
//! A number comes from what the term says, without its peers, so that packets counted under it
//! stay its own when other rules, or its list of addresses, change.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::number::{Sha, assign, digest};
use crate::config::policy::{Policy, Rule, Term};
use crate::plan::policy::{Direction, TERMS_MAX};

/// Place of a term among all of the file.
pub(in crate::topology) type TermId = usize;

/// Numbers of terms.
const NUMBERS: Range<u32> = 1..TERMS_MAX as u32;

/// Is a term with the rule that it is in.
#[derive(Clone, Copy, Debug)]
pub(in crate::topology) struct Placed<'c> {
    /// Place of the rule in the file, from 0.
    pub(in crate::topology) rule_idx: usize,
    pub(in crate::topology) rule: &'c Rule,
    pub(in crate::topology) direction: Direction,
    pub(in crate::topology) denies: bool,
    pub(in crate::topology) term: &'c Term,
}

/// Lists all terms in the order of the file; a [`TermId`] is a place in this list.
pub(in crate::topology) fn terms(policy: &Policy) -> Vec<Placed<'_>> {
    let rules = policy.rules.iter().enumerate();
    rules.flat_map(|(idx, rule)| of_rule(idx, rule)).collect()
}

fn of_rule(rule_idx: usize, rule: &Rule) -> impl Iterator<Item = Placed<'_>> {
    let lists = [
        (Direction::Ingress, false, &rule.ingress),
        (Direction::Egress, false, &rule.egress),
        (Direction::Ingress, true, &rule.ingress_deny),
        (Direction::Egress, true, &rule.egress_deny),
    ];
    lists
        .into_iter()
        .flat_map(move |(direction, denies, list)| {
            list.iter().flatten().map(move |term| Placed {
                rule_idx,
                rule,
                direction,
                denies,
                term,
            })
        })
}

/// Numbers terms, given in the order of the file; those that have no room get none.
pub(super) fn numbers(terms: &[(TermId, &Placed<'_>)]) -> BTreeMap<TermId, u16> {
    let mut seen: BTreeMap<Sha, usize> = BTreeMap::new();
    let mut digests = BTreeMap::new();
    for (id, term) in terms {
        let content = content(term);
        let equals = seen.entry(digest([content.as_str()])).or_default();
        let digest = digest([content.as_str(), equals.to_string().as_str()]);
        digests.insert(*id, digest);
        *equals += 1;
    }
    let numbers = assign(&digests.values().copied().collect(), &NUMBERS);
    let number = |digest| u16::try_from(*numbers.get(digest)?).ok();
    let numbered = digests.iter();
    numbered
        .filter_map(|(id, digest)| Some((*id, number(digest)?)))
        .collect()
}

/// Returns all that a term says but its peers.
fn content(term: &Placed<'_>) -> String {
    let (direction, denies) = (term.direction, term.denies);
    let (rule, ports) = (term.rule, &term.term.ports);
    let (description, subject) = (&rule.description, &rule.subject);
    format!("{description:?} {subject:?} {direction:?} {denies} {ports:?}")
}
