//! The tables of policy: written to the side that nobody reads, then switched to with one word.
//!
//! ```text
//! write: what differs, on the idle side ──► switch ──► settle: the same on the other side
//! ```
//!
//! What the active side says stays as it is until the switch. Once no packet is left that read the
//! old side, that one is made the same: then the next change has to write no more than what it
//! changes, and what is in the tables is known without reading them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use aya::Pod;
use aya::maps::lpm_trie::{Key as Lpm, LpmTrie};
use aya::maps::{HashMap, MapData};
use datapath::abi::{
    self, Addr4, Addr6, EGRESS, INGRESS, Lengths, PolicyEntry, PolicyKey, PolicyPort, PrefixKey,
    Ruling, SLOT_OUTSIDE, Side, Sides,
};
use ipnet::IpNet;

use super::entry::{gone, insert};
use super::overlay::{self, Bits, Set};
use super::pin::Pins;
use super::{Error, batch, table};
use crate::plan::object::Mac;
use crate::plan::policy::{Decision, Direction, Entry, EntryKey, Policy, Range, Subject, Verdict};
use crate::topology::Prefix;
use crate::topology::prefix::WORLD;

/// Length of a row in bits.
const ROW_BITS: u8 = 32;
const _: () = assert!(ROW_BITS as u32 == PolicyPort::ROW_BITS);

/// Is a change of policy under way.
pub(super) struct Change<'p> {
    pins: &'p Pins,
    policy: &'p Policy,
    prefixes4: Prefixes,
    prefixes6: Prefixes,
    ranges: Table<Ruling>,
    entries: BTreeMap<PolicyKey, Sides<PolicyEntry>>,
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
        let [before4, before6] = prefixes(before);
        let [after4, after6] = prefixes(policy);
        let both = |(key, entry): (&EntryKey, &Entry)| {
            (policy_key(*key), Sides::both(policy_entry(*entry)))
        };
        Self {
            pins,
            policy,
            prefixes4: Prefixes::settled(before4, after4),
            prefixes6: Prefixes::settled(before6, after6),
            ranges: Table::settled(ranges(before), Vec::new()),
            entries: before.entries.iter().map(both).collect(),
        }
    }

    /// Begins with tables as they are.
    fn found(pins: &'p Pins, policy: &'p Policy) -> Result<Self, Error> {
        let [after4, after6] = prefixes(policy);
        Ok(Self {
            pins,
            policy,
            prefixes4: Prefixes::found(read_prefixes::<Addr4>(pins, "PREFIXES4")?, after4),
            prefixes6: Prefixes::found(read_prefixes::<Addr6>(pins, "PREFIXES6")?, after6),
            ranges: Table::found(read_ranges(&table::ranges(pins)?)?),
            entries: read_entries(pins)?.into_iter().collect(),
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
        let map = ("PREFIXES4", table::prefixes4(self.pins)?);
        self.prefixes4.fill(self.pins, map, idle)?;
        let map = ("PREFIXES6", table::prefixes6(self.pins)?);
        self.prefixes6.fill(self.pins, map, idle)?;
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
        for (key, entry) in &self.policy.entries {
            let sides = wanted.entry(policy_key(*key)).or_default();
            sides.set(idle, policy_entry(*entry));
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

/// Is a table as it is, and what each of its sides says.
struct Table<V> {
    present: Set<Sides<V>>,
    sides: [Set<V>; 2],
    /// By which lengths each side is searched, if it is.
    lengths: [Vec<u8>; 2],
}

impl<V: Copy + PartialEq + Default> Table<V> {
    /// Describes a table of which both sides say the same.
    fn settled(set: Set<V>, lengths: Vec<u8>) -> Self {
        let markers = overlay::markers(&set, &lengths);
        Self {
            present: overlay::join(&set, &set, markers, Side::of(0)),
            sides: [set.clone(), set],
            lengths: [lengths.clone(), lengths],
        }
    }

    /// Describes a table that was read, and is not searched by lengths.
    fn found(present: Set<Sides<V>>) -> Self {
        let sides = [0, 1].map(|number| overlay::side(&present, Side::of(number)));
        Self {
            present,
            sides,
            lengths: [Vec::new(), Vec::new()],
        }
    }

    /// Describes the same, searched by the lengths that there are.
    fn searched(self) -> Self {
        Self {
            lengths: self.sides.each_ref().map(overlay::lengths),
            ..self
        }
    }

    /// Gives one side another set; returns what has to be written for it, then what to be removed.
    fn change(
        &mut self,
        wanted: Set<V>,
        lengths: Vec<u8>,
        idle: Side,
    ) -> (Set<Sides<V>>, Vec<Bits>) {
        let place = idle.number() as usize;
        (self.sides[place], self.lengths[place]) = (wanted, lengths);
        let [here, there] = [idle.other(), idle].map(|side| side.number() as usize);
        let markers = [here, there].map(|at| overlay::markers(&self.sides[at], &self.lengths[at]));
        let joined = overlay::join(
            &self.sides[here],
            &self.sides[there],
            markers.into_iter().flatten(),
            idle.other(),
        );
        let difference = overlay::difference(&self.present, &joined);
        self.present = joined;
        difference
    }
}

/// Is a change of the prefixes of a family.
struct Prefixes {
    /// The whole table, or the part of it in which anything changes.
    table: Table<abi::Prefix>,
    wanted: Set<abi::Prefix>,
    /// All prefixes that are wanted.
    all: Set<abi::Prefix>,
}

impl Prefixes {
    /// Begins with a table of which both sides say what `before` does.
    fn settled(before: Set<abi::Prefix>, all: Set<abi::Prefix>) -> Self {
        let lengths = overlay::lengths(&before);
        let (before, wanted) = match overlay::narrow(&before, &all) {
            Some([before, wanted]) => (before, wanted),
            None => (before, all.clone()),
        };
        Self {
            table: Table::settled(before, lengths),
            wanted,
            all,
        }
    }

    fn found(present: Set<Sides<abi::Prefix>>, all: Set<abi::Prefix>) -> Self {
        Self {
            table: Table::found(present).searched(),
            wanted: all.clone(),
            all,
        }
    }

    /// Gives one side what is wanted.
    fn fill<A: Word>(
        &mut self,
        pins: &Pins,
        (name, mut map): PrefixMap<A>,
        idle: Side,
    ) -> Result<(), Error>
    where
        PrefixKey<A>: Pod,
    {
        let known = overlay::lengths(&self.all);
        if known.len() > Lengths::MOST as usize {
            return Err(Error::TooManyLengths(known.len()));
        }
        let rest = self.all.first().filter(|(bits, _)| bits.len == 0);
        let mut lengths = Lengths {
            count: u32::try_from(known.len()).unwrap_or(Lengths::MOST),
            rest: rest.map(|(_, prefix)| *prefix).unwrap_or_default(),
            ..Lengths::default()
        };
        lengths.bits[..known.len()].copy_from_slice(&known);
        let wanted = self.wanted.clone();
        let (written, removed) = self.table.change(wanted, known.clone(), idle);
        let key = |bits: Bits| PrefixKey::new(A::from_word(bits.value), u32::from(bits.len));
        for (bits, sides) in written {
            insert(name, map.insert(key(bits), sides, 0))?;
        }
        // A marker may be needed for what lies outside of the part.
        for bits in removed {
            if !overlay::needs(&self.all, &known, bits) {
                gone(name, map.remove(&key(bits)))?;
            }
        }
        let index = A::FAMILY * 2 + idle.number();
        insert("LENGTHS", table::lengths(pins)?.set(index, lengths, 0))
    }
}

/// The map of the prefixes of a family, and its name.
type PrefixMap<A> = (
    &'static str,
    HashMap<MapData, PrefixKey<A>, Sides<abi::Prefix>>,
);

/// Returns the ranges of a policy in the order of their bits.
fn ranges(policy: &Policy) -> Set<Ruling> {
    let ranges = policy.ranges.iter().map(|(range, verdict)| {
        let port = PolicyPort::new(range.row, range.protocol, range.port);
        (bits(port, ROW_BITS + range.bits), ruling(*verdict))
    });
    let mut ranges: Set<_> = ranges.collect();
    ranges.sort_by_key(|(bits, _)| *bits);
    ranges
}

/// Reads the policy that holds.
///
/// # Errors
/// When a map cannot be read.
pub(super) fn observe(pins: &Pins, active: Side) -> Result<Arc<Policy>, Error> {
    let mut policy = Policy::default();
    for (bits, prefix) in overlay::side(&read_prefixes::<Addr4>(pins, "PREFIXES4")?, active) {
        let address = Addr4::from_word(bits.value);
        take_prefix(&mut policy, address.octets().into(), bits.len, prefix);
    }
    for (bits, prefix) in overlay::side(&read_prefixes::<Addr6>(pins, "PREFIXES6")?, active) {
        let address = Addr6::from_word(bits.value);
        take_prefix(&mut policy, address.octets().into(), bits.len, prefix);
    }
    for (bits, ruling) in overlay::side(&read_ranges(&table::ranges(pins)?)?, active) {
        let port = PolicyPort::from_word(bits.value);
        let range = Range {
            row: port.row(),
            protocol: port.protocol(),
            port: port.port(),
            bits: bits.len.saturating_sub(ROW_BITS),
        };
        let verdict = verdict(ruling).map(|verdict| (range, verdict));
        policy.ranges.extend(verdict);
    }
    for (key, sides) in read_entries(pins)? {
        let entry = sides.get(active);
        if let (Some(key), Some(verdict)) = (entry_key(key), verdict(entry.ruling)) {
            let entry = Entry {
                row: entry.row,
                verdict,
            };
            policy.entries.insert(key, entry);
        }
    }
    for (key, sides) in read_subjects(pins)? {
        let subject = sides.get(active);
        if key != u64::from(SLOT_OUTSIDE) && subject.identity != 0 {
            let [_, _, mac @ ..] = key.to_be_bytes();
            let known = Subject {
                mac: Mac(mac),
                identity: subject.identity,
                policy: subject.policy,
                audit: subject.audit != 0,
            };
            policy.subjects.insert(subject.slot, known);
        }
    }
    Ok(Arc::new(policy))
}

/// Splits the prefixes by their families.
fn prefixes(policy: &Policy) -> [Set<abi::Prefix>; 2] {
    let mut sets = [Set::new(), Set::new()];
    for (net, prefix) in &policy.prefixes {
        let (set, key) = match net {
            IpNet::V4(net) => {
                let address = Addr4::new(net.network().octets());
                (&mut sets[0], bits(address, net.prefix_len()))
            }
            IpNet::V6(net) => {
                let address = Addr6::new(net.network().octets());
                (&mut sets[1], bits(address, net.prefix_len()))
            }
        };
        // Networks of one family have the order of their bits.
        set.push((key, abi::Prefix::new(prefix.identity, prefix.excluded)));
    }
    sets
}

fn take_prefix(policy: &mut Policy, address: IpAddr, len: u8, prefix: abi::Prefix) {
    // No length is written that the family does not have.
    if let Ok(net) = IpNet::new(address, len) {
        let prefix = Prefix {
            identity: prefix.identity(),
            excluded: prefix.is_excluded(),
        };
        policy.prefixes.insert(net, prefix);
    }
}

fn read_prefixes<A: Word>(pins: &Pins, name: &'static str) -> Result<Set<Sides<abi::Prefix>>, Error>
where
    PrefixKey<A>: Pod + Default,
{
    let entries = batch::entries::<PrefixKey<A>, _>(pins, name)?.into_iter();
    let mut found: Set<_> = entries
        .map(|(key, sides)| {
            let len = u8::try_from(key.len).unwrap_or(u8::MAX);
            (bits(key.address, len), sides)
        })
        .collect();
    found.sort_unstable_by_key(|(bits, _)| *bits);
    Ok(found)
}

fn read_ranges(
    trie: &LpmTrie<MapData, PolicyPort, Sides<Ruling>>,
) -> Result<Set<Sides<Ruling>>, Error> {
    let mut found = Set::new();
    for entry in trie {
        let (key, sides) = entry.map_err(|error| Error::map("read map", "RANGES", &error))?;
        // The kernel refuses a length that its key has no room for.
        let len = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
        found.push((bits(key.data(), len), sides));
    }
    found.sort_unstable_by_key(|(bits, _)| *bits);
    Ok(found)
}

fn read_entries(pins: &Pins) -> Result<Vec<(PolicyKey, Sides<PolicyEntry>)>, Error> {
    batch::entries(pins, "POLICY")
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

fn read_subjects(pins: &Pins) -> Result<Vec<(u64, Sides<abi::Subject>)>, Error> {
    batch::entries(pins, "SUBJECTS")
}

/// Returns a subject as the kernel has it, and its key: see [`abi::Party::subject`].
fn subject((slot, subject): (&u16, &Subject)) -> (u64, abi::Subject) {
    let mut key = [0; 8];
    key[2..].copy_from_slice(&subject.mac.0);
    let known = abi::Subject {
        identity: subject.identity,
        policy: subject.policy,
        audit: u16::from(subject.audit),
        slot: *slot,
    };
    (u64::from_be_bytes(key), known)
}

/// Returns the world, for which nothing is decided.
fn outside() -> (u64, abi::Subject) {
    let known = abi::Subject {
        identity: WORLD,
        slot: SLOT_OUTSIDE,
        ..abi::Subject::default()
    };
    (u64::from(SLOT_OUTSIDE), known)
}

fn policy_key(key: EntryKey) -> PolicyKey {
    PolicyKey {
        policy: key.subject,
        direction: match key.direction {
            Direction::Ingress => INGRESS,
            Direction::Egress => EGRESS,
        },
        identity: key.identity,
    }
}

fn policy_entry(entry: Entry) -> PolicyEntry {
    PolicyEntry {
        row: entry.row,
        ruling: ruling(entry.verdict),
    }
}

fn entry_key(key: PolicyKey) -> Option<EntryKey> {
    let direction = match key.direction {
        INGRESS => Direction::Ingress,
        EGRESS => Direction::Egress,
        _ => return None,
    };
    Some(EntryKey {
        subject: key.policy,
        direction,
        identity: key.identity,
    })
}

fn ruling(verdict: Verdict) -> Ruling {
    let decision = match verdict.decision {
        Decision::Allow => abi::Decision::Allow,
        Decision::Deny => abi::Decision::Deny,
        Decision::Reject => abi::Decision::Reject,
    };
    Ruling::new(decision, verdict.term)
}

fn verdict(ruling: Ruling) -> Option<Verdict> {
    let decision = match ruling.decision()? {
        abi::Decision::Allow => Decision::Allow,
        abi::Decision::Deny => Decision::Deny,
        abi::Decision::Reject => Decision::Reject,
    };
    Some(Verdict {
        decision,
        term: ruling.term,
    })
}

/// Returns the first bits of a key.
fn bits<K: Word>(key: K, len: u8) -> Bits {
    Bits {
        value: key.word(),
        len,
    }
}

/// Is a key of prefixes as a number, its first bit the highest.
trait Word: Copy {
    /// Place of its family among the lengths of prefixes.
    const FAMILY: u32;

    fn word(self) -> u128;
    fn from_word(word: u128) -> Self;
}

impl Word for Addr4 {
    const FAMILY: u32 = 0;

    fn word(self) -> u128 {
        u128::from(u32::from_be_bytes(self.octets())) << 96
    }

    fn from_word(word: u128) -> Self {
        let [a, b, c, d, ..] = word.to_be_bytes();
        Self::new([a, b, c, d])
    }
}

impl Word for Addr6 {
    const FAMILY: u32 = 1;

    fn word(self) -> u128 {
        u128::from_be_bytes(self.octets())
    }

    fn from_word(word: u128) -> Self {
        Self::new(word.to_be_bytes())
    }
}

impl Word for PolicyPort {
    const FAMILY: u32 = 2;

    fn word(self) -> u128 {
        let port = u128::from(self.protocol()) << 16 | u128::from(self.port());
        (u128::from(self.row()) << 24 | port) << 72
    }

    fn from_word(word: u128) -> Self {
        let [row @ .., protocol, high, low] = (word >> 72).to_be_bytes();
        let [.., a, b, c, d] = row;
        let port = u16::from_be_bytes([high, low]);
        Self::new(u32::from_be_bytes([a, b, c, d]), protocol, port)
    }
}
