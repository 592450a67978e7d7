//! What the kernel announces about its network objects, in our namespace and in those of
//! endpoints (rtnetlink(7)).
//!
//! Only whether something was announced that the node may depend on: what there is afterwards is
//! observed. What is lost because nobody read in time (`ENOBUFS`) counts as announced. tcx links,
//! most sysctls and map entries are never announced.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use rtnetlink::sys::Socket;

use super::sender::{Sender, Senders};
use crate::host::{self, netlink};
use crate::plan::object::Key;

/// Groups of linux/rtnetlink.h: links, filters, then addresses, routes and rules of IPv4 and of
/// IPv6, then netconf (forwarding, reverse path filter) of both.
const GROUPS: [u32; 10] = [1, 4, 5, 7, 8, 9, 11, 19, 24, 25];

/// Message types of linux/rtnetlink.h: links, addresses, routes, rules, qdiscs, filters, netconf;
/// `NEW` and `DEL` of each.
const CHANGES: [u16; 14] = [16, 17, 20, 21, 24, 25, 32, 33, 36, 37, 44, 45, 80, 81];

/// Types of messages about routes.
const ROUTES: [u16; 2] = [24, 25];

/// Of a route: an entry of a cache.
const RTM_F_CLONED: u32 = 0x200;

/// Where a message of a route has its type, and its flags.
const ROUTE_KIND_OFFSET: usize = 23;
const ROUTE_FLAGS_OFFSET: usize = 24;

/// Kinds of routes that the kernel makes for addresses, which are announced themselves: local,
/// broadcast, anycast, multicast.
const ROUTES_OF_ADDRESSES: [u8; 4] = [2, 3, 4, 5];

/// Length of a message header, and the step to which messages are padded.
const HEADER_LEN: usize = 16;
const ALIGN: usize = 4;

/// More than the kernel announces in one datagram; of a longer one the beginning is read.
const RECEIVE_LEN: usize = 32 * 1024;

/// Listens to the kernel.
pub struct Announcements {
    socket: Socket,
    buffer: Vec<u8>,
    senders: Senders,
}

impl Announcements {
    /// Begins to listen, in the namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn listen() -> host::Result<Self> {
        Ok(Self {
            socket: netlink::multicast(&GROUPS)?,
            buffer: Vec::with_capacity(RECEIVE_LEN),
            senders: Senders::default(),
        })
    }

    /// Reads everything that was announced; tells whether the node may depend on any of it.
    ///
    /// # Errors
    /// If the socket cannot be read.
    pub fn read(&mut self) -> host::Result<bool> {
        let mut matters = false;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => matters |= may_matter(&self.buffer, &mut self.senders),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(matters),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    log::debug!("announcements were lost: looking at everything");
                    matters = true;
                }
                Err(error) => return Err(host::Error::file("read announcements", &error)),
            }
        }
    }
}

impl Announcements {
    /// Returns who changed things of the sort of this object last, if that is known.
    pub fn sender_of(&self, key: &Key) -> Option<&Sender> {
        self.senders.of(key)
    }
}

impl AsFd for Announcements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Tells whether the node may depend on one of the messages, and notes who sent those; what cannot
/// be read matters.
fn may_matter(mut datagram: &[u8], senders: &mut Senders) -> bool {
    let mut matters = false;
    while let Some((header, _)) = datagram.split_first_chunk::<HEADER_LEN>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(message) = datagram.get(..len).filter(|_| len >= HEADER_LEN) else {
            return true;
        };
        if is_change(message) {
            matters = true;
            let port = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]);
            senders.note(kind_of(message), port);
        }
        datagram = &datagram[len.next_multiple_of(ALIGN).min(datagram.len())..];
    }
    matters
}

fn kind_of(message: &[u8]) -> u16 {
    u16::from_ne_bytes([message[4], message[5]])
}

fn is_change(message: &[u8]) -> bool {
    let kind = kind_of(message);
    let is_lasting = || {
        let flags = message
            .get(ROUTE_FLAGS_OFFSET..)
            .and_then(<[u8]>::first_chunk);
        let is_cached = flags.is_some_and(|flags| u32::from_ne_bytes(*flags) & RTM_F_CLONED != 0);
        let route = message.get(ROUTE_KIND_OFFSET);
        !is_cached && route.is_none_or(|route| !ROUTES_OF_ADDRESSES.contains(route))
    };
    CHANGES.contains(&kind) && (!ROUTES.contains(&kind) || is_lasting())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matters(datagram: &[u8]) -> bool {
        may_matter(datagram, &mut Senders::default())
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER_LEN + body.len()).expect("short");
        let mut message = Vec::from(len.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message
    }

    fn route(kind: u8, flags: u32) -> Vec<u8> {
        let mut body = vec![2, 24, 0, 0, 254, 193, 0, kind];
        body.extend(flags.to_ne_bytes());
        message(25, &body)
    }

    #[test]
    fn changes_of_links_addresses_routes_and_filters_matter() {
        for kind in [16, 17, 20, 21, 45, 80] {
            assert!(matters(&message(kind, &[])), "{kind}");
        }
        assert!(matters(&route(1, 0)));
    }

    #[test]
    fn cached_routes_and_those_of_addresses_do_not_matter() {
        for unimportant in [route(1, RTM_F_CLONED), route(2, 0), message(40, &[])] {
            assert!(!matters(&unimportant));
        }
    }

    #[test]
    fn message_that_matters_is_found_behind_one_that_does_not() {
        let mut datagram = message(40, &[0; 4]);
        datagram.extend(message(17, &[]));

        assert!(matters(&datagram));
    }

    #[test]
    fn damaged_datagram_matters() {
        for len in [0_u32, 8, 1000] {
            let mut damaged = message(40, &[]);
            damaged[..4].copy_from_slice(&len.to_ne_bytes());
            assert!(matters(&damaged), "{len}");
        }
    }
}
