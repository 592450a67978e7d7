//! Rules that look for packets of endpoints by a link where the host's stack never meets them.
//!
//! With either host routing, what the stack gets from endpoints comes by `cilium_host`, and what it
//! sends them leaves by that link too, unless each has a route of its own. A rule that names an
//! endpoint's link, as one would write it for any other veth, catches nothing.

use super::flow::Traffic;
use super::ruleset::{Chain, Condition, Names, Rule, Ruleset};
use super::text;
use crate::host::HOST_LINK;
use crate::plan::object::BlindRule;

/// Lists the rules of all chains that name links of endpoints, and not `cilium_host`.
pub fn rules(ruleset: &Ruleset, traffic: &Traffic) -> Vec<BlindRule> {
    let of_chain = |chain: &'_ Chain| {
        let rules = chain.rules.iter();
        let found = rules.filter_map(|rule| Some((rule, of_rule(rule, traffic)?)));
        let named = found.map(|(rule, by_incoming)| BlindRule {
            what: text::place(chain, rule),
            by_incoming,
        });
        named.collect::<Vec<_>>()
    };
    ruleset.chains.iter().flat_map(of_chain).collect()
}

/// Tells whether a rule is blind, and whether by the link that packets come by.
fn of_rule(rule: &Rule, traffic: &Traffic) -> Option<bool> {
    let is_blind = |names: &Names| {
        let mut endpoints = traffic.endpoints.iter();
        !names.inverted
            && !names.contains(HOST_LINK)
            && endpoints.any(|endpoint| names.contains(endpoint))
    };
    let conditions = || rule.conditions.iter();
    if conditions().any(|asked| matches!(asked, Condition::Incoming(names) if is_blind(names))) {
        return Some(true);
    }
    conditions()
        .any(|asked| matches!(asked, Condition::Outgoing(names) if is_blind(names)))
        .then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str], inverted: bool) -> Names {
        Names {
            patterns: patterns.iter().map(|name| (*name).to_owned()).collect(),
            inverted,
        }
    }

    fn found(condition: Condition) -> Option<bool> {
        let traffic = Traffic {
            endpoints: vec!["lxcweb".into()],
            devices: vec!["eth0".into()],
            ..Traffic::default()
        };
        let rule = Rule {
            number: 1,
            conditions: vec![condition],
            effects: Vec::new(),
        };
        of_rule(&rule, &traffic)
    }

    #[test]
    fn rule_is_blind_that_names_only_links_of_endpoints() {
        assert_eq!(
            found(Condition::Incoming(names(&["lxcweb"], false))),
            Some(true)
        );
        assert_eq!(
            found(Condition::Outgoing(names(&["lxc*"], false))),
            Some(false)
        );
        assert_eq!(found(Condition::Incoming(names(&["eth0"], false))), None);
        assert_eq!(found(Condition::Incoming(names(&["lxcweb"], true))), None);
        let both = names(&["lxc*", "cilium_host"], false);
        assert_eq!(found(Condition::Incoming(both)), None);
    }
}
