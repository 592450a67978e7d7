//! Programs of others on the hooks that ours are on.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use aya_obj::generated::bpf_attach_type;
use nix::libc;

use super::Error;
use super::pin::Pins;
use super::sys;

/// Lists the ids of tcx links on a hook that are not pinned by the node; none where the kernel has no
/// tcx.
///
/// # Errors
/// When a pin of ours cannot be opened.
pub fn tcx_links(pins: &Pins, ifindex: u32, hook: bpf_attach_type) -> Result<Vec<u32>, Error> {
    let Ok(found) = sys::tcx_links(ifindex, hook) else {
        return Ok(Vec::new());
    };
    let ours = ours(pins)?;
    Ok(found.into_iter().filter(|id| !ours.contains(id)).collect())
}

/// Returns the ids of the links that the node has pinned.
fn ours(pins: &Pins) -> Result<BTreeSet<u32>, Error> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(pins.links())
        .into_iter()
        .flatten()
        .flatten()
    {
        let pin = entry.path();
        let info = sys::open_pin(&pin).and_then(|link| sys::tcx_link_info(link.as_fd()));
        match info {
            Ok(info) => drop(ids.insert(info.id)),
            // Removed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(Error::at("inspect link", &pin)(error)),
        }
    }
    Ok(ids)
}
