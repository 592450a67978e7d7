//! The switch for tx checksumming of a link (ethtool(8), `tx on|off`).
//!
//! With it packets travel unsummed between the links of a machine (`CHECKSUM_PARTIAL`), and a
//! rewrite must treat them otherwise than summed ones: whatever rewrites is tested with both.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::from_mut;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::namespace::Namespace;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Tells who sums packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// The links; nobody, where packets never leave the machine.
    On,
    /// The kernel, before it gives a packet to a link.
    Off,
}

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Offload {
    pub const BOTH: [Self; 2] = [Self::Off, Self::On];

    /// Switches all links of a namespace but `lo`.
    pub fn set_in(self, place: &Namespace) {
        place
            .inside(|| {
                for link in &nix::net::if_::if_nameindex()? {
                    let name = link.name().to_bytes_with_nul();
                    if name != b"lo\0" {
                        self.set(name)?;
                    }
                }
                Ok::<_, io::Error>(())
            })
            .expect("switch tx checksumming");
    }

    fn set(self, name: &[u8]) -> io::Result<()> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let mut value = Value {
            command: ETHTOOL_STXCSUM,
            data: u32::from(self == Self::On),
        };
        let mut request = request(name);
        request.ifr_ifru.ifru_data = from_mut(&mut value).cast();
        // SAFETY: the request leads to a variable of this function, of the type that the command
        // takes.
        #[expect(unsafe_code, reason = "nix does not know ethtool")]
        let result =
            unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, from_mut(&mut request)) };
        match io::Error::last_os_error() {
            _ if result == 0 => Ok(()),
            // A link that sums nothing, such as a bridge, has no switch.
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            error => Err(error),
        }
    }
}

fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: a structure of bytes, integers and pointers, for which zero is a value.
    #[expect(unsafe_code, reason = "it holds a union")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request
}
