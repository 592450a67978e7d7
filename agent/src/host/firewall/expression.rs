//! The rules of nftables, which are small programs: a value is loaded into a register, then
//! compared. Read here into conditions and effects.
//!
//! Followed are comparisons of link names and indices, of addresses (with a mask, as a range, or
//! looked up in a set) and of the version of IP. Everything else becomes a condition that is
//! known by name only. A verdict map becomes one rule for each of its elements.

use std::collections::BTreeMap;

use super::register::{Loaded, joined};
use super::ruleset::{Condition, Effect, Family, Rule, Span};
use super::set::{Set, address};
use super::xtables;
use crate::host::raw::Attributes;

/// Attributes of a list element and of an expression.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;

/// Attributes inside a value.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// Comparisons that are followed.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// The header of a packet in which addresses are.
const NETWORK_HEADER: u32 = 1;

/// Collects what a rule's expressions mean.
struct Reader<'a> {
    /// The sets of the rule's table.
    sets: &'a BTreeMap<&'a str, &'a Set>,
    /// The version of IP, once it is known.
    version6: Option<bool>,
    registers: BTreeMap<u32, Loaded>,
    conditions: Vec<Condition>,
    effects: Vec<Effect>,
    counts: bool,
    /// Where a verdict map is asked: its elements, with the condition for each.
    branches: Vec<(Option<Condition>, Effect)>,
}

/// Reads the expressions of a rule; more than one rule if it has a verdict map.
pub(super) fn rules(
    number: u64,
    family: Family,
    expressions: Attributes<'_>,
    sets: &BTreeMap<&str, &Set>,
) -> Vec<Rule> {
    let mut reader = Reader {
        sets,
        version6: match family {
            Family::Ip => Some(false),
            Family::Ip6 => Some(true),
            Family::Inet | Family::Netdev => None,
        },
        registers: BTreeMap::new(),
        conditions: Vec::new(),
        effects: Vec::new(),
        counts: false,
        branches: Vec::new(),
    };
    for (kind, expression) in expressions.iter() {
        if kind == ELEMENT {
            let expression = Attributes(expression);
            let name = expression.text(NAME).unwrap_or_default();
            reader.take(&name, expression.nested(DATA));
        }
    }
    reader.finish(number)
}

/// Reads a verdict.
pub(super) fn verdict(value: Attributes<'_>) -> Option<Effect> {
    let verdict = value.nested(VERDICT);
    let chain = || verdict.text(VERDICT_CHAIN);
    match verdict.be32(VERDICT_CODE)?.cast_signed() {
        0 => Some(Effect::Drop("drop".into())),
        1 => Some(Effect::Accept),
        -3 => chain().map(Effect::Jump),
        -4 => chain().map(Effect::Goto),
        -5 => Some(Effect::Return),
        // Continue and break do nothing; stolen and queued packets are someone else's.
        -1 | -2 => None,
        _ => Some(Effect::Other("queue".into())),
    }
}

impl Reader<'_> {
    fn finish(mut self, number: u64) -> Vec<Rule> {
        if self.counts && self.effects.is_empty() && self.branches.is_empty() {
            self.effects.push(Effect::Other("counter".into()));
        }
        let rule = |conditions: Vec<Condition>, effects| Rule {
            number,
            conditions,
            effects,
        };
        if self.branches.is_empty() {
            return vec![rule(self.conditions, self.effects)];
        }
        let branches = self.branches.into_iter();
        branches
            .map(|(condition, effect)| {
                let conditions = self.conditions.iter().cloned().chain(condition);
                let effects = self.effects.iter().cloned().chain([effect]);
                rule(conditions.collect(), effects.collect())
            })
            .collect()
    }

    fn take(&mut self, name: &str, data: Attributes<'_>) {
        match name {
            "meta" => self.meta(data),
            "payload" => self.payload(data),
            "fib" => self.fib(data),
            "bitwise" => self.bitwise(data),
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "lookup" => self.lookup(data),
            "immediate" => self.immediate(data),
            "counter" => self.counts = true,
            "match" => self.conditions.extend(xtables::match_of(data)),
            "target" => {
                let version6 = self.version6 == Some(true);
                self.effects.push(xtables::target_of(version6, data));
            }
            "nat" => self.translate(data),
            "reject" => self.effects.push(Effect::Drop("reject".into())),
            "masq" => self.translate_source("masquerade", None, [data.be32(2), data.be32(3)]),
            "redir" => self.other_effect("redirect"),
            "flow_offload" => self.other_effect("flow add"),
            "log" | "queue" | "dup" | "fwd" | "notrack" | "synproxy" | "tproxy" | "dynset"
            | "objref" => self.other_effect(name),
            // They limit how often a rule matches, by themselves.
            "limit" | "connlimit" | "quota" | "last" => {
                self.add(Condition::Other(format!("{name} …")));
            }
            // Loads of values that are not followed, or changes of a packet.
            _ => self.load_or_set(name, data),
        }
    }

    fn other_effect(&mut self, word: &str) {
        self.effects.push(Effect::Other(word.into()));
    }

    fn add(&mut self, condition: Condition) {
        if let Condition::Version6(version6) = condition {
            self.version6 = Some(version6);
        }
        let range = self
            .conditions
            .last()
            .and_then(|last| joined(last, &condition));
        if let (Some(range), Some(last)) = (range, self.conditions.last_mut()) {
            *last = range;
        } else if !self.conditions.contains(&condition) {
            // The halves of one comparison come as several that look alike.
            self.conditions.push(condition);
        }
    }

    fn load(&mut self, register: Option<u32>, value: Loaded) {
        if let Some(register) = register {
            self.registers.insert(register, value);
        }
    }

    fn loaded(&self, register: Option<u32>) -> Loaded {
        let found = register.and_then(|register| self.registers.get(&register));
        found.cloned().unwrap_or_else(|| Loaded::Other("?".into()))
    }

    fn meta(&mut self, data: Attributes<'_>) {
        let (register, key) = (data.be32(1), data.be32(2));
        let value = match key {
            Some(1 | 15) => Loaded::Version,
            Some(3) => Loaded::Other("meta mark".into()),
            Some(4 | 5) => Loaded::Index {
                incoming: key == Some(4),
            },
            Some(6 | 7) => Loaded::Name {
                incoming: key == Some(6),
            },
            Some(16) => Loaded::Other("meta l4proto".into()),
            _ => Loaded::Other("meta".into()),
        };
        match (register, value) {
            (None, Loaded::Other(word)) => self.other_effect(&format!("{word} set")),
            (None, _) => self.other_effect("meta set"),
            (register, value) => self.load(register, value),
        }
    }

    fn payload(&mut self, data: Attributes<'_>) {
        let register = data.be32(1);
        if register.is_none() {
            return self.other_effect("payload set");
        }
        let (base, offset) = (data.be32(2), data.be32(3).unwrap_or_default());
        let source = match (self.version6, offset) {
            (Some(false), 12) | (Some(true), 8) => Some(true),
            (Some(false), 16) | (Some(true), 24) => Some(false),
            _ => None,
        };
        let value = match (base, source, self.version6) {
            (Some(NETWORK_HEADER), Some(source), Some(version6)) => Loaded::Address {
                source,
                version6,
                mask: Vec::new(),
            },
            (Some(NETWORK_HEADER), ..) => Loaded::Other("ip".into()),
            _ => Loaded::Other("payload".into()),
        };
        self.load(register, value);
    }

    fn fib(&mut self, data: Attributes<'_>) {
        const ADDRESS_TYPE: u32 = 3;
        const DESTINATION: u32 = 2;
        let value = if data.be32(2) == Some(ADDRESS_TYPE) && data.be32(3) == Some(DESTINATION) {
            Loaded::DestinationKind
        } else {
            Loaded::Other("fib".into())
        };
        self.load(data.be32(1), value);
    }

    fn bitwise(&mut self, data: Attributes<'_>) {
        let bytes = |kind| data.nested(kind).get(VALUE).unwrap_or_default();
        let (mask, xor) = (bytes(4), bytes(5));
        let loaded = self.loaded(data.be32(1));
        let is_mask = xor.iter().all(|byte| *byte == 0) && !mask.is_empty();
        let value = loaded.masked(mask).filter(|_| is_mask);
        let value = value.unwrap_or_else(|| loaded.unknown());
        self.load(data.be32(2), value);
    }

    fn compare(&mut self, data: Attributes<'_>) {
        let loaded = self.loaded(data.be32(1));
        let value = data.nested(3).get(VALUE).unwrap_or_default();
        let condition = match data.be32(2) {
            Some(operation @ (EQUAL | NOT_EQUAL)) => loaded.compared(operation == NOT_EQUAL, value),
            Some(operation @ (AT_MOST | AT_LEAST)) => loaded.bounded(operation == AT_LEAST, value),
            _ => loaded.within(false, None),
        };
        self.add(condition);
    }

    fn range(&mut self, data: Attributes<'_>) {
        let bytes = |kind| data.nested(kind).get(VALUE).unwrap_or_default();
        let inverted = data.be32(2) == Some(NOT_EQUAL);
        let condition = self
            .loaded(data.be32(1))
            .ranged(inverted, bytes(3), bytes(4));
        self.add(condition);
    }

    fn lookup(&mut self, data: Attributes<'_>) {
        const INVERTED: u32 = 1;
        const VERDICT_REGISTER: u32 = 0;
        let loaded = self.loaded(data.be32(2));
        let set = data.text(1).and_then(|name| self.sets.get(name.as_str()));
        let inverted = data.be32(5).unwrap_or_default() & INVERTED != 0;
        match (data.be32(3), set) {
            (Some(VERDICT_REGISTER), Some(set)) => self.branch(&loaded, set),
            (None, Some(set)) => {
                self.add(loaded.among(inverted, set));
            }
            (register, _) => {
                self.load(register, Loaded::Other("map".into()));
                self.add(loaded.within(false, None));
            }
        }
    }

    /// Takes the elements of a verdict map.
    fn branch(&mut self, loaded: &Loaded, map: &Set) {
        for element in &map.elements {
            let condition = match (loaded, map.names()) {
                (Loaded::Name { .. }, Some(_)) => loaded.compared(false, &element.key),
                _ => loaded.within(false, None),
            };
            if let Some(effect) = element.verdict.clone() {
                self.branches.push((Some(condition), effect));
            }
        }
    }

    fn immediate(&mut self, data: Attributes<'_>) {
        let value = data.nested(2);
        if value.get(VERDICT).is_some() {
            self.effects.extend(verdict(value));
        } else {
            let value = value.get(VALUE).unwrap_or_default();
            self.load(data.be32(1), Loaded::Value(value.to_vec()));
        }
    }

    fn translate(&mut self, data: Attributes<'_>) {
        const DESTINATION: u32 = 1;
        let value = |kind| address(self.value(data.be32(kind))?);
        let first = value(3);
        let span = first.map(|first| Span {
            first,
            last: value(4).unwrap_or(first),
        });
        if data.be32(1) == Some(DESTINATION) {
            self.effects.push(Effect::Translate(span));
        } else {
            self.translate_source("snat", span, [data.be32(5), data.be32(6)]);
        }
    }

    /// Takes a translation of the source, with the registers of the first and the last port.
    fn translate_source(&mut self, word: &str, to: Option<Span>, ports: [Option<u32>; 2]) {
        let port = |register| {
            let bytes = self.value(register)?.first_chunk()?;
            Some(u16::from_be_bytes(*bytes))
        };
        let [first, last] = ports.map(port);
        let ports = first.map(|first| (first, last.unwrap_or(first)));
        self.effects.push(Effect::TranslateSource {
            word: word.into(),
            to,
            ports,
        });
    }

    /// Returns the value of the rule that a register holds.
    fn value(&self, register: Option<u32>) -> Option<&[u8]> {
        match self.registers.get(&register?) {
            Some(Loaded::Value(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Takes an expression that is not followed: with a destination it loads, else it changes.
    fn load_or_set(&mut self, name: &str, data: Attributes<'_>) {
        let destination = match name {
            "ct" | "rt" | "numgen" | "osf" | "exthdr" | "xfrm" => data.be32(1),
            "hash" | "tunnel" | "socket" | "byteorder" => data.be32(2),
            _ => None,
        };
        if destination.is_some() {
            return self.load(destination, Loaded::Other(name.into()));
        }
        // Unknown, it may have written any register.
        self.registers.clear();
        if name != "inner" {
            self.other_effect(&format!("{name} set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let parts = [
            attribute(NAME, name.as_bytes()),
            attribute(DATA, &data.concat()),
        ];
        attribute(ELEMENT, &parts.concat())
    }

    fn read(expressions: &[Vec<u8>]) -> Rule {
        let expressions = expressions.concat();
        let rules = rules(7, Family::Ip, Attributes(&expressions), &BTreeMap::new());
        assert_eq!(rules.len(), 1);
        rules.into_iter().next().unwrap()
    }

    fn number(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    #[test]
    fn matches_and_targets_of_iptables_are_understood() {
        let local = [0, 0, 4, 0, 0, 0, 0, 0];
        let rule = read(&[
            expression(
                "match",
                &[
                    attribute(1, b"addrtype\0"),
                    attribute(2, &number(1)),
                    attribute(3, &local),
                ],
            ),
            expression("match", &[attribute(1, b"comment\0")]),
            expression("match", &[attribute(1, b"conntrack\0")]),
            expression("counter", &[]),
            expression("target", &[attribute(1, b"MASQUERADE\0")]),
        ]);

        assert_eq!(
            rule.conditions,
            [
                Condition::LocalDestination,
                Condition::Other("-m conntrack".into())
            ]
        );
        let masquerade = Effect::TranslateSource {
            word: "MASQUERADE".into(),
            to: None,
            ports: None,
        };
        assert_eq!(rule.effects, [masquerade]);
    }

    #[test]
    fn register_that_something_unknown_wrote_is_not_trusted() {
        let load_name = expression(
            "meta",
            &[attribute(1, &number(1)), attribute(2, &number(6))],
        );
        let value = attribute(3, &attribute(VALUE, b"docker0\0\0\0\0\0\0\0\0\0"));
        let compare = expression(
            "cmp",
            &[
                attribute(1, &number(1)),
                attribute(2, &number(EQUAL)),
                value,
            ],
        );

        let known = read(&[load_name.clone(), compare.clone()]);
        let unknown = read(&[load_name, expression("inner", &[]), compare]);

        assert!(matches!(known.conditions[..], [Condition::Incoming(_)]));
        assert!(matches!(unknown.conditions[..], [Condition::Other(_)]));
    }
}
