//! What the firewall would do to packets that BPF host routing keeps from it.

use std::collections::BTreeSet;

use super::flow::Traffic;
use super::ruleset::{Chain, Rule, Ruleset, Tool};
use super::text;
use super::walk;
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
    let (mut by_policy, mut drops, mut numbers) = (false, false, BTreeSet::new());
    let base = chain.base.as_ref()?;
    for flow in traffic.flows().chain(traffic.translated(base)) {
        for finding in walk::findings(ruleset, chain, flow) {
            drops |= finding.drops;
            match finding.rule {
                Some(rule) => drop(numbers.insert(rule.number)),
                None => by_policy = true,
            }
        }
    }
    let name = text::chain(chain);
    let what = if by_policy {
        format!("{name} {}", text::policy(chain.tool))
    } else {
        let first = first(&chain.rules, &numbers)?;
        let comma = if chain.tool == Tool::Nftables {
            ","
        } else {
            ""
        };
        let rule = text::rule(chain.tool, first);
        format!("{name}{comma} {rule}{}", more(numbers.len() - 1))
    };
    Some(Obstacle {
        what,
        kind: if drops {
            ObstacleKind::ForwardDrop
        } else {
            ObstacleKind::ForwardRules
        },
    })
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
