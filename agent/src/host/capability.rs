//! What this process may do (`capabilities(7)`), given up for good.
//!
//! Threads that the calling thread starts inherit what it keeps; other threads of the process are
//! not changed. Who looks at another process reads what its first thread has.

use std::fs;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;

use super::error::{Error, Result};

/// Gives up that another program could ever bring privileges into this process.
///
/// # Errors
/// If the kernel refuses.
pub fn forbid_new() -> Result<()> {
    prctl::set_no_new_privs()
        .map_err(|errno| Error::system("forbid new privileges (PR_SET_NO_NEW_PRIVS)", errno))
}

/// Returns what the calling thread may do.
///
/// # Errors
/// If the kernel refuses.
pub fn held() -> Result<CapsHashSet> {
    caps::read(None, CapSet::Permitted).map_err(|error| failed("read", &error))
}

/// Gives up everything but `kept`, of which it keeps what it has. "Already so" writes nothing.
///
/// # Errors
/// If the kernel refuses.
pub fn keep_only(kept: &CapsHashSet) -> Result<()> {
    let surplus = |set| -> Result<Vec<Capability>> {
        let has = caps::read(None, set).map_err(|error| failed("read", &error))?;
        Ok(has.into_iter().filter(|one| !kept.contains(one)).collect())
    };
    let bounding = surplus(CapSet::Bounding)?;
    if !surplus(CapSet::Ambient)?.is_empty() {
        caps::clear(None, CapSet::Ambient).map_err(|error| failed("clear ambient", &error))?;
    }
    // First, for it takes CAP_SETPCAP. Without that the bound stays, and binds programs that are
    // never started.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        for capability in bounding {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(|error| failed("bound", &error))?;
        }
    }
    // What is permitted comes last: it is what the others are taken from.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        if !surplus(set)?.is_empty() {
            let has = caps::read(None, set).map_err(|error| failed("read", &error))?;
            let left = has.into_iter().filter(|one| kept.contains(one)).collect();
            caps::set(None, set, &left).map_err(|error| failed("give up", &error))?;
        }
    }
    Ok(())
}

/// Returns what the first thread of a process may do, in the order of the kernel's numbers; `None`
/// if there is no such process.
pub fn of_process(pid: u32) -> Option<Vec<Capability>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = permitted(&status)?;
    let mut found: Vec<Capability> = caps::all().into_iter().collect();
    found.retain(|capability| mask & capability.bitmask() != 0);
    found.sort_by_key(Capability::index);
    Some(found)
}

/// Reads the line `CapPrm: 000001ffffffffff`.
fn permitted(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The library tells what failed in words only; the kernel has one reason to refuse.
fn failed(what: &str, error: &caps::errors::CapsError) -> Error {
    log::debug!("{what} capabilities: {error}");
    Error::system(format!("{what} capabilities"), Errno::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permitted_ones_are_a_mask_in_hexadecimal() {
        let status = "Name:\tciliate\nCapInh:\t0000000000000000\nCapPrm:\t0000000000001000\n";

        assert_eq!(permitted(status), Some(Capability::CAP_NET_ADMIN.bitmask()));
        assert_eq!(permitted("Name:\tciliate\n"), None);
    }

    #[test]
    fn thread_keeps_what_it_names_and_no_more() {
        std::thread::spawn(|| {
            let before = held().unwrap();
            let kept = CapsHashSet::from([Capability::CAP_NET_ADMIN]);

            keep_only(&kept).unwrap();

            let expected: CapsHashSet = before.intersection(&kept).copied().collect();
            assert_eq!(held().unwrap(), expected);
            keep_only(&kept).unwrap();
            assert_eq!(held().unwrap(), expected);
        })
        .join()
        .unwrap();
    }
}
