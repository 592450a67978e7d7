//! The netfilter programs that make the node's stack put fragments together before it forwards them.
//!
//! A program at a netfilter hook may ask for whole datagrams (`BPF_F_NETFILTER_IP_DEFRAG`, 6.6): the
//! kernel then joins fragments before it routes them, whatever the program does. Ours accepts every
//! packet, at the hook that the fewest pass. The link is pinned, so that it outlives the agent.
//!
//! A pinned link keeps its network namespace alive, so the pin has the namespace in its name: one
//! of a namespace that is no longer the node's is none of its state, and goes with the next change.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::pin::Pins;
use super::{Error, sys};
use crate::config::family::Family;

/// The namespace of the calling thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Where netfilter shows itself, if the kernel has it.
const NETFILTER: &str = "/proc/net/netfilter";

/// How often, and after which pauses, a place that is taken is asked for again: half a second.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Tells whether the kernel can be asked to put fragments together; one with tcx links is new
/// enough.
pub fn is_possible(tcx: bool) -> bool {
    tcx && Path::new(NETFILTER).exists()
}

/// Tells whether the stack of the calling thread's namespace puts fragments of a family together
/// for the node.
///
/// # Errors
/// When the namespace cannot be told.
pub fn find(pins: &Pins, family: Family) -> Result<bool, Error> {
    Ok(pin(pins, family)?.exists())
}

/// Makes the stack put fragments of a family together.
///
/// # Errors
/// When the kernel refuses; `ENOENT` if it lacks the module `nf_defrag_ipv4` or `nf_defrag_ipv6`.
pub fn set(pins: &Pins, family: Family) -> Result<(), Error> {
    unset(pins, family)?;
    let pin = pin(pins, family)?;
    let folder = pins.links();
    fs::create_dir_all(&folder).map_err(Error::at("create folder", &folder))?;
    let program = sys::load_netfilter().map_err(Error::at("load program", &pin))?;
    let link = attach(program.as_fd(), family).map_err(Error::at("attach", &pin))?;
    sys::pin(link.as_fd(), &pin).map_err(Error::at("pin link", &pin))
}

/// Attaches the program. The kernel frees the place of one that was killed a moment after its end.
fn attach(program: BorrowedFd<'_>, family: Family) -> io::Result<OwnedFd> {
    let mut result = sys::create_netfilter_link(program, family == Family::V6);
    for _ in 0..ATTEMPTS {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(PAUSE);
                result = sys::create_netfilter_link(program, family == Family::V6);
            }
            Ok(_) | Err(_) => break,
        }
    }
    result
}

/// Ends it, in whatever namespace it was.
///
/// # Errors
/// When a pin cannot be removed.
pub fn unset(pins: &Pins, family: Family) -> Result<(), Error> {
    let folder = pins.links();
    let prefix = prefix(family);
    let entries = fs::read_dir(&folder).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::at("remove pin", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn pin(pins: &Pins, family: Family) -> Result<PathBuf, Error> {
    let namespace = Path::new(NAMESPACE);
    let found = fs::metadata(namespace).map_err(Error::at("inspect", namespace))?;
    let name = format!("{}{}", prefix(family), found.ino());
    Ok(pins.links().join(name))
}

/// How the names of pins begin. No link has such a name: it has no suffix.
fn prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "reassembly4@",
        Family::V6 => "reassembly6@",
    }
}
