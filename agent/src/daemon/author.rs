//! Who changes the node's network, as far as that can be known.
//!
//! An announcement carries the port of the netlink socket by which the change was asked for. The
//! kernel gives a process's first socket the number of the process, in the process's own view of
//! numbers: so a process is named only if it holds the socket. One that has ended, and one that
//! asked by a further socket, remains unknown.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::process;

/// How many changes are remembered.
const REMEMBERED: usize = 64;

/// Sockets of rtnetlink, in the kernel's list.
const LIST: &str = "/proc/thread-self/net/netlink";
const ROUTE: &str = "0";

/// Remembers by which ports of others changes were asked for.
#[derive(Clone, Debug, Default)]
pub struct Authors(VecDeque<u32>);

impl Authors {
    /// Notes the port of a change; that of the kernel, 0, and our own do not count.
    pub fn note(&mut self, port: u32) {
        let is_process = port != 0 && i32::try_from(port).is_ok();
        if is_process && port != process::id() {
            self.0.truncate(REMEMBERED - 1);
            self.0.push_front(port);
        }
    }

    /// Names the process that asked for most changes of late, if that is known.
    pub fn likely(&self) -> Option<String> {
        let port = self.most_frequent()?;
        let list = fs::read_to_string(LIST).ok()?;
        let wanted = format!("socket:[{}]", inode(&list, port)?);
        let sockets = fs::read_dir(format!("/proc/{port}/fd")).ok()?;
        let mut targets = sockets.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        targets.find(|target| target.as_os_str() == wanted.as_str())?;
        let name = fs::read_to_string(format!("/proc/{port}/comm")).ok()?;
        Some(format!("{} (process {port})", name.trim()))
    }

    fn most_frequent(&self) -> Option<u32> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for port in &self.0 {
            *counts.entry(*port).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(port, _)| port)
    }
}

/// Finds the inode of a socket of rtnetlink by its port, in lines like
/// `00000000f2ae7c4d 0   714  00000551 0 0 0 2 0 12345`.
fn inode(list: &str, port: u32) -> Option<&str> {
    let port = port.to_string();
    list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&ROUTE) && fields.get(2) == Some(&port.as_str());
        is_it.then(|| fields.last().copied()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_frequent_author_of_late_counts() {
        let mut authors = Authors::default();
        assert_eq!(authors.most_frequent(), None);

        for port in [7, 8, 7, 0, process::id(), u32::MAX - 4096] {
            authors.note(port);
        }
        assert_eq!(authors.most_frequent(), Some(7));
        for _ in 0..REMEMBERED {
            authors.note(9);
        }

        assert_eq!(authors.most_frequent(), Some(9));
        assert_eq!(authors.0.len(), REMEMBERED);
    }

    #[test]
    fn socket_is_found_by_protocol_and_port() {
        let list = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                    00000000f2ae7c4d 15  714        00000551 0        0        0     2        0        11\n\
                    00000000f2ae7c4e 0   714        00000551 0        0        0     2        0        12\n";

        assert_eq!(inode(list, 714), Some("12"));
        assert_eq!(inode(list, 71), None);
    }

    #[test]
    fn process_without_such_a_socket_is_not_named() {
        let mut authors = Authors::default();

        authors.note(1);

        assert_eq!(authors.likely(), None);
    }
}
