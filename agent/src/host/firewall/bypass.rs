//! What the firewall would do to packets that BPF host routing keeps from it.
//!
//! What drops them is worse with legacy host routing, which does not keep them from it. A chain
//! closes a pool if no connection of its endpoints can come about: one direction is dropped
//! whatever rules come before, or neither is accepted as a whole, so that the rules before can at
//! best let through what belongs to a connection already, or some protocol.

use std::collections::BTreeSet;

use super::flow::{Flow, Traffic};
use super::ruleset::{Chain, Rule, Ruleset};
use super::walk::{self, Finding};
use super::{cure, text};
use crate::plan::object::{Obstacle, ObstacleKind};

/// Lists the chains that matter to a node's packets, one line for each: what in it comes first,
/// and how much more there is. In the order in which packets meet the chains.
pub fn bypassed(ruleset: &Ruleset, traffic: &Traffic) -> Vec<Obstacle> {
    let hooked = ruleset.chains.iter().filter(|chain| {
        let base = chain.base.as_ref();
        base.is_some_and(|base| traffic.passes(base))
    });
    hooked
        .filter_map(|chain| obstacle(ruleset, chain, traffic))
        .collect()
}

fn obstacle(ruleset: &Ruleset, chain: &Chain, traffic: &Traffic) -> Option<Obstacle> {
    let base = chain.base.as_ref()?;
    let own = traffic.flows().map(|flow| Met::by(ruleset, chain, flow));
    let translated = traffic.translated(base);
    let translated = translated.map(|flow| Met::by(ruleset, chain, flow));
    let (own, translated): (Vec<_>, Vec<_>) = (own.collect(), translated.collect());
    let findings = || own.iter().chain(&translated).flat_map(|met| &met.findings);
    let name = text::chain(chain);
    let what = if findings().any(|finding| finding.rule.is_none()) {
        format!("{name} {}", text::policy(chain.tool))
    } else {
        let rules = findings().filter_map(|finding| finding.rule);
        let numbers: BTreeSet<u64> = rules.map(|rule| rule.number).collect();
        let first = first(&chain.rules, &numbers)?;
        let comma = text::comma(chain.tool);
        let rule = text::rule(chain.tool, first);
        format!("{name}{comma} {rule}{}", more(numbers.len() - 1))
    };
    let dropped: Vec<Flow<'_>> = own
        .iter()
        .filter(|met| met.drops())
        .map(|met| met.flow)
        .collect();
    let kind = if closes(&own) {
        ObstacleKind::ForwardClosed
    } else if findings().any(|finding| finding.drops) {
        ObstacleKind::ForwardDrop
    } else {
        ObstacleKind::ForwardRules
    };
    Some(Obstacle {
        what,
        kind,
        cure: cure::commands(ruleset, chain, &dropped),
    })
}

/// Is what a flow meets in a chain.
struct Met<'a> {
    flow: Flow<'a>,
    findings: Vec<Finding<'a>>,
}

impl<'a> Met<'a> {
    fn by(ruleset: &'a Ruleset, chain: &'a Chain, flow: Flow<'a>) -> Self {
        let findings = walk::findings(ruleset, chain, flow);
        Self { flow, findings }
    }

    /// Tells whether what no rule accepts is dropped.
    fn drops(&self) -> bool {
        self.findings.iter().any(|finding| finding.drops)
    }

    /// Tells whether everything is dropped.
    fn drops_all(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.drops && !finding.is_after_accept)
    }
}

/// Tells whether some pool's endpoints are cut off. `met` has both directions of a pool side by
/// side.
fn closes(met: &[Met<'_>]) -> bool {
    met.chunks(2)
        .any(|both| both.iter().any(Met::drops_all) || both.iter().all(Met::drops))
}

/// Returns the first rule in the order of the chain, which numbers need not have.
fn first<'a>(rules: &'a [Rule], numbers: &BTreeSet<u64>) -> Option<&'a Rule> {
    rules.iter().find(|rule| numbers.contains(&rule.number))
}

fn more(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => ", and 1 more rule".to_owned(),
        count => format!(", and {count} more rules"),
    }
}
