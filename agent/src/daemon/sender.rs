//! Who made the kernel announce a change, where it can be known.
//!
//! A message that a process brought about carries the number of its socket. Most programs leave
//! that to the kernel, which takes the number of the process while that is free. Who is found so
//! may have ended a moment later, so names are read at once. Numbers of processes of a container
//! are its own, and may be those of others here: what is told is a hint.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use crate::plan::object::Key;

/// The first of the four kinds of messages about an object (linux/rtnetlink.h).
const LINKS: u16 = 16;
const ADDRESSES: u16 = 20;
const ROUTES: u16 = 24;
const RULES: u16 = 32;
const QDISCS: u16 = 36;
const FILTERS: u16 = 44;

/// How many kinds of messages there are about an object.
const KINDS: u16 = 4;

/// Is a process that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub pid: u32,
    /// What it is called, and what the process is called that started it.
    pub name: String,
    pub parent: Option<String>,
}

impl Sender {
    /// Finds a process; `None` if it is gone.
    fn find(pid: u32) -> Option<Self> {
        let name = name_of(pid)?;
        let parent = parent_of(pid).and_then(name_of);
        Some(Self { pid, name, parent })
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}", self.name, self.pid)?;
        if let Some(parent) = &self.parent {
            write!(f, ", started by {parent}")?;
        }
        f.write_str(")")
    }
}

/// Remembers who sent the last message about each sort of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders(BTreeMap<u16, Sender>);

impl Senders {
    /// Notes that a message of this kind was brought about by a socket with this number.
    pub fn note(&mut self, kind: u16, port: u32) {
        // The kernel itself has 0, and what we change ourselves is no news.
        if port == 0 || port == std::process::id() {
            return;
        }
        if let Some(sender) = Sender::find(port) {
            self.0.insert(kind - kind % KINDS, sender);
        }
    }

    /// Returns who changed something last that is of the sort of an object.
    pub fn of(&self, key: &Key) -> Option<&Sender> {
        sorts(key).iter().find_map(|sort| self.0.get(sort))
    }
}

/// Lists what messages are about when somebody removes or changes an object, the likeliest first.
fn sorts(key: &Key) -> &'static [u16] {
    match key {
        Key::Attachment(..) => &[FILTERS, QDISCS, LINKS],
        Key::HostLink | Key::EndpointLink(_) | Key::LinkUp(_) | Key::DeviceMtu(_) => &[LINKS],
        Key::Address(..) => &[ADDRESSES, LINKS],
        Key::Route(..) => &[ROUTES, ADDRESSES, LINKS],
        Key::Rule(_) => &[RULES],
        Key::Bpffs
        | Key::Datapath
        | Key::Former
        | Key::Reassembly(_)
        | Key::NodeEntry
        | Key::NameServers(_)
        | Key::Sysctl(_)
        | Key::EndpointEntry(_)
        | Key::DeviceEntry(_)
        | Key::Policy
        | Key::Generation => &[],
    }
}

fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns the process that started another one (`proc_pid_status(5)`).
fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|parent| *parent != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::object::{Hook, Link};

    fn filter() -> Key {
        Key::Attachment(Link::Host, Hook::Ingress)
    }

    #[test]
    fn process_that_removes_filters_is_known_by_its_name_and_its_parent() {
        let parent = std::os::unix::process::parent_id();
        let mut senders = Senders::default();

        senders.note(FILTERS + 1, parent);

        let found = senders.of(&filter()).expect("it is alive");
        assert_eq!(
            (found.pid, Some(found.name.clone())),
            (parent, name_of(parent))
        );
        assert_eq!(senders.of(&Key::HostLink), None, "it changed no link");
    }

    #[test]
    fn kernel_we_and_the_dead_are_nobody() {
        let mut senders = Senders::default();

        for port in [0, std::process::id(), u32::MAX] {
            senders.note(FILTERS, port);
        }

        assert_eq!(senders, Senders::default());
    }
}
