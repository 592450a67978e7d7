//! Whole frames, sent and captured on a link.
//!
//! A packet socket (packet(7)) shows what really arrives in a namespace: Ethernet addresses, hop
//! limit, a VLAN tag that travels as metadata, and segments that are still to be cut or summed.
//! "Nothing arrives" is shown without waiting: a frame that must arrive is sent behind.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::from_mut;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::sockopt::{Mark, RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::namespace::Namespace;

/// Longest frame that is captured whole, in bytes.
const FRAME_LEN: usize = 1 << 17;
const QUEUE_LEN: usize = 32 << 20;
const SECONDS: i64 = 5;

/// Is a packet socket on one link.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

/// Is a frame as it was seen on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// The tag that travels beside the frame.
    pub vlan: Option<u16>,
    /// Whether the transport's checksum was still to be filled in.
    pub is_unsummed: bool,
    /// Whether the frame was sent on this link, rather than received.
    pub is_outgoing: bool,
}

impl Wire {
    /// Opens a link; frames are captured from now on.
    pub fn open(place: &Namespace, link: &str) -> Self {
        let index = i32::try_from(place.ifindex(link)).expect("an index is small");
        let socket = place
            .inside(|| {
                socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )
            })
            .expect("open a packet socket");
        bind(&socket, index, libc::ETH_P_ALL).expect("bind a packet socket");
        want_metadata(&socket).expect("ask for metadata");
        setsockopt(&socket, RcvBufForce, &QUEUE_LEN).expect("enlarge the queue");
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(SECONDS, 0)).expect("set a timeout");
        Self { socket }
    }

    /// Gives the frames that are sent from now on a mark.
    pub fn set_mark(&self, mark: u32) {
        setsockopt(&self.socket, Mark, &mark).expect("set the mark");
    }

    /// Sends a frame out of the link.
    pub fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).expect("send a frame");
        assert_eq!(sent, frame.len(), "the whole frame should be sent");
    }

    /// Returns what was received up to the first frame for which `is_last` holds, with it.
    pub fn received_until(&self, what: &str, is_last: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            match self.next(0) {
                Ok(frame) if frame.is_outgoing => {}
                Ok(frame) => {
                    let found = is_last(&frame);
                    seen.push(frame);
                    if found {
                        return seen;
                    }
                }
                // A wait with a timeout is not resumed after a stop (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{what} should arrive: {error}; seen: {seen:02x?}"),
            }
        }
    }

    /// Waits for a frame for which `is_it` holds.
    pub fn receive(&self, what: &str, is_it: impl Fn(&Seen) -> bool) -> Seen {
        self.received_until(what, is_it)
            .pop()
            .expect("the last frame is the wanted one")
    }

    /// Returns the next frame, sent or received; `None` if there is none within this time.
    pub fn next_within(&self, wait: Duration) -> Option<Seen> {
        if wait.is_zero() {
            return self.next(libc::MSG_DONTWAIT).ok();
        }
        let micros = i64::try_from(wait.as_micros()).expect("short");
        setsockopt(&self.socket, ReceiveTimeout, &TimeVal::microseconds(micros))
            .expect("set a timeout");
        self.next(0).ok()
    }

    /// Reads the next frame into a buffer and returns its length; `None` if there is none yet.
    pub fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).ok()
    }

    /// Forgets what was captured so far.
    pub fn forget(&self) {
        while self.next(libc::MSG_DONTWAIT).is_ok() {}
    }

    fn next(&self, flags: i32) -> io::Result<Seen> {
        let mut bytes = vec![0_u8; FRAME_LEN];
        let mut control = [0_u64; 16];
        let mut from = address(0);
        let mut part = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut message = empty_message();
        message.msg_name = from_mut(&mut from).cast();
        message.msg_namelen = length::<libc::sockaddr_ll>();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = fit(size_of_val(&control));
        // SAFETY: all pointers in `message` lead to variables of this function, with their sizes.
        #[expect(unsafe_code, reason = "nix knows no metadata of packet sockets")]
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) };
        bytes.truncate(usize::try_from(len).map_err(|_| io::Error::last_os_error())?);
        let metadata = metadata(&message);
        let is_tagged = metadata.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        Ok(Seen {
            bytes,
            vlan: is_tagged.then_some(metadata.tp_vlan_tci & 0x0fff),
            is_unsummed: metadata.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0,
            is_outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
        })
    }
}

impl Seen {
    pub fn to_mac(&self) -> &[u8] {
        &self.bytes[..6]
    }

    pub fn from_mac(&self) -> &[u8] {
        &self.bytes[6..12]
    }

    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.bytes[12], self.bytes[13]])
    }

    /// Returns the TTL or hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.bytes[if self.is_ipv4() { 22 } else { 21 }]
    }

    /// Returns the protocol behind the IP header; for IPv6, what its next header says.
    pub fn protocol(&self) -> u8 {
        self.bytes[if self.is_ipv4() { 23 } else { 20 }]
    }

    /// Returns what is behind an IP header without options or extensions.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[if self.is_ipv4() { 34 } else { 54 }..]
    }

    /// Tells whether the frame is an IP packet of this protocol.
    pub fn carries(&self, protocol: u8) -> bool {
        matches!(self.ethertype(), 0x0800 | 0x86dd) && self.protocol() == protocol
    }

    /// Tells whether the frame contains these bytes.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.bytes
            .windows(bytes.len())
            .any(|window| window == bytes)
    }

    fn is_ipv4(&self) -> bool {
        self.ethertype() == 0x0800
    }
}

/// Returns the address of a link with this index, for no protocol.
fn address(index: i32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("families are small numbers"),
        sll_protocol: 0,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// Ties a packet socket to a link; it receives frames of a protocol, of none if that is 0.
pub(super) fn bind(socket: &OwnedFd, index: i32, protocol: libc::c_int) -> io::Result<()> {
    let mut address = address(index);
    address.sll_protocol = u16::try_from(protocol)
        .expect("protocols have 16 bits")
        .to_be();
    let (pointer, len) = (from_mut(&mut address).cast(), length::<libc::sockaddr_ll>());
    // SAFETY: the address is a variable of this function, with its size.
    #[expect(unsafe_code, reason = "nix makes no addresses of packet sockets")]
    let result = unsafe { libc::bind(socket.as_raw_fd(), pointer, len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn want_metadata(socket: &OwnedFd) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    let (pointer, len) = (from_mut(&mut on).cast(), length::<libc::c_int>());
    // SAFETY: the value is a variable of this function, with its size.
    #[expect(unsafe_code, reason = "nix does not know this option")]
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns what the kernel tells beside a frame.
fn metadata(message: &libc::msghdr) -> libc::tpacket_auxdata {
    // SAFETY: the kernel has filled the control buffer that `message` leads to, and the data
    // behind a header of this type is of this type, at an address that need not be aligned.
    #[expect(unsafe_code, reason = "control messages are walked by pointer")]
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                return libc::CMSG_DATA(header)
                    .cast::<libc::tpacket_auxdata>()
                    .read_unaligned();
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
        zeroed()
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a structure of integers and pointers, for which zero is a value.
    #[expect(unsafe_code, reason = "it has padding on some targets")]
    unsafe {
        zeroed()
    }
}

/// Returns a length in the type that the structure has for it, which differs between targets.
fn fit<T: TryFrom<usize>>(length: usize) -> T {
    T::try_from(length)
        .ok()
        .expect("lengths of structures are small")
}

pub(super) fn length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("structures are small")
}
