//! The connections by which whoever calls us is here: what a change must not cut.
//!
//! A shell that somebody has by SSH descends from the server's process, which holds the socket of
//! the connection. `sudo` and `su` hide the environment, and not that. What cannot be read belongs to
//! somebody else, and is left out.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use procfs::net::{TcpNetEntries, TcpState};
use procfs::process::{FDTarget, Process};
use procfs::{FromReadSI as _, current_system_info};

use crate::plan::object::Conversation;

/// Where the sockets of the calling thread's network namespace are listed.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// Lists the TCP connections that others have opened to processes from which this one descends, in
/// the network namespace of the calling thread. `automatic` are the ports that the kernel gives out by
/// itself.
pub(super) fn conversations(automatic: Option<(u16, u16)>) -> Vec<Conversation> {
    let sockets = sockets_of_ancestors();
    let entries = TABLES
        .iter()
        .filter_map(|table| TcpNetEntries::from_file(table, current_system_info()).ok());
    let entries: Vec<_> = entries.flat_map(|entries| entries.0).collect();
    let listening = entries
        .iter()
        .filter(|entry| entry.state == TcpState::Listen);
    let ports: BTreeSet<u16> = listening.map(|entry| entry.local_address.port()).collect();
    // What was opened from here, by a port that the kernel chose, goes on whatever may come in. A
    // server may have ended since.
    let is_served = |port: u16| {
        let is_automatic = automatic.is_none_or(|(first, last)| (first..=last).contains(&port));
        !is_automatic || ports.contains(&port)
    };
    let established = entries.iter().filter(|entry| {
        entry.state == TcpState::Established
            && sockets.contains(&entry.inode)
            && is_served(entry.local_address.port())
    });
    let conversations = established.map(|entry| Conversation {
        local: canonical(entry.local_address),
        remote: canonical(entry.remote_address),
    });
    conversations
        .filter(|found| !found.remote.ip().is_loopback())
        .collect()
}

fn sockets_of_ancestors() -> BTreeSet<u64> {
    let mut sockets = BTreeSet::new();
    let mut process = Process::myself();
    while let Ok(found) = process {
        for fd in found.fd().into_iter().flatten().flatten() {
            if let FDTarget::Socket(inode) = fd.target {
                sockets.insert(inode);
            }
        }
        process = match found.stat() {
            Ok(stat) if stat.ppid > 1 => Process::new(stat.ppid),
            Ok(_) | Err(_) => break,
        };
    }
    sockets
}

/// Returns an IPv4 address that is written as one of IPv6 as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn own_sockets_are_among_those_of_the_ancestors() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _stream = TcpStream::connect(address).unwrap();

        let sockets = sockets_of_ancestors();

        let entries = TcpNetEntries::from_file(TABLES[0], current_system_info()).unwrap();
        let own = entries
            .0
            .iter()
            .find(|entry| entry.remote_address == address)
            .unwrap();
        assert!(sockets.contains(&own.inode));
        assert_eq!(
            conversations(None),
            [],
            "what is within the machine is never cut"
        );
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        let mapped = "[::ffff:192.0.2.1]:22".parse().unwrap();

        assert_eq!(canonical(mapped), "192.0.2.1:22".parse().unwrap());
    }
}
