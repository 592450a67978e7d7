//! The tables of policy: written to the side that nobody reads, then switched to with one word.
//!
//! ```text
//! write: what differs, on the idle side ──► switch ──► settle: the same on the other side
//! ```
//!
//! What the active side says stays as it is until the switch. Once no packet is left that read the
//! old side, that one is made the same: then the next change has to write no more than what it
//! changes, and what is in the tables is known without reading them.

mod coding;
mod observe;
mod overlay;
mod sides;

use std::collections::BTreeMap;

use aya::maps::lpm_trie::Key as Lpm;
use datapath::abi::{self, Addr4, Addr6, PolicyEntry, PolicyKey, PolicyPort, Ruling, Side, Sides};

use self::coding::{Word, outside, policy_entry, policy_key, prefixes, ranges, subject};
pub use self::observe::observe;
use self::observe::{read_entries, read_prefixes, read_ranges, read_subjects};
use self::overlay::Bits;
use self::sides::{Prefixes, Table};
use super::entry::{gone, insert};
use super::pin::Pins;
use super::{Error, table};
use crate::plan::policy::{Entry, EntryKey, Policy};

/// Is a change of policy under way.
pub(super) struct Change<'p> {
    pins: &'p Pins,
    policy: &'p Policy,
    /// Those of IPv4 and of IPv6, if any of them changes.
    prefixes: Option<[Prefixes; 2]>,
    ranges: Table<Ruling>,
    /// All entries, or those of which any change; and what is wanted of them.
    entries: BTreeMap<PolicyKey, Sides<PolicyEntry>>,
    wanted: Vec<(PolicyKey, PolicyEntry)>,
}

/// Writes a policy to the side that is not active. `before` is what both sides say, if that is known.
///
/// # Errors
/// When a map cannot be read or written, as when it is full: then nothing has changed.
pub(super) fn write<'p>(
    pins: &'p Pins,
    before: Option<&Policy>,
    policy: &'p Policy,
    active: Side,
) -> Result<Change<'p>, Error> {
    let mut change = match before {
        Some(before) => Change::settled(pins, before, policy),
        None => Change::found(pins, policy)?,
    };
    change.fill(active.other())?;
    Ok(change)
}

impl<'p> Change<'p> {
    /// Begins with tables of which both sides say the same.
    fn settled(pins: &'p Pins, before: &Policy, policy: &'p Policy) -> Self {
        let settled_prefixes = || {
            let [before4, before6] = prefixes(before);
            let [after4, after6] = prefixes(policy);
            [
                Prefixes::settled(before4, after4),
                Prefixes::settled(before6, after6),
            ]
        };
        // Of a large policy, most is as it was: only the rest is looked at from here on.
        let (written, removed) = overlay::difference(&before.entries, &policy.entries);
        let changed = written.iter().map(|(key, _)| *key).chain(removed);
        let both = |key: &EntryKey| {
            let entry = before.entries.get(key)?;
            Some((policy_key(*key), Sides::both(policy_entry(*entry))))
        };
        Self {
            pins,
            policy,
            prefixes: (before.prefixes != policy.prefixes).then(settled_prefixes),
            ranges: Table::settled(ranges(before), Vec::new()),
            entries: changed.filter_map(both).collect(),
            wanted: written.into_iter().map(entry).collect(),
        }
    }

    /// Begins with tables as they are.
    fn found(pins: &'p Pins, policy: &'p Policy) -> Result<Self, Error> {
        let [after4, after6] = prefixes(policy);
        Ok(Self {
            pins,
            policy,
            prefixes: Some([
                Prefixes::found(read_prefixes::<Addr4>(pins, "PREFIXES4")?, after4),
                Prefixes::found(read_prefixes::<Addr6>(pins, "PREFIXES6")?, after6),
            ]),
            ranges: Table::found(read_ranges(&table::ranges(pins)?)?),
            entries: read_entries(pins)?.into_iter().collect(),
            wanted: policy.entries.iter().map(entry).collect(),
        })
    }

    /// Makes the side that was active until now say the same as the other one.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub(super) fn settle(mut self, active: Side) -> Result<(), Error> {
        self.fill(active.other())
    }

    /// Gives one side the policy.
    fn fill(&mut self, idle: Side) -> Result<(), Error> {
        if let Some([prefixes4, prefixes6]) = &mut self.prefixes {
            let map = ("PREFIXES4", table::prefixes4(self.pins)?);
            prefixes4.fill(self.pins, map, idle)?;
            let map = ("PREFIXES6", table::prefixes6(self.pins)?);
            prefixes6.fill(self.pins, map, idle)?;
        }
        self.fill_ranges(idle)?;
        self.fill_entries(idle)?;
        fill_subjects(self.pins, self.policy, idle)
    }

    fn fill_ranges(&mut self, idle: Side) -> Result<(), Error> {
        let (written, removed) = self.ranges.change(ranges(self.policy), Vec::new(), idle);
        let mut trie = table::ranges(self.pins)?;
        let key = |bits: Bits| Lpm::new(u32::from(bits.len), PolicyPort::from_word(bits.value));
        for (bits, sides) in written {
            insert("RANGES", trie.insert(&key(bits), sides, 0))?;
        }
        for bits in removed {
            gone("RANGES", trie.remove(&key(bits)))?;
        }
        Ok(())
    }

    fn fill_entries(&mut self, idle: Side) -> Result<(), Error> {
        let mut wanted: BTreeMap<PolicyKey, Sides<PolicyEntry>> = BTreeMap::new();
        for (key, sides) in &self.entries {
            let entry = sides.get(idle.other());
            if entry.ruling.decision().is_some() {
                wanted.entry(*key).or_default().set(idle.other(), entry);
            }
        }
        for (key, entry) in &self.wanted {
            wanted.entry(*key).or_default().set(idle, *entry);
        }
        let mut map = table::policy(self.pins)?;
        for key in self.entries.keys().filter(|key| !wanted.contains_key(key)) {
            gone("POLICY", map.remove(key))?;
        }
        for (key, sides) in &wanted {
            if self.entries.get(key) != Some(sides) {
                insert("POLICY", map.insert(key, sides, 0))?;
            }
        }
        self.entries = wanted;
        Ok(())
    }
}

fn entry((key, entry): (&EntryKey, &Entry)) -> (PolicyKey, PolicyEntry) {
    (policy_key(*key), policy_entry(*entry))
}

/// Gives one side what the parties are; one that nobody knows may neither send nor receive.
fn fill_subjects(pins: &Pins, policy: &Policy, idle: Side) -> Result<(), Error> {
    let present: BTreeMap<_, _> = read_subjects(pins)?.into_iter().collect();
    let mut wanted: BTreeMap<u64, Sides<abi::Subject>> = BTreeMap::new();
    for (key, sides) in &present {
        let subject = sides.get(idle.other());
        if subject.identity != 0 {
            wanted.entry(*key).or_default().set(idle.other(), subject);
        }
    }
    let subjects = policy.subjects.iter();
    for (key, subject) in subjects.map(subject).chain([outside()]) {
        wanted.entry(key).or_default().set(idle, subject);
    }
    let mut map = table::subjects(pins)?;
    for (key, sides) in &wanted {
        if present.get(key) != Some(sides) {
            insert("SUBJECTS", map.insert(key, sides, 0))?;
        }
    }
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        gone("SUBJECTS", map.remove(key))?;
    }
    Ok(())
}
