//! The policy that holds, read from the side of the tables that is active.

use std::net::IpAddr;
use std::sync::Arc;

use aya::Pod;
use aya::maps::MapData;
use aya::maps::lpm_trie::LpmTrie;
use datapath::abi::{
    self, Addr4, Addr6, PolicyEntry, PolicyKey, PolicyPort, PrefixKey, Ruling, SLOT_OUTSIDE, Side,
    Sides,
};
use ipnet::IpNet;

use super::coding::{ROW_BITS, Word, bits, entry_key, verdict};
use super::overlay::{self, Set};
use crate::datapath::pin::Pins;
use crate::datapath::{Error, batch, table};
use crate::plan::object::Mac;
use crate::plan::policy::{Entry, Policy, Range, Subject};
use crate::topology::Prefix;

/// Reads the policy that holds.
///
/// # Errors
/// When a map cannot be read.
pub fn observe(pins: &Pins, active: Side) -> Result<Arc<Policy>, Error> {
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

pub(super) fn read_prefixes<A: Word>(
    pins: &Pins,
    name: &'static str,
) -> Result<Set<Sides<abi::Prefix>>, Error>
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

pub(super) fn read_ranges(
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

pub(super) fn read_entries(pins: &Pins) -> Result<Vec<(PolicyKey, Sides<PolicyEntry>)>, Error> {
    batch::entries(pins, "POLICY")
}

pub(super) fn read_subjects(pins: &Pins) -> Result<Vec<(u64, Sides<abi::Subject>)>, Error> {
    batch::entries(pins, "SUBJECTS")
}
