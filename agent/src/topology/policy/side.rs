//! What applies to one subject in one direction: the rules that select it, and what holds where
//! their terms say nothing.

use std::collections::BTreeMap;

use super::SideInfo;
use super::term::{Placed, TermId};
use crate::config::Endpoint;
use crate::config::policy::{Enforcement, Policy, Rule, Subject};
use crate::plan::policy::{Decision, Direction, Verdict};

/// Is whom a policy is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'c> {
    /// The node of this name itself.
    Host(&'c str),
    Endpoint(&'c Endpoint),
}

/// Is one direction of a subject's policy.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) direction: Direction,
    /// What holds where no term says anything.
    pub(super) default: Verdict,
    /// The terms that apply, in the order of the file.
    pub(super) terms: Vec<TermId>,
    /// Places of the rules that close it.
    pub(super) closed_by: Vec<usize>,
}

impl Who<'_> {
    /// Tells whether a rule is about this subject.
    pub(super) fn is_selected_by(self, rule: &Rule) -> bool {
        match (&rule.subject, self) {
            (Subject::Endpoints { selectors, names }, Self::Endpoint(endpoint)) => {
                names.contains(endpoint.name.get_ref())
                    || selectors.iter().any(|s| s.selects(&endpoint.labels))
            }
            (Subject::Host { nodes }, Self::Host(node)) => nodes.is_empty() || nodes.contains(node),
            (Subject::Endpoints { .. }, Self::Host(_)) | (Subject::Host { .. }, _) => false,
        }
    }
}

impl Side {
    /// Tells what applies, for a person; the terms have these numbers.
    pub(super) fn info(&self, numbers: &BTreeMap<TermId, u16>) -> SideInfo {
        SideInfo {
            direction: self.direction,
            default: self.default,
            terms: self.terms.iter().map(|id| numbers[id]).collect(),
            closed_by: self.closed_by.clone(),
        }
    }

    /// Tells whether there is anything to ask: it is not simply open.
    pub(super) fn has_policy(&self) -> bool {
        self.default.decision != Decision::Allow || !self.terms.is_empty()
    }
}

/// Finds what applies to a subject, ingress first.
pub(super) fn sides(policy: &Policy, terms: &[Placed<'_>], who: Who<'_>) -> [Side; 2] {
    let selects: Vec<_> = policy
        .rules
        .iter()
        .map(|rule| who.is_selected_by(rule))
        .collect();
    let is_off = policy.enforcement == Enforcement::Never;
    let rules = policy.rules.iter().enumerate();
    let rules: Vec<_> = rules.filter(|(idx, _)| selects[*idx] && !is_off).collect();
    [Direction::Ingress, Direction::Egress].map(|direction| {
        let applies =
            |term: &Placed<'_>| !is_off && term.direction == direction && selects[term.rule_idx];
        let numbered = terms.iter().enumerate();
        let closing = rules.iter().filter(|(_, rule)| closes(rule, direction));
        Side {
            direction,
            default: default(policy.enforcement, &rules, direction, who),
            terms: numbered
                .filter(|(_, term)| applies(term))
                .map(|(id, _)| id)
                .collect(),
            closed_by: closing.map(|(idx, _)| *idx).collect(),
        }
    })
}

/// Returns what holds where no term says anything.
fn default(
    enforcement: Enforcement,
    rules: &[(usize, &Rule)],
    direction: Direction,
    who: Who<'_>,
) -> Verdict {
    let closing = || rules.iter().filter(|(_, rule)| closes(rule, direction));
    let is_enforced = match enforcement {
        Enforcement::Never => false,
        Enforcement::Default => closing().next().is_some(),
        // A node that no rule speaks of stays open, so that nobody is locked out of it.
        Enforcement::Always => matches!(who, Who::Endpoint(_)) || !rules.is_empty(),
    };
    let decision = if !is_enforced {
        Decision::Allow
    } else if closing().any(|(_, rule)| rule.reject) {
        Decision::Reject
    } else {
        Decision::Deny
    };
    Verdict { decision, term: 0 }
}

/// Tells whether a rule closes its subjects in a direction.
fn closes(rule: &Rule, direction: Direction) -> bool {
    let speaks = match direction {
        Direction::Ingress => rule.ingress.is_some() || rule.ingress_deny.is_some(),
        Direction::Egress => rule.egress.is_some() || rule.egress_deny.is_some(),
    };
    rule.default_deny && speaks
}
