//! Rules of others that translate source addresses on a device, as ours do there.
//!
//! The kernel's NAT keeps a packet's source port where it can and does not know which ports are
//! reserved for us. Replies to one of our ports find no binding, and are dropped.

use super::ruleset::{Chain, Condition, Effect, Hook, Rule, Ruleset};
use super::text;
use super::walk::DEEPEST_CALL;
use crate::plan::object::SourceNat;

/// Lists what may translate packets that leave by one of these devices, rule by rule.
pub fn on_devices(ruleset: &Ruleset, devices: &[String]) -> Vec<SourceNat> {
    let mut found = Vec::new();
    for base in &ruleset.chains {
        let is_last = base.base.as_ref();
        if is_last.is_some_and(|base| base.hook == Hook::Postrouting) {
            for device in devices {
                let mut search = Search {
                    ruleset,
                    device,
                    found: &mut found,
                };
                search.through(base, DEEPEST_CALL);
            }
        }
    }
    found
}

struct Search<'a> {
    ruleset: &'a Ruleset,
    device: &'a str,
    found: &'a mut Vec<SourceNat>,
}

impl Search<'_> {
    fn through(&mut self, chain: &Chain, depth: u32) {
        let Some(depth) = depth.checked_sub(1) else {
            return;
        };
        for rule in &chain.rules {
            if !may_leave_by(self.device, &rule.conditions) {
                continue;
            }
            for effect in &rule.effects {
                match effect {
                    Effect::TranslateSource { to, ports, .. } => self.found.push(SourceNat {
                        what: text::place(chain, rule),
                        device: self.device.to_owned(),
                        version6: version6(chain, rule),
                        to: to.map(|span| (span.first, span.last)),
                        ports: *ports,
                    }),
                    Effect::Jump(name) | Effect::Goto(name) => {
                        if let Some(called) = self.ruleset.called(chain, name) {
                            self.through(called, depth);
                        }
                    }
                    Effect::Accept
                    | Effect::Return
                    | Effect::Drop(_)
                    | Effect::Translate(_)
                    | Effect::Other(_) => {}
                }
            }
        }
    }
}

/// Returns the version of IP that a rule is about, if it is about one.
fn version6(chain: &Chain, rule: &Rule) -> Option<bool> {
    let mut conditions = rule.conditions.iter();
    let asked = conditions.find_map(|condition| match condition {
        Condition::Version6(version6) => Some(*version6),
        Condition::Source(spans) | Condition::Destination(spans) => {
            spans.spans.first().map(|span| span.first.is_ipv6())
        }
        Condition::Incoming(_)
        | Condition::Outgoing(_)
        | Condition::LocalDestination
        | Condition::Other(_) => None,
    });
    match (chain.family.sees(false), chain.family.sees(true)) {
        (true, true) => asked,
        (_, sees6) => Some(sees6),
    }
}

/// Tells whether some packet that leaves by a device fulfils the conditions.
fn may_leave_by(device: &str, conditions: &[Condition]) -> bool {
    conditions.iter().all(|condition| match condition {
        Condition::Outgoing(names) => names.contains(device),
        // What stays here does not leave.
        Condition::LocalDestination => false,
        Condition::Incoming(_)
        | Condition::Source(_)
        | Condition::Destination(_)
        | Condition::Version6(_)
        | Condition::Other(_) => true,
    })
}
