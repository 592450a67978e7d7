//! The tables of policy: written to the side that nobody reads, then switched to with one word.
//!
//! Only what differs is written, and what the active side says stays as it is until the switch. The
//! other side keeps what it said; the next change writes over it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use aya::Pod;
use aya::maps::lpm_trie::{Key as Lpm, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use datapath::abi::{
    self, Addr4, Addr6, EGRESS, INGRESS, Lengths, PolicyEntry, PolicyKey, PolicyPort, PrefixKey,
    Ruling, SLOT_OUTSIDE, Side, Sides,
};
use ipnet::IpNet;

use super::entry::{gone, insert};
use super::overlay::{self, Bits, Set};
use super::pin::Pins;
use super::{Error, batch, table};
use crate::plan::policy::{Decision, Direction, Entry, EntryKey, Policy, Range, Subject, Verdict};
use crate::topology::Prefix;
use crate::topology::prefix::WORLD;

/// Length of a row in bits.
const ROW_BITS: u8 = 32;
const _: () = assert!(ROW_BITS as u32 == PolicyPort::ROW_BITS);

/// Writes a policy to the side that is not active.
///
/// # Errors
/// When a map cannot be read or written, as when it is full: then nothing has changed.
pub(super) fn write(pins: &Pins, policy: &Policy, active: Side) -> Result<(), Error> {
    let [prefixes4, prefixes6] = prefixes(policy);
    let mut map = table::prefixes4(pins)?;
    write_prefixes(pins, ("PREFIXES4", &mut map), &prefixes4, active)?;
    let mut map = table::prefixes6(pins)?;
    write_prefixes(pins, ("PREFIXES6", &mut map), &prefixes6, active)?;
    let ranges = policy.ranges.iter().map(|(range, verdict)| {
        let port = PolicyPort::new(range.row, range.protocol, range.port);
        let len = ROW_BITS + range.bits;
        (bits(port, len), ruling(*verdict))
    });
    let mut ranges: Set<_> = ranges.collect();
    ranges.sort_by_key(|(bits, _)| *bits);
    write_ranges(&mut table::ranges(pins)?, &ranges, active)?;
    write_entries(pins, policy, active)?;
    write_subjects(&mut table::subjects(pins)?, policy, active)
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
    let subjects = table::subjects(pins)?;
    for slot in (0..subjects.len()).filter(|slot| *slot != u32::from(SLOT_OUTSIDE)) {
        let subject = read_subject(&subjects, slot)?.get(active);
        if let (Ok(slot), true) = (u16::try_from(slot), subject.identity != 0) {
            let subject = Subject {
                identity: subject.identity,
                policy: subject.policy,
                audit: subject.audit != 0,
            };
            policy.subjects.insert(slot, subject);
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

/// A table of prefixes, and its name.
type Prefixes<'m, A> = (
    &'static str,
    &'m mut HashMap<MapData, PrefixKey<A>, Sides<abi::Prefix>>,
);

/// Gives the idle side of a table of prefixes a new set.
fn write_prefixes<A: Word>(
    pins: &Pins,
    (name, map): Prefixes<'_, A>,
    idle: &Set<abi::Prefix>,
    side: Side,
) -> Result<(), Error>
where
    PrefixKey<A>: Pod + Default,
{
    let present = read_prefixes::<A>(pins, name)?;
    let active = overlay::side(&present, side);
    let [here, there] = [&active, idle].map(overlay::lengths);
    if there.len() > Lengths::MOST as usize {
        return Err(Error::TooManyLengths(there.len()));
    }
    let markers = overlay::markers(&active, &here).into_iter();
    let markers = markers.chain(overlay::markers(idle, &there));
    let wanted = overlay::join(&active, idle, markers, side);
    let (written, removed) = overlay::difference(&present, &wanted);
    let key = |bits: Bits| PrefixKey::new(A::from_word(bits.value), u32::from(bits.len));
    for (bits, sides) in written {
        insert(name, map.insert(key(bits), sides, 0))?;
    }
    for bits in removed {
        gone(name, map.remove(&key(bits)))?;
    }
    let rest = idle.first().filter(|(bits, _)| bits.len == 0);
    let mut lengths = Lengths {
        count: u32::try_from(there.len()).unwrap_or(Lengths::MOST),
        rest: rest.map(|(_, prefix)| *prefix).unwrap_or_default(),
        ..Lengths::default()
    };
    lengths.bits[..there.len()].copy_from_slice(&there);
    let index = A::FAMILY * 2 + side.other().number();
    let mut map = table::lengths(pins)?;
    insert("LENGTHS", map.set(index, lengths, 0))
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

/// Gives the idle side of the ranges a new set.
fn write_ranges(
    trie: &mut LpmTrie<MapData, PolicyPort, Sides<Ruling>>,
    idle: &Set<Ruling>,
    side: Side,
) -> Result<(), Error> {
    let present = read_ranges(trie)?;
    let wanted = overlay::join(&overlay::side(&present, side), idle, [], side);
    let (written, removed) = overlay::difference(&present, &wanted);
    let key = |bits: Bits| Lpm::new(u32::from(bits.len), PolicyPort::from_word(bits.value));
    for (bits, sides) in written {
        insert("RANGES", trie.insert(&key(bits), sides, 0))?;
    }
    for bits in removed {
        gone("RANGES", trie.remove(&key(bits)))?;
    }
    Ok(())
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

fn write_entries(pins: &Pins, policy: &Policy, active: Side) -> Result<(), Error> {
    let present: BTreeMap<_, _> = read_entries(pins)?.into_iter().collect();
    let mut wanted: BTreeMap<PolicyKey, Sides<PolicyEntry>> = BTreeMap::new();
    for (key, sides) in &present {
        let entry = sides.get(active);
        if entry.ruling.decision().is_some() {
            wanted.entry(*key).or_default().set(active, entry);
        }
    }
    for (key, entry) in &policy.entries {
        let value = PolicyEntry {
            row: entry.row,
            ruling: ruling(entry.verdict),
        };
        let sides = wanted.entry(policy_key(*key)).or_default();
        sides.set(active.other(), value);
    }
    let mut map = table::policy(pins)?;
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        gone("POLICY", map.remove(key))?;
    }
    for (key, sides) in &wanted {
        if present.get(key) != Some(sides) {
            insert("POLICY", map.insert(key, sides, 0))?;
        }
    }
    Ok(())
}

fn read_entries(pins: &Pins) -> Result<Vec<(PolicyKey, Sides<PolicyEntry>)>, Error> {
    batch::entries(pins, "POLICY")
}

fn write_subjects(
    map: &mut Array<MapData, Sides<abi::Subject>>,
    policy: &Policy,
    active: Side,
) -> Result<(), Error> {
    for slot in 0..map.len() {
        let wanted = subject(policy, slot);
        let mut sides = read_subject(map, slot)?;
        if sides.get(active.other()) != wanted {
            sides.set(active.other(), wanted);
            insert("SUBJECTS", map.set(slot, sides, 0))?;
        }
    }
    Ok(())
}

fn read_subject(
    map: &Array<MapData, Sides<abi::Subject>>,
    slot: u32,
) -> Result<Sides<abi::Subject>, Error> {
    map.get(&slot, 0)
        .map_err(|error| Error::map("read map", "SUBJECTS", &error))
}

/// Returns what a slot is; a slot of nobody may neither send nor receive.
fn subject(policy: &Policy, slot: u32) -> abi::Subject {
    if slot == u32::from(SLOT_OUTSIDE) {
        return abi::Subject {
            identity: WORLD,
            ..abi::Subject::default()
        };
    }
    let known = u16::try_from(slot).ok();
    let subject = known.and_then(|slot| policy.subjects.get(&slot));
    subject.map_or_else(abi::Subject::default, |subject| abi::Subject {
        identity: subject.identity,
        policy: subject.policy,
        audit: u32::from(subject.audit),
    })
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
