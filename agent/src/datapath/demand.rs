//! How much memory the maps of a node take, before they are made.
//!
//! What the kernel charges when a map is created (`htab_map_mem_usage` and `array_map_mem_usage`,
//! Linux 6.4 and later): all of a preallocated map at once. Tries and other maps that take memory
//! for what is in them count as empty.

use std::thread::available_parallelism;

use aya_obj::Object;
use aya_obj::generated::bpf_map_type;

use super::Error;
use super::load::Sizes;
use super::object::OBJECT;
use super::pin::Pins;
use super::table::{self, MAPS};
use crate::plan::notes::MapMemory;

/// Bytes of an entry beside key and value (`struct htab_elem`).
const ENTRY_LEN: u64 = 48;

/// Bytes of a place in the table of hashes (`struct bucket`), of which there is a power of two.
const BUCKET_LEN: u64 = 16;

/// The flag of maps that take memory for what is in them (`BPF_F_NO_PREALLOC`).
const NO_PREALLOCATION: u32 = 1;

/// Bytes of a map that has no entries, about.
const MAP_LEN: u64 = 512;

/// Lists the maps of a node in the order of `status`. One that is pinned keeps its size if that
/// will do.
///
/// # Errors
/// If the object cannot be read.
pub fn demand(pins: &Pins, sizes: &Sizes) -> Result<Vec<MapMemory>, Error> {
    let object = Object::parse(OBJECT).map_err(|error| Error::Object(error.to_string()))?;
    let found = MAPS.iter().filter_map(|name| {
        let definition = object.maps.get(*name)?;
        let wanted = sizes.of(name).unwrap_or_else(|| definition.max_entries());
        let pinned = table::capacity(pins, name).filter(|found| sizes.accepts(name, *found));
        let entries = pinned.unwrap_or(wanted);
        Some(MapMemory {
            name: (*name).to_owned(),
            entries,
            bytes: bytes(definition, entries),
        })
    });
    Ok(found.collect())
}

/// Returns what the kernel charges for a map with so many entries.
pub(super) fn bytes(definition: &aya_obj::Map, entries: u32) -> u64 {
    const HASH: u32 = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
    const LRU_HASH: u32 = bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32;
    const PERCPU_ARRAY: u32 = bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32;
    const LPM_TRIE: u32 = bpf_map_type::BPF_MAP_TYPE_LPM_TRIE as u32;
    let round = |len: u32| u64::from(len.next_multiple_of(8));
    let (key, value) = (round(definition.key_size()), round(definition.value_size()));
    let processors = available_parallelism().map_or(1, |count| count.get() as u64);
    let count = u64::from(entries);
    MAP_LEN
        + match definition.map_type() {
            HASH if definition.map_flags() & NO_PREALLOCATION != 0 => {
                count.next_power_of_two() * BUCKET_LEN
            }
            HASH => {
                (count + processors) * (ENTRY_LEN + key + value)
                    + count.next_power_of_two() * BUCKET_LEN
            }
            LRU_HASH => count * (ENTRY_LEN + key + value) + count.next_power_of_two() * BUCKET_LEN,
            PERCPU_ARRAY => count * value * processors,
            LPM_TRIE => 0,
            _ => count * value,
        }
}
