//! The entries of devices: one in `DEVICES`, and one for each masquerade address in `LOCAL4` and
//! `LOCAL6`, which lead to the outside.
//!
//! Two devices may have the same masquerade address, so an address is given up only when no
//! device has it any more. It is known before the device that uses it, so that no reply finds
//! nobody.

use std::collections::{BTreeMap, BTreeSet};

use aya::Pod;
use aya::maps::{HashMap, MapData};
use datapath::abi::{Addr4, Addr6, Device, OUTSIDE};

use super::entry::{gone, insert};
use super::pin::Pins;
use super::{Error, table};
use crate::plan::object::{Key, LinkRef, Mac, State, Value};

/// Writes the entries of the device with this index, in place of those of `before`.
///
/// # Errors
/// When a map cannot be read or written.
pub(super) fn set(
    pins: &Pins,
    before: Option<&Value>,
    value: &Value,
    ifindex: u32,
) -> Result<(), Error> {
    let device = device(value, ifindex)?;
    if let Some(address) = masquerade4(&device) {
        insert("LOCAL4", table::local4(pins)?.insert(address, OUTSIDE, 0))?;
    }
    if let Some(address) = masquerade6(&device) {
        insert("LOCAL6", table::local6(pins)?.insert(address, OUTSIDE, 0))?;
    }
    let mut devices = table::devices(pins)?;
    insert("DEVICES", devices.insert(ifindex, device, 0))?;
    if let Some(Value::DeviceEntry {
        link: LinkRef::Stale(old),
        ..
    }) = before
        && *old != ifindex
    {
        gone("DEVICES", devices.remove(old))?;
    }
    release(pins)
}

/// Removes the entries of a device; "already gone" is success.
///
/// # Errors
/// When a map cannot be read or written.
pub(super) fn remove(pins: &Pins, before: &Value, ifindex: u32) -> Result<(), Error> {
    let Value::DeviceEntry { link, .. } = before else {
        return Err(Error::NotOurs(format!("{before:?}")));
    };
    let index = match link {
        LinkRef::Current => ifindex,
        LinkRef::Stale(old) => *old,
    };
    gone("DEVICES", table::devices(pins)?.remove(&index))?;
    release(pins)
}

/// Reads the entries of devices; `names` tells which link has which index.
///
/// # Errors
/// When a map cannot be read.
pub(super) fn observe(
    pins: &Pins,
    names: &BTreeMap<u32, &str>,
    state: &mut State,
) -> Result<(), Error> {
    let (local4, local6) = (table::local4(pins)?, table::local6(pins)?);
    for entry in &table::devices(pins)? {
        let (ifindex, device) = entry.map_err(|error| Error::map("read map", "DEVICES", &error))?;
        let (name, link) = match names.get(&ifindex) {
            Some(name) => ((*name).to_owned(), LinkRef::Current),
            None => (format!("#{ifindex}"), LinkRef::Stale(ifindex)),
        };
        let value = Value::DeviceEntry {
            masquerade: device.is_masquerading(),
            mac: Mac(device.mac),
            masquerade4: masquerade4(&device)
                .filter(|address| local4.get(address, 0).ok() == Some(OUTSIDE))
                .map(|address| address.octets().into()),
            masquerade6: masquerade6(&device)
                .filter(|address| local6.get(address, 0).ok() == Some(OUTSIDE))
                .map(|address| address.octets().into()),
            link,
        };
        state.insert(Key::DeviceEntry(name), value);
    }
    Ok(())
}

/// Gives up the addresses of the outside that no device has any more.
fn release(pins: &Pins) -> Result<(), Error> {
    let devices = table::devices(pins)?;
    let devices: Vec<Device> = devices
        .iter()
        .filter_map(Result::ok)
        .map(|(_, device)| device)
        .collect();
    let used4 = devices.iter().filter_map(masquerade4);
    let used4 = used4.map(Addr4::octets).collect();
    release_from(
        "LOCAL4",
        table::local4(pins)?,
        |address: &Addr4| address.octets(),
        &used4,
    )?;
    let used6 = devices.iter().filter_map(masquerade6);
    let used6 = used6.map(Addr6::octets).collect();
    release_from(
        "LOCAL6",
        table::local6(pins)?,
        |address: &Addr6| address.octets(),
        &used6,
    )
}

fn release_from<A: Pod, B: Ord>(
    name: &str,
    mut map: HashMap<MapData, A, u32>,
    octets: impl Fn(&A) -> B,
    used: &BTreeSet<B>,
) -> Result<(), Error> {
    let unused: Vec<A> = map
        .iter()
        .filter_map(Result::ok)
        .filter(|(address, ifindex)| *ifindex == OUTSIDE && !used.contains(&octets(address)))
        .map(|(address, _)| address)
        .collect();
    for address in unused {
        gone(name, map.remove(&address))?;
    }
    Ok(())
}

fn device(value: &Value, ifindex: u32) -> Result<Device, Error> {
    let Value::DeviceEntry {
        masquerade,
        mac,
        masquerade4,
        masquerade6,
        ..
    } = value
    else {
        return Err(Error::NotOurs(format!("{value:?}")));
    };
    let device = Device::new(
        ifindex,
        mac.0,
        masquerade4.map(|address| Addr4::new(address.octets())),
        masquerade6.map(|address| Addr6::new(address.octets())),
    );
    Ok(if *masquerade {
        device.masquerading()
    } else {
        device
    })
}

fn masquerade4(device: &Device) -> Option<Addr4> {
    device.masquerades4().then_some(device.masquerade4)
}

fn masquerade6(device: &Device) -> Option<Addr6> {
    device.masquerades6().then_some(device.masquerade6)
}
