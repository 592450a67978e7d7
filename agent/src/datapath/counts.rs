//! Counters by slot, when slots move because there are more or fewer of them.
//!
//! All other counters are the same maps before and after an exchange of tables.

use std::collections::BTreeMap;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use datapath::abi::Count;

use super::pin::Pins;
use super::{Error, table};

const NAME: &str = "AUDITS";

/// Adds what the former tables have counted for each slot to what the present ones count for the slot
/// that it has become, unless they are the same. Nothing counts by the former ones any more.
///
/// # Errors
/// When a map cannot be read or written.
pub(super) fn transfer(from: &Pins, to: &Pins, moved: &BTreeMap<u32, u32>) -> Result<(), Error> {
    if id(from)? == id(to)? {
        return Ok(());
    }
    let (mut old, mut new) = (table::audits(from)?, table::audits(to)?);
    for (slot, place) in moved {
        let (was, found) = (read(&old, *slot)?, read(&new, *place)?);
        if was.iter().all(|count| *count == Count::default()) {
            continue;
        }
        let sums = was.iter().zip(found.iter()).map(|(was, found)| Count {
            packets: was.packets + found.packets,
            bytes: was.bytes + found.bytes,
        });
        write(&mut new, *place, sums.collect())?;
        // Another run must not add it once more.
        write(&mut old, *slot, vec![Count::default(); was.len()])?;
    }
    Ok(())
}

/// Returns the kernel's number of the map.
fn id(pins: &Pins) -> Result<u32, Error> {
    let opened = MapData::from_pin(pins.map(NAME)).and_then(|data| data.info());
    Ok(opened
        .map_err(|error| Error::map("inspect map", NAME, &error))?
        .id())
}

fn read(map: &PerCpuArray<MapData, Count>, slot: u32) -> Result<PerCpuValues<Count>, Error> {
    map.get(&slot, 0)
        .map_err(|error| Error::map("read map", NAME, &error))
}

fn write(
    map: &mut PerCpuArray<MapData, Count>,
    slot: u32,
    counts: Vec<Count>,
) -> Result<(), Error> {
    PerCpuValues::try_from(counts)
        .map_err(Error::at("write map", NAME.as_ref()))
        .and_then(|counts| {
            map.set(slot, counts, 0)
                .map_err(|error| Error::map("write map", NAME, &error))
        })
}
