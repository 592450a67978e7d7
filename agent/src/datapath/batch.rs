//! All entries of a hash table, some hundreds with each call: one by one, those of a large policy
//! take a second.

use std::os::fd::AsFd;

use aya::Pod;
use aya::maps::MapData;
use nix::libc;

use super::pin::Pins;
use super::{Error, sys};

/// Entries of the first call. Few enough that making room for them takes no longer than reading a
/// table that is nearly empty.
const CHUNK: usize = 512;

/// Reads all entries of a pinned hash table, in no order.
///
/// # Errors
/// When it cannot be read.
pub(super) fn entries<K: Pod + Default, V: Pod + Default>(
    pins: &Pins,
    name: &'static str,
) -> Result<Vec<(K, V)>, Error> {
    let mut found = Vec::new();
    for_each(pins, name, |key, value| {
        found.push((*key, *value));
        Ok(())
    })?;
    Ok(found)
}

/// Visits all entries of a pinned hash table or array; a visit of one that comes or goes meanwhile may
/// be left out.
///
/// # Errors
/// When the table cannot be read, or a visit fails.
pub(super) fn for_each<K: Pod + Default, V: Pod + Default>(
    pins: &Pins,
    name: &'static str,
    mut visit: impl FnMut(&K, &V) -> Result<(), Error>,
) -> Result<(), Error> {
    let map = MapData::from_pin(pins.map(name));
    let map = map.map_err(|error| Error::map("open map", name, &error))?;
    let (mut keys, mut values) = (vec![K::default(); CHUNK], vec![V::default(); CHUNK]);
    let mut from = None;
    loop {
        match sys::lookup_batch(map.fd().as_fd(), from, (&mut keys, &mut values)) {
            Ok((count, stopped)) => {
                for (key, value) in keys.iter().zip(&values).take(count) {
                    visit(key, value)?;
                }
                if stopped.is_none() {
                    return Ok(());
                }
                from = stopped;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                keys.resize(keys.len() * 2, K::default());
                values.resize(values.len() * 2, V::default());
            }
            Err(error) => return Err(Error::at("read map", &pins.map(name))(error)),
        }
    }
}
