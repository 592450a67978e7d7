//! Frames sent with their checksum left to the link, as a socket's are.
//!
//! A packet socket may hand over a `virtio_net_hdr` (packet(7), `PACKET_VNET_HDR`) that says where
//! the sum belongs. A link with tx checksumming passes such a packet on unsummed; on a link without
//! it the kernel sums it first. So raw packets take the same two ways as those of sockets.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::from_mut;

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use super::namespace::Namespace;
use super::wire::{bind, length};
use crate::frame::{TCP, UDP, checksum};
use crate::packet::{Packet, octets};

const ETH_LEN: usize = 14;
const HEADER_LEN: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_SUM: u8 = 1;

/// Sends frames on one link.
#[derive(Debug)]
pub struct Mouth {
    socket: OwnedFd,
}

impl Mouth {
    /// Opens a link.
    pub fn open(place: &Namespace, link: &str) -> Self {
        let index = i32::try_from(place.ifindex(link)).expect("an index is small");
        let socket = place
            .inside(|| {
                socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    None,
                )
            })
            .expect("open a packet socket");
        bind(&socket, index, 0).expect("bind a packet socket");
        announce_headers(&socket).expect("announce headers");
        Self { socket }
    }

    /// Sends a frame whose checksums are right; that of TCP or UDP is left to the link.
    pub fn send(&self, frame: &[u8]) {
        let unsummed = Packet::read(&frame[ETH_LEN..]).and_then(|packet| unsummed(frame, &packet));
        self.send_with(unsummed.unwrap_or_else(|| ([0; HEADER_LEN], frame.to_vec())));
    }

    /// Sends a frame as it is.
    pub fn send_as_is(&self, frame: &[u8]) {
        self.send_with(([0; HEADER_LEN], frame.to_vec()));
    }

    fn send_with(&self, (header, frame): ([u8; HEADER_LEN], Vec<u8>)) {
        let bytes = [header.as_slice(), &frame].concat();
        loop {
            match send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty()) {
                // The queue of the link is full for a moment.
                Err(nix::errno::Errno::ENOBUFS) => std::thread::yield_now(),
                sent => {
                    assert_eq!(sent.expect("send a frame"), bytes.len());
                    return;
                }
            }
        }
    }
}

/// Returns a frame with the sum of its pseudo header only, and the header that says so; `None` if
/// it has no sum that could be left to the link.
fn unsummed(frame: &[u8], packet: &Packet) -> Option<([u8; HEADER_LEN], Vec<u8>)> {
    let offset = match packet.protocol {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let at = ETH_LEN + packet.header.len() + offset;
    let is_summed = frame.get(at..at + 2)? != [0, 0] && packet.is_sound();
    if packet.part.is_some() || packet.is_cut || !is_summed {
        return None;
    }
    let mut pseudo = [packet.source, packet.destination].map(octets).concat();
    pseudo.extend(u32::try_from(packet.body.len()).ok()?.to_be_bytes());
    pseudo.extend([0, 0, 0, packet.protocol]);
    let mut frame = frame.to_vec();
    frame[at..at + 2].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
    let mut header = [0; HEADER_LEN];
    header[0] = NEEDS_SUM;
    header[6..8].copy_from_slice(&u16::try_from(at - offset).ok()?.to_ne_bytes());
    header[8..10].copy_from_slice(&u16::try_from(offset).ok()?.to_ne_bytes());
    Some((header, frame))
}

fn announce_headers(socket: &OwnedFd) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_VNET_HDR);
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
