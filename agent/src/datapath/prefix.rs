//! The entries of prefixes, in `PREFIXES4` and `PREFIXES6`: the longest one that matches counts.

use std::net::IpAddr;

use aya::Pod;
use aya::maps::MapData;
use aya::maps::lpm_trie::{Key as Lpm, LpmTrie};
use datapath::abi::{Addr4, Addr6, Prefix};
use ipnet::IpNet;

use super::entry::{gone, insert};
use super::pin::Pins;
use super::{Error, table};
use crate::plan::object::{Key, State, Value};

/// Writes the entry of a prefix.
///
/// # Errors
/// When the map cannot be written.
pub(super) fn set(pins: &Pins, prefix: IpNet, value: &Value) -> Result<(), Error> {
    let Value::PrefixEntry { identity, excluded } = value else {
        return Err(Error::NotOurs(format!("{value:?}")));
    };
    let known = Prefix::new(*identity, *excluded);
    match prefix {
        IpNet::V4(net) => {
            let address = Addr4::new(net.network().octets());
            let key = Lpm::new(u32::from(net.prefix_len()), address);
            insert("PREFIXES4", table::prefixes4(pins)?.insert(&key, known, 0))
        }
        IpNet::V6(net) => {
            let address = Addr6::new(net.network().octets());
            let key = Lpm::new(u32::from(net.prefix_len()), address);
            insert("PREFIXES6", table::prefixes6(pins)?.insert(&key, known, 0))
        }
    }
}

/// Removes the entry of a prefix; "already gone" is success.
///
/// # Errors
/// When the map cannot be written.
pub(super) fn remove(pins: &Pins, prefix: IpNet) -> Result<(), Error> {
    match prefix {
        IpNet::V4(net) => {
            let address = Addr4::new(net.network().octets());
            let key = Lpm::new(u32::from(net.prefix_len()), address);
            gone("PREFIXES4", table::prefixes4(pins)?.remove(&key))
        }
        IpNet::V6(net) => {
            let address = Addr6::new(net.network().octets());
            let key = Lpm::new(u32::from(net.prefix_len()), address);
            gone("PREFIXES6", table::prefixes6(pins)?.remove(&key))
        }
    }
}

/// Reads the entries of all prefixes.
///
/// # Errors
/// When a map cannot be read.
pub(super) fn observe(pins: &Pins, state: &mut State) -> Result<(), Error> {
    take(
        "PREFIXES4",
        &table::prefixes4(pins)?,
        state,
        |address: Addr4| IpAddr::from(address.octets()),
    )?;
    take(
        "PREFIXES6",
        &table::prefixes6(pins)?,
        state,
        |address: Addr6| IpAddr::from(address.octets()),
    )
}

fn take<A: Pod>(
    map: &'static str,
    trie: &LpmTrie<MapData, A, Prefix>,
    state: &mut State,
    address: impl Fn(A) -> IpAddr,
) -> Result<(), Error> {
    for entry in trie {
        let (key, known) = entry.map_err(|error| Error::map("read map", map, &error))?;
        // The kernel refuses a length that its key has no room for.
        let len = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
        if let Ok(prefix) = IpNet::new(address(key.data()), len) {
            let value = Value::PrefixEntry {
                identity: known.identity,
                excluded: known.is_excluded(),
            };
            state.insert(Key::PrefixEntry(prefix), value);
        }
    }
    Ok(())
}
