//! The entries of endpoints: one in `ENDPOINTS`, and one for each address in `LOCAL4` and `LOCAL6`.
//!
//! A change writes the new entries first and takes away what is left over then, so that no packet
//! finds an endpoint missing.

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use datapath::abi::{Addr4, Addr6, Party};

use super::pin::Pins;
use super::{Error, table};
use crate::plan::object::{LinkRef, Mac, Value};

/// Writes an endpoint's entries for the link with this index, in place of those of `before`.
///
/// # Errors
/// When a map cannot be read or written.
pub(super) fn set(
    pins: &Pins,
    before: Option<&Value>,
    value: &Value,
    ifindex: u32,
) -> Result<(), Error> {
    let old = before.map_or_else(|| Ok(Vec::new()), |before| find(pins, before))?;
    let party = party(value, ifindex)?;
    insert(
        "ENDPOINTS",
        table::endpoints(pins)?.insert(ifindex, party, 0),
    )?;
    if let Some(address) = party.ipv4() {
        insert("LOCAL4", table::local4(pins)?.insert(address, ifindex, 0))?;
    }
    if let Some(address) = party.ipv6() {
        insert("LOCAL6", table::local6(pins)?.insert(address, ifindex, 0))?;
    }
    for (old_ifindex, old_party) in old {
        let kept = (old_ifindex == ifindex).then_some(&party);
        take_away(pins, old_ifindex, &old_party, kept)?;
    }
    Ok(())
}

/// Removes an endpoint's entries; "already gone" is success.
///
/// # Errors
/// When a map cannot be read or written.
pub(super) fn remove(pins: &Pins, before: &Value) -> Result<(), Error> {
    for (ifindex, party) in find(pins, before)? {
        take_away(pins, ifindex, &party, None)?;
    }
    Ok(())
}

/// Finds the entries that a value speaks of, by what they say: the link may have vanished since
/// it was observed, and its index with it.
fn find(pins: &Pins, value: &Value) -> Result<Vec<(u32, Party)>, Error> {
    let Value::EndpointEntry { id, mac, link, .. } = value else {
        return Err(Error::NotOurs(format!("{value:?}")));
    };
    let is_meant = |ifindex: u32, party: &Party| match link {
        LinkRef::Current => party.is_endpoint() && (party.slot, Mac(party.mac)) == (*id, *mac),
        LinkRef::Stale(old) => ifindex == *old,
    };
    let entries = table::endpoints(pins)?;
    let found = entries.iter().filter_map(Result::ok);
    Ok(found
        .filter(|(ifindex, party)| is_meant(*ifindex, party))
        .collect())
}

/// Removes a party's entries but for those that `kept` has as well. An address that leads
/// elsewhere by now stays.
fn take_away(pins: &Pins, ifindex: u32, party: &Party, kept: Option<&Party>) -> Result<(), Error> {
    if party.ipv4() != kept.and_then(Party::ipv4) {
        forget("LOCAL4", table::local4(pins)?, party.ipv4(), ifindex)?;
    }
    if party.ipv6() != kept.and_then(Party::ipv6) {
        forget("LOCAL6", table::local6(pins)?, party.ipv6(), ifindex)?;
    }
    if kept.is_none() {
        gone("ENDPOINTS", table::endpoints(pins)?.remove(&ifindex))?;
    }
    Ok(())
}

fn forget<A: Pod>(
    name: &str,
    mut map: HashMap<MapData, A, u32>,
    address: Option<A>,
    ifindex: u32,
) -> Result<(), Error> {
    match address {
        Some(address) if map.get(&address, 0).ok() == Some(ifindex) => {
            gone(name, map.remove(&address))
        }
        Some(_) | None => Ok(()),
    }
}

fn party(value: &Value, ifindex: u32) -> Result<Party, Error> {
    let Value::EndpointEntry {
        id,
        ipv4,
        ipv6,
        mac,
        lxc_mac,
        mtu,
        ..
    } = value
    else {
        return Err(Error::NotOurs(format!("{value:?}")));
    };
    let ipv4 = ipv4.map(|address| Addr4::new(address.octets()));
    let ipv6 = ipv6.map(|address| Addr6::new(address.octets()));
    let mtu = u16::try_from(*mtu).unwrap_or(u16::MAX);
    let macs = (mac.0, lxc_mac.0);
    Ok(Party::endpoint(ifindex, *id, (ipv4, ipv6), macs, mtu))
}

pub(super) fn insert(map: &str, result: Result<(), MapError>) -> Result<(), Error> {
    result.map_err(|error| Error::map("write map", map, &error))
}

/// Takes "not there" as success.
pub(super) fn gone(map: &str, result: Result<(), MapError>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        Err(error) => Err(Error::map("remove from map", map, &error)),
    }
}
