//! The tables of legacy iptables, read as `iptables-legacy -S` reads them.
//!
//! Only tables that are listed are read: asking for another one would create it. A table is one
//! block of entries; an entry is an address part, matches, and a target. The first entries of
//! built-in chains are known by offset, the others begin behind an entry with the target
//! `ERROR`, which holds their name.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash as _, Hasher};

use super::register::Loaded;
use super::ruleset::{Base, Chain, Condition, Effect, Family, Hook, Names, Rule, Tool};
use super::sockopt::{self, Block};
use super::xtables;
use crate::host::error::{Error, Result};
use crate::host::raw::text;

/// Length of the header of a match or target, and of the name in it.
const PART_LEN: usize = 32;
const PART_NAME: usize = 29;

/// Length of the counters of an entry: packets and bytes.
const COUNTERS_LEN: usize = 16;

/// Space for a link's name.
const NAME_LEN: usize = 16;

/// Verdicts of a target without a name; others are offsets to jump to.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

/// Bits that invert a condition (`IPT_INV_*`).
const INVERTED_IN: u8 = 0x01;
const INVERTED_OUT: u8 = 0x02;
const INVERTED_SOURCE: u8 = 0x08;
const INVERTED_DESTINATION: u8 = 0x10;

/// The built-in chains by number, and the hooks of those that are looked at.
const BUILT_IN: [(&str, Option<Hook>); 5] = [
    ("PREROUTING", Some(Hook::Prerouting)),
    ("INPUT", None),
    ("FORWARD", Some(Hook::Forward)),
    ("OUTPUT", None),
    ("POSTROUTING", Some(Hook::Postrouting)),
];

/// Is how the entries of a family are laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    family: Family,
    names: &'static str,
    address_len: usize,
    /// Where the flags and, behind them, the inversions are.
    flags_at: usize,
    /// The bit of a jump that does not come back (`IPT_F_GOTO`, `IP6T_F_GOTO`).
    goto_bit: u8,
    /// Where the offsets of target and next entry are.
    offsets_at: usize,
    /// Where matches begin.
    entry_len: usize,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        family: Family::Ip,
        names: "/proc/thread-self/net/ip_tables_names",
        address_len: 4,
        flags_at: 82,
        goto_bit: 0x02,
        offsets_at: 88,
        entry_len: 112,
    },
    Layout {
        family: Family::Ip6,
        names: "/proc/thread-self/net/ip6_tables_names",
        address_len: 16,
        flags_at: 131,
        goto_bit: 0x04,
        offsets_at: 140,
        entry_len: 168,
    },
];

/// Reads the chains of all tables that exist.
///
/// # Errors
/// When the kernel refuses.
pub fn dump() -> Result<Vec<Chain>> {
    let mut chains = Vec::new();
    each_table(|table, entries| chains.extend(table.chains(entries)))?;
    Ok(chains)
}

/// Adds the rules of all tables that exist to a number, without their counters.
///
/// # Errors
/// When the kernel refuses.
pub fn take(hasher: &mut impl Hasher) -> Result<()> {
    each_table(|table, entries| {
        table.name.hash(hasher);
        // The counters are what a header ends with.
        let counters = table.layout.entry_len - COUNTERS_LEN..table.layout.entry_len;
        for entry in entries {
            entry.bytes[..counters.start].hash(hasher);
            entry.bytes[counters.end..].hash(hasher);
        }
    })
}

/// Reads all tables that exist, one after the other.
fn each_table(mut read: impl FnMut(&Table<'_>, &[Entry<'_>])) -> Result<()> {
    for layout in LAYOUTS {
        let mut names: Vec<String> = fs::read_to_string(layout.names)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        for name in names {
            let block = sockopt::read(layout.family == Family::Ip6, &name)?;
            let table = Table {
                layout,
                name: &name,
                block: &block,
            };
            let entries = table.entries().ok_or_else(|| Error::Unreadable {
                what: format!("list iptables table {name}"),
                detail: "an entry leads out of the table".into(),
            })?;
            read(&table, &entries);
        }
    }
    Ok(())
}

/// Is a table and the block of its entries.
struct Table<'a> {
    layout: Layout,
    name: &'a str,
    block: &'a Block,
}

/// Is one entry of a table.
struct Entry<'a> {
    at: usize,
    next: usize,
    bytes: &'a [u8],
    matches: Vec<(String, u8, &'a [u8])>,
    target: String,
    revision: u8,
    info: &'a [u8],
}

impl<'a> Table<'a> {
    /// Splits the block; `None` if something leads out of it.
    fn entries(&self) -> Option<Vec<Entry<'a>>> {
        let (mut entries, mut at) = (Vec::new(), 0);
        while at < self.block.entries.len() {
            let entry = self.entry(at)?;
            at = entry.next;
            entries.push(entry);
        }
        Some(entries)
    }

    fn entry(&self, at: usize) -> Option<Entry<'a>> {
        let Layout {
            offsets_at,
            entry_len,
            ..
        } = self.layout;
        let rest = &self.block.entries[at..];
        let (target_at, len) = (half(rest, offsets_at)?, half(rest, offsets_at + 2)?);
        if target_at < entry_len || target_at > len || len < entry_len + PART_LEN {
            return None;
        }
        let bytes = rest.get(..len)?;
        let (mut matches, mut part_at) = (Vec::new(), entry_len);
        while part_at < target_at {
            let (name, revision, info, len) = part(&bytes[part_at..target_at])?;
            matches.push((name, revision, info));
            part_at += len;
        }
        let (target, revision, info, _) = part(&bytes[target_at..])?;
        Some(Entry {
            at,
            next: at + len,
            bytes,
            matches,
            target,
            revision,
            info,
        })
    }

    fn chains(&self, entries: &[Entry<'_>]) -> Vec<Chain> {
        let called: BTreeMap<usize, String> = entries
            .iter()
            .filter(|entry| entry.target == "ERROR")
            .map(|entry| (entry.next, text(entry.info)))
            .collect();
        let mut chains: Vec<Chain> = Vec::new();
        for entry in entries {
            let built_in = self
                .block
                .hooks
                .iter()
                .position(|hook| *hook == Some(entry.at));
            if let Some(number) = built_in {
                chains.push(self.built_in(number));
            } else if let Some(name) = called.get(&entry.at) {
                chains.push(self.chain(name, None));
            }
            let is_policy = self.block.policies.contains(&Some(entry.at));
            match chains.last_mut() {
                Some(chain) if is_policy => {
                    if let Some(base) = &mut chain.base {
                        base.drops = verdict(entry) == Some(DROP);
                    }
                }
                Some(chain) if entry.target != "ERROR" => {
                    let number = chain.rules.last().map_or(1, |rule| rule.number + 1);
                    chain.rules.push(self.rule(number, entry, &called));
                }
                _ => {}
            }
        }
        chains
    }

    fn built_in(&self, number: usize) -> Chain {
        let (name, hook) = BUILT_IN[number];
        let base = hook.map(|hook| Base {
            hook,
            priority: 0,
            drops: false,
            devices: Names::default(),
        });
        self.chain(name, base)
    }

    fn chain(&self, name: &str, base: Option<Base>) -> Chain {
        Chain {
            tool: Tool::LegacyIptables,
            family: self.layout.family,
            table: self.name.to_owned(),
            name: name.to_owned(),
            base,
            rules: Vec::new(),
        }
    }

    fn rule(&self, number: u64, entry: &Entry<'_>, called: &BTreeMap<usize, String>) -> Rule {
        let mut conditions = self.addresses(entry.bytes);
        conditions.extend(self.links(entry.bytes));
        conditions.extend(self.protocol(entry.bytes));
        let matches = entry.matches.iter();
        conditions.extend(matches.filter_map(|(name, revision, info)| {
            xtables::condition(name, u32::from(*revision), info)
        }));
        Rule {
            number,
            conditions,
            effects: vec![self.effect(entry, called)],
        }
    }

    fn effect(&self, entry: &Entry<'_>, called: &BTreeMap<usize, String>) -> Effect {
        if !entry.target.is_empty() {
            let version6 = self.layout.family == Family::Ip6;
            let revision = u32::from(entry.revision);
            return xtables::effect(version6, &entry.target, revision, entry.info);
        }
        let is_goto = entry.bytes[self.layout.flags_at] & self.layout.goto_bit != 0;
        match verdict(entry) {
            Some(DROP) => Effect::Drop("DROP".into()),
            Some(ACCEPT) => Effect::Accept,
            Some(RETURN) => Effect::Return,
            verdict => {
                let to = verdict.and_then(|to| called.get(&usize::try_from(to).ok()?));
                match to.cloned() {
                    Some(name) if is_goto => Effect::Goto(name),
                    Some(name) => Effect::Jump(name),
                    // To the next rule: it only counts.
                    None => Effect::Other("counter".into()),
                }
            }
        }
    }

    fn addresses(&self, entry: &[u8]) -> Vec<Condition> {
        let len = self.layout.address_len;
        let sides = [(true, INVERTED_SOURCE), (false, INVERTED_DESTINATION)];
        let asked = sides.into_iter().filter_map(|(source, bit)| {
            let at = if source { 0 } else { len };
            let mask = &entry[2 * len + at..][..len];
            let loaded = Loaded::Address {
                source,
                version6: self.layout.family == Family::Ip6,
                mask: mask.to_vec(),
            };
            let is_asked = mask.iter().any(|byte| *byte != 0);
            let inverted = self.is_inverted(entry, bit);
            is_asked.then(|| loaded.compared(inverted, &entry[at..][..len]))
        });
        asked.collect()
    }

    fn links(&self, entry: &[u8]) -> Vec<Condition> {
        let names = &entry[self.names_at()..][..4 * NAME_LEN];
        let sides = [(true, INVERTED_IN), (false, INVERTED_OUT)];
        let asked = sides.into_iter().filter_map(|(incoming, bit)| {
            let at = if incoming { 0 } else { NAME_LEN };
            let mask = &names[2 * NAME_LEN + at..][..NAME_LEN];
            let names = Names {
                patterns: vec![pattern(&names[at..][..NAME_LEN], mask)?],
                inverted: self.is_inverted(entry, bit),
            };
            Some(if incoming {
                Condition::Incoming(names)
            } else {
                Condition::Outgoing(names)
            })
        });
        asked.collect()
    }

    fn protocol(&self, entry: &[u8]) -> Option<Condition> {
        let number = half(entry, self.names_at() + 4 * NAME_LEN)?;
        (number != 0).then(|| Condition::Other(format!("-p {number}")))
    }

    /// Returns where the names of links are: behind two addresses and their masks.
    fn names_at(&self) -> usize {
        4 * self.layout.address_len
    }

    fn is_inverted(&self, entry: &[u8], bit: u8) -> bool {
        entry[self.layout.flags_at + 1] & bit != 0
    }
}

/// Reads the verdict of a target without a name.
fn verdict(entry: &Entry<'_>) -> Option<i32> {
    let bytes = entry.info.get(..4)?.try_into().ok()?;
    entry.target.is_empty().then(|| i32::from_ne_bytes(bytes))
}

/// Reads a match or a target: name, revision, information, length.
fn part(bytes: &[u8]) -> Option<(String, u8, &[u8], usize)> {
    let len = half(bytes, 0)?;
    let info = bytes.get(PART_LEN..len)?;
    let name = text(&bytes[2..2 + PART_NAME]);
    Some((name, bytes[PART_LEN - 1], info, len))
}

/// Returns a name, with a star if the mask ends before the name's end; `None` for any name.
fn pattern(name: &[u8], mask: &[u8]) -> Option<String> {
    let name = text(name);
    let masked = mask.iter().take_while(|byte| **byte != 0).count();
    let rest = if masked > name.len() { "" } else { "*" };
    (masked > 0).then(|| format!("{name}{rest}"))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_ne_bytes(bytes)))
}
