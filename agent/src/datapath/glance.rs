//! What nobody announces of a node's BPF objects, as a number that changes with it: which programs
//! are on the hooks of pinned links, in which order, and what is in the tables of the node, its
//! endpoints and its devices.
//!
//! The tables of policy do not count: they have room for so much that going through them, empty or
//! not, takes longer than all the rest. A look at everything finds what changes there.

use std::hash::{Hash as _, Hasher};
use std::io;
use std::os::fd::AsFd as _;

use datapath::abi::{Addr4, Addr6, Device, Lengths, Node, Party, Sides, Subject};

use super::pin::Pins;
use super::{Error, attach, sys};
use crate::host::HOST_LINK;
use crate::plan::object::{Hook, Link};

/// Entries that are read with each call, and most that are read of a table.
const CHUNK: usize = 256;
const MOST: usize = 4096;

/// Adds the BPF objects of a node to a number.
///
/// # Errors
/// When a pin cannot be opened, or the kernel refuses.
pub fn take(pins: &Pins, hasher: &mut impl Hasher) -> Result<(), Error> {
    for name in pins.linked() {
        let link = if name == HOST_LINK {
            Link::Host
        } else {
            Link::Device(name)
        };
        for hook in [Hook::Ingress, Hook::Egress] {
            attach::take(pins, &link, hook, hasher)?;
        }
    }
    entries::<4, { size_of::<Node>() }>(pins, "NODE", hasher)?;
    entries::<4, { size_of::<Party>() }>(pins, "ENDPOINTS", hasher)?;
    entries::<4, { size_of::<Device>() }>(pins, "DEVICES", hasher)?;
    entries::<{ size_of::<Addr4>() }, 4>(pins, "LOCAL4", hasher)?;
    entries::<{ size_of::<Addr6>() }, 4>(pins, "LOCAL6", hasher)?;
    entries::<4, { size_of::<Lengths>() }>(pins, "LENGTHS", hasher)?;
    entries::<8, { size_of::<Sides<Subject>>() }>(pins, "SUBJECTS", hasher)
}

/// Adds keys and values of a table, of these sizes in bytes.
fn entries<const KEY: usize, const VALUE: usize>(
    pins: &Pins,
    name: &'static str,
    hasher: &mut impl Hasher,
) -> Result<(), Error> {
    let path = pins.map(name);
    let map = match sys::open_pin(&path) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::at("open map", &path)(error)),
    };
    let (mut keys, mut values) = (vec![[0_u8; KEY]; CHUNK], vec![[0_u8; VALUE]; CHUNK]);
    let (mut seen, mut from) = (0, None);
    while seen < MOST {
        let read = sys::lookup_batch(map.as_fd(), from, (&mut keys, &mut values));
        let (count, stopped) = read.map_err(Error::at("read map", &path))?;
        (&keys[..count], &values[..count]).hash(hasher);
        if stopped.is_none() {
            break;
        }
        (seen, from) = (seen + count, stopped);
    }
    Ok(())
}
