//! A socket for the packets of DHCP on one device, before it has an address (packet(7)).
//!
//! The kernel writes and reads the Ethernet header, and lets through what a filter accepts: whole
//! packets of UDP to the port of clients. Needs `CAP_NET_RAW`, for as long as it takes to open it.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, recvfrom,
    sendto, socket,
};

use super::error::{Error, Result};
use crate::plan::object::Mac;

/// Type of Ethernet frames with IPv4.
const IPV4: u16 = 0x0800;

const BROADCAST: Mac = Mac([0xff; 6]);

/// Longest packet that is taken.
const PACKET_LEN_MAX: usize = 2048;

/// Is the filter, as instructions of linux/filter.h. The packet begins with the IP header.
const FILTER: [libc::sock_filter; 10] = [
    instruction(0x30, 0, 0, 9),      // A = protocol
    instruction(0x15, 0, 7, 17),     // UDP, or refuse
    instruction(0x28, 0, 0, 6),      // A = flags and offset of the fragment
    instruction(0x45, 5, 0, 0x3fff), // refuse fragments
    instruction(0xb1, 0, 0, 0),      // X = length of the header
    instruction(0x48, 0, 0, 2),      // A = port that it is sent to
    instruction(0x15, 0, 2, 68),     // the client's, or refuse
    instruction(0x06, 0, 0, 0xffff), // accept
    instruction(0x06, 0, 0, 0),
    instruction(0x06, 0, 0, 0), // refuse
];

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Is the socket on one device.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
    device: String,
}

impl PacketSocket {
    /// Opens the socket on a device, in the namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel refuses, as it does without `CAP_NET_RAW`.
    pub fn open(device: &str, index: u32) -> Result<Self> {
        let failed = |errno| Error::system(format!("open packet socket on {device}"), errno);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol nothing arrives before the filter is there.
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None).map_err(failed)?;
        filter(&fd).map_err(failed)?;
        bind(fd.as_raw_fd(), &address(index, BROADCAST)).map_err(failed)?;
        Ok(Self {
            fd,
            index,
            device: device.to_owned(),
        })
    }

    /// Returns the index of the device.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sends a packet to the owner of an Ethernet address, or to everybody.
    ///
    /// # Errors
    /// If the kernel refuses, as it does on a device that is down.
    pub fn send(&self, packet: &[u8], to: Option<Mac>) -> Result<()> {
        let to = address(self.index, to.unwrap_or(BROADCAST));
        match sendto(self.fd.as_raw_fd(), packet, &to, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(self.failed("send", errno)),
        }
    }

    /// Takes the next packet, and who sent it; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel refuses, as it does once after the device went down.
    pub fn receive(&self) -> Result<Option<(Vec<u8>, Mac)>> {
        let mut bytes = vec![0; PACKET_LEN_MAX];
        loop {
            return match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut bytes) {
                Ok((len, from)) => {
                    bytes.truncate(len);
                    let mac = from.and_then(|from| from.addr()).map(Mac);
                    Ok(Some((bytes, mac.unwrap_or(BROADCAST))))
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Ok(None),
                Err(errno) => Err(self.failed("receive", errno)),
            };
        }
    }

    fn failed(&self, operation: &str, errno: Errno) -> Error {
        Error::system(format!("{operation} DHCP packet on {}", self.device), errno)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the address of who has an Ethernet address on a device.
fn address(index: u32, mac: Mac) -> LinkAddr {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&mac.0);
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("it is a small number"),
        sll_protocol: IPV4.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: bytes,
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("it is short");
    #[expect(unsafe_code, reason = "nix makes no such address otherwise")]
    // SAFETY: the pointer is to a whole `sockaddr_ll`, of which `len` is the length.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(len)) };
    address.expect("the family and the length are right")
}

/// Puts the filter before a socket.
fn filter(fd: &OwnedFd) -> nix::Result<()> {
    let mut filter = FILTER;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("it is short"),
        filter: filter.as_mut_ptr(),
    };
    let len = libc::socklen_t::try_from(size_of_val(&program)).expect("it is short");
    #[expect(unsafe_code, reason = "nix has no such option")]
    // SAFETY: the kernel reads `len` bytes, the length of `program`, and as many instructions as it
    // says; both live until the call returns.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            len,
        )
    };
    Errno::result(result).map(drop)
}
