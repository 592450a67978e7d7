//! The entries of one subject after the other.
//!
//! Only identities that a term means by name get a look of their own; all others are treated as
//! the terms for everybody say, and that is the entry of identity 0. An entry that would say the
//! same is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::super::identity::HOST;
use super::party::{Parties, Reach};
use super::port::name;
use super::row::{Rows, Sheet, paint};
use super::side::{Side, Who};
use super::term::{Placed, TermId};
use crate::config::policy::Ports;
use crate::plan::policy::{Decision, Direction, EntryKey, Verdict};

/// Is an entry whose row is not numbered yet: its own verdict, and the place of its row.
pub(super) type Draft = (Verdict, Option<usize>);

/// Collects the entries of a node.
#[derive(Debug)]
pub(super) struct Tables<'c> {
    terms: &'c [Placed<'c>],
    parties: &'c Parties<'c>,
    numbers: BTreeMap<TermId, u16>,
    reach: BTreeMap<TermId, Reach>,
    pub(super) rows: Rows,
    pub(super) entries: BTreeMap<EntryKey, Draft>,
    /// How many entries each rule has a part in, by its place in the file.
    pub(super) shares: Vec<usize>,
}

/// Is a subject, in one direction.
#[derive(Clone, Copy, Debug)]
struct Task<'t> {
    who: Who<'t>,
    side: &'t Side,
    /// Names of ports that its terms use.
    names: &'t BTreeSet<&'t str>,
}

impl<'c> Tables<'c> {
    /// Prepares for subjects to whom no other terms apply than these, which have numbers.
    pub(super) fn new(
        terms: &'c [Placed<'c>],
        parties: &'c Parties<'c>,
        numbers: BTreeMap<TermId, u16>,
        rules: usize,
    ) -> Self {
        let reach = |id: &TermId| (*id, parties.reach(*id, terms[*id].term));
        Self {
            terms,
            parties,
            reach: numbers.keys().map(reach).collect(),
            numbers,
            rows: Rows::default(),
            entries: BTreeMap::new(),
            shares: vec![0; rules],
        }
    }

    /// Adds the entries of a subject in one direction.
    pub(super) fn add(&mut self, subject: u32, who: Who<'_>, side: &Side) {
        let (everybody, touched) = self.touched(side);
        let ports = side.terms.iter().flat_map(|id| &self.terms[*id].term.ports);
        let names: BTreeSet<_> = ports.filter_map(name).collect();
        let task = Task {
            who,
            side,
            names: &names,
        };
        let key = |identity| EntryKey {
            subject,
            direction: side.direction,
            identity,
        };
        let default = self.draft(task, None, &everybody);
        self.entries.insert(key(0), default);

        let mut drafts = BTreeMap::new();
        for (identity, specific) in self.everyone(task, touched) {
            let mut terms = [everybody.as_slice(), &specific].concat();
            terms.sort_unstable();
            let alone = self.is_alone(task, identity).then_some(identity);
            let draft = *drafts
                .entry((terms, alone))
                .or_insert_with_key(|(terms, _)| self.draft(task, Some(identity), terms));
            if draft != default {
                self.entries.insert(key(identity), draft);
                for id in specific {
                    self.shares[self.terms[id].rule_idx] += 1;
                }
            }
        }
    }

    /// Returns how many ranges come from each rule, by its place in the file.
    pub(super) fn range_shares(&self) -> Vec<usize> {
        let rules = self.numbers.iter();
        let rules = rules.map(|(id, number)| (*number, self.terms[*id].rule_idx));
        let rules: BTreeMap<_, _> = rules.collect();
        let mut shares = vec![0; self.shares.len()];
        for cell in self.rows.cells() {
            if let Some(rule) = rules.get(&cell.verdict.term) {
                shares[*rule] += 1;
            }
        }
        shares
    }

    /// Returns the terms of a side that mean everybody, and the others by whom they mean.
    fn touched(&self, side: &Side) -> (Vec<TermId>, BTreeMap<u32, Vec<TermId>>) {
        let mut everybody = Vec::new();
        let mut touched: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for id in &side.terms {
            match &self.reach[id] {
                Reach::Everybody => everybody.push(*id),
                Reach::These(identities) => {
                    for identity in identities {
                        touched.entry(*identity).or_default().push(*id);
                    }
                }
            }
        }
        (everybody, touched)
    }

    /// Adds those who may be treated unlike everybody although no term means them.
    fn everyone(
        &self,
        task: Task<'_>,
        mut touched: BTreeMap<u32, Vec<TermId>>,
    ) -> BTreeMap<u32, Vec<TermId>> {
        match (task.who, task.side.direction) {
            // A node does not meet itself.
            (Who::Host(_), _) => _ = touched.remove(&HOST),
            (Who::Endpoint(_), Direction::Ingress) => _ = touched.entry(HOST).or_default(),
            (Who::Endpoint(_), Direction::Egress) => {}
        }
        if task.side.direction == Direction::Egress {
            for identity in self.parties.naming(task.names) {
                touched.entry(identity).or_default();
            }
        }
        touched
    }

    /// Tells whether an identity may be treated unlike others that the same terms mean.
    fn is_alone(&self, task: Task<'_>, identity: u32) -> bool {
        match task.side.direction {
            Direction::Ingress => identity == HOST,
            Direction::Egress => {
                !task.names.is_empty() && self.parties.endpoints().contains_key(&identity)
            }
        }
    }

    /// Settles what holds towards an identity to which these terms apply, in file order.
    fn draft(&mut self, task: Task<'_>, identity: Option<u32>, terms: &[TermId]) -> Draft {
        let (deny, allow): (Vec<&TermId>, Vec<&TermId>) =
            terms.iter().partition(|id| self.terms[**id].denies);
        let sheets = deny.into_iter().chain(allow);
        let sheets: Vec<_> = sheets.map(|id| self.sheet(task, identity, *id)).collect();
        let (verdict, cells) = paint(base(task, identity), &sheets);
        (verdict, self.rows.place(cells))
    }

    fn sheet(&self, task: Task<'_>, identity: Option<u32>, id: TermId) -> Sheet {
        let Placed {
            rule, denies, term, ..
        } = self.terms[id];
        let decision = match (denies, rule.reject) {
            (false, _) => Decision::Allow,
            (true, false) => Decision::Deny,
            (true, true) => Decision::Reject,
        };
        let spans = |ports: &Ports| {
            self.parties
                .spans(task.who, task.side.direction, identity, ports)
        };
        let all = term.ports.is_empty();
        Sheet {
            spans: (!all).then(|| term.ports.iter().flat_map(spans).collect()),
            verdict: Verdict {
                decision,
                term: self.numbers[&id],
            },
        }
    }
}

/// Returns what holds where no term says anything: a node may always reach its own endpoints.
fn base(task: Task<'_>, identity: Option<u32>) -> Verdict {
    match (task.who, task.side.direction, identity) {
        (Who::Endpoint(_), Direction::Ingress, Some(HOST)) => Verdict {
            decision: Decision::Allow,
            term: 0,
        },
        _ => task.side.default,
    }
}
