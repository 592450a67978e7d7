//! What a flow meets on its way through a chain.
//!
//! A rule that may match and does more than let packets pass is a finding; so is a policy that
//! drops. A rule that surely accepts the whole flow ends the walk: what comes later never sees
//! it. So a firewall that was told to let endpoints pass has no finding.
//!
//! Conditions on the state of a connection are not followed, and a chain is walked anew each
//! time that it is called: a rule that cannot be reached behind one that only might match counts.

use super::flow::Flow;
use super::ruleset::{Chain, Effect, Rule, Ruleset, Span};

/// How deep calls go in the kernel (`NFT_JUMP_STACK_SIZE`).
pub(super) const DEEPEST_CALL: u32 = 16;

/// Is something in a base chain that does not simply let a flow pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// The rule of the base chain; `None` for the policy.
    pub rule: Option<&'a Rule>,
    /// Whether every packet that gets this far is dropped.
    pub drops: bool,
    /// Whether a rule before may have accepted some of them that come from a device or go to one.
    pub is_after_accept: bool,
}

/// Tells where a flow is after a rule or a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Continues,
    Returned,
    Ended,
}

/// Is what a rule or a called chain does.
#[derive(Clone, Copy, Debug)]
struct Passage {
    /// Whether something does more than let packets pass.
    matters: bool,
    drops: bool,
    /// Whether some packets from or to a device may be accepted.
    accepts: bool,
    fate: Fate,
}

impl Passage {
    const NOTHING: Self = Self {
        matters: false,
        drops: false,
        accepts: false,
        fate: Fate::Continues,
    };
}

/// Walks a flow through a base chain.
pub fn findings<'a>(ruleset: &'a Ruleset, base: &'a Chain, flow: Flow<'_>) -> Vec<Finding<'a>> {
    let mut findings = Vec::new();
    if !base.family.sees(flow.is_version6()) {
        return findings;
    }
    let walk = Walk {
        ruleset,
        table: base,
        flow,
    };
    let mut is_after_accept = false;
    for rule in &base.rules {
        let passage = walk.through_rule(rule, DEEPEST_CALL);
        if passage.matters {
            findings.push(Finding {
                rule: Some(rule),
                drops: passage.drops,
                is_after_accept: is_after_accept || passage.accepts,
            });
        }
        is_after_accept |= passage.accepts;
        match passage.fate {
            Fate::Continues => {}
            Fate::Returned => break,
            Fate::Ended => return findings,
        }
    }
    let drops = base.base.as_ref().is_some_and(|base| base.drops);
    if drops && !flow.is_translated() {
        findings.push(Finding {
            rule: None,
            drops: true,
            is_after_accept,
        });
    }
    findings
}

struct Walk<'a, 'b> {
    ruleset: &'a Ruleset,
    /// A chain of the table in which calls stay.
    table: &'a Chain,
    flow: Flow<'b>,
}

impl Walk<'_, '_> {
    fn through_rule(&self, rule: &Rule, depth: u32) -> Passage {
        let mut passage = Passage::NOTHING;
        if !self.flow.may_match(&rule.conditions) {
            return passage;
        }
        let surely = self.flow.surely_matches(&rule.conditions);
        let outside = self.flow.may_be_outside(&rule.conditions);
        for effect in &rule.effects {
            let next = self.through_effect(effect, depth);
            passage.matters |= next.matters;
            passage.drops |= next.drops && surely;
            passage.accepts |= next.accepts && outside;
            if surely && next.fate != Fate::Continues {
                passage.fate = next.fate;
                break;
            }
        }
        passage
    }

    fn through_effect(&self, effect: &Effect, depth: u32) -> Passage {
        match effect {
            Effect::Translate(to) => Passage {
                matters: !self.flow.is_translated() || self.leads_to_pool(*to),
                ..Passage::NOTHING
            },
            // It is not ours before it is translated.
            Effect::Drop(_) | Effect::Other(_) | Effect::TranslateSource { .. }
                if self.flow.is_translated() =>
            {
                Passage::NOTHING
            }
            Effect::Accept => Passage {
                accepts: true,
                fate: Fate::Ended,
                ..Passage::NOTHING
            },
            Effect::Return => Passage {
                fate: Fate::Returned,
                ..Passage::NOTHING
            },
            Effect::Drop(_) => Passage {
                matters: true,
                drops: true,
                fate: Fate::Ended,
                ..Passage::NOTHING
            },
            Effect::Other(_) | Effect::TranslateSource { .. } => Passage {
                matters: true,
                ..Passage::NOTHING
            },
            Effect::Jump(name) => self.through_chain(name, depth),
            Effect::Goto(name) => {
                let passage = self.through_chain(name, depth);
                let fate = match passage.fate {
                    // Its end is the end of the chain that went there.
                    Fate::Continues | Fate::Returned => Fate::Returned,
                    Fate::Ended => Fate::Ended,
                };
                Passage { fate, ..passage }
            }
        }
    }

    /// Tells whether a translation may lead to endpoints.
    fn leads_to_pool(&self, to: Option<Span>) -> bool {
        to.is_none_or(|to| to.overlaps(self.flow.pool.into()))
    }

    fn through_chain(&self, name: &str, depth: u32) -> Passage {
        let mut passage = Passage::NOTHING;
        let Some((chain, depth)) = self
            .ruleset
            .called(self.table, name)
            .zip(depth.checked_sub(1))
        else {
            return passage;
        };
        for rule in &chain.rules {
            let next = self.through_rule(rule, depth);
            passage.matters |= next.matters;
            passage.drops |= next.drops;
            passage.accepts |= next.accepts;
            match next.fate {
                Fate::Continues => {}
                Fate::Returned => break,
                Fate::Ended => {
                    passage.fate = Fate::Ended;
                    break;
                }
            }
        }
        passage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::firewall::flow::Traffic;
    use crate::host::firewall::ruleset::{Base, Condition, Family, Hook, Names, Spans, Tool};

    fn chain(name: &str, rules: Vec<Rule>) -> Chain {
        Chain {
            tool: Tool::Nftables,
            family: Family::Inet,
            table: "filter".into(),
            name: name.into(),
            base: None,
            rules,
        }
    }

    fn rule(conditions: &[Condition], effect: Effect) -> Rule {
        Rule {
            number: 1,
            conditions: conditions.to_vec(),
            effects: vec![effect],
        }
    }

    fn of_pool(side: fn(Spans) -> Condition) -> Condition {
        side(Spans {
            spans: vec!["10.0.1.0/24".parse::<ipnet::IpNet>().unwrap().into()],
            inverted: false,
        })
    }

    fn count(drops: bool, rules: Vec<Rule>, others: Vec<Chain>) -> usize {
        let mut forward = chain("forward", rules);
        forward.base = Some(Base {
            hook: Hook::Forward,
            priority: 0,
            drops,
            devices: Names::default(),
        });
        let ruleset = Ruleset {
            chains: others.into_iter().chain([forward]).collect(),
        };
        let traffic = Traffic {
            endpoints: vec!["lxcweb".into()],
            devices: vec!["eth0".into()],
            pools: vec!["10.0.1.0/24".parse().unwrap()],
            ..Traffic::default()
        };
        let base = ruleset.chains.last().unwrap();
        let flows = traffic.flows();
        flows.map(|flow| findings(&ruleset, base, flow).len()).sum()
    }

    fn drop() -> Effect {
        Effect::Drop("drop".into())
    }

    #[test]
    fn chain_that_lets_pass_has_no_finding() {
        let established = Condition::Other("ct state".into());

        assert_eq!(count(false, vec![], vec![]), 0);
        assert_eq!(
            count(false, vec![rule(&[established], Effect::Accept)], vec![]),
            0
        );
    }

    #[test]
    fn policy_that_drops_is_a_finding_unless_the_pool_is_accepted() {
        let from = rule(&[of_pool(Condition::Source)], Effect::Accept);
        let to = rule(&[of_pool(Condition::Destination)], Effect::Accept);

        assert_eq!(count(true, vec![], vec![]), 2);
        assert_eq!(count(true, vec![from.clone()], vec![]), 1);
        assert_eq!(count(true, vec![from, to], vec![]), 0);
    }

    #[test]
    fn call_matters_as_much_as_what_is_called() {
        let docker = Condition::Outgoing(Names {
            patterns: vec!["docker0".into()],
            inverted: false,
        });
        let call = || vec![rule(&[], Effect::Jump("user".into()))];
        let harmless = chain("user", vec![rule(&[docker], drop())]);
        let harmful = chain("user", vec![rule(&[], drop())]);

        assert_eq!(count(false, call(), vec![harmless]), 0);
        assert_eq!(count(false, call(), vec![harmful]), 2);
        assert_eq!(count(false, call(), vec![]), 0);
    }

    #[test]
    fn accepting_call_ends_the_walk_and_a_returning_one_does_not() {
        let call = |then: Effect| {
            let user = chain("user", vec![rule(&[], then)]);
            count(
                true,
                vec![rule(&[], Effect::Jump("user".into()))],
                vec![user],
            )
        };

        assert_eq!(call(Effect::Accept), 0);
        assert_eq!(call(Effect::Return), 2);
    }

    #[test]
    fn chains_that_call_each_other_end() {
        let again = chain("user", vec![rule(&[], Effect::Jump("user".into()))]);

        assert_eq!(
            count(
                false,
                vec![rule(&[], Effect::Goto("user".into()))],
                vec![again]
            ),
            0
        );
    }
}
