//! The two socket options by which the kernel hands out a legacy iptables table.
//!
//! Nothing is parsed here but the description that comes first: where built-in chains begin
//! and where their policies are.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::host::error::{Error, Result};

/// Options of both families (`IPT_SO_GET_INFO`, `IPT_SO_GET_ENTRIES`).
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// Number of hooks.
const HOOKS: usize = 5;

/// Space for the name of a table, with its end.
const NAME_LEN: usize = 32;

/// Length of the description: name, valid hooks, two offsets for each hook, count, size.
const INFO_LEN: usize = NAME_LEN + 4 * (1 + 2 * HOOKS + 2);

/// Length of what is in front of the entries: name, size, padding.
const HEADER_LEN: usize = NAME_LEN + 8;

/// How often a table is read that changes meanwhile.
const ATTEMPTS: u32 = 16;

/// Is a table: its entries, and offsets of built-in chains and of their policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) entries: Vec<u8>,
    pub(super) hooks: [Option<usize>; HOOKS],
    pub(super) policies: [Option<usize>; HOOKS],
}

/// Reads a table that exists.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn read(version6: bool, name: &str) -> Result<Block> {
    let what = || format!("read iptables table {name}");
    let (family, level) = if version6 {
        (AddressFamily::Inet6, libc::IPPROTO_IPV6)
    } else {
        (AddressFamily::Inet, libc::IPPROTO_IP)
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| Error::system(what(), errno))?;
    for _ in 0..ATTEMPTS {
        match read_once(&socket, level, name) {
            // It has another size than a moment ago.
            Err(Errno::EAGAIN) => {}
            other => return other.map_err(|errno| Error::system(what(), errno)),
        }
    }
    Err(Error::Interrupted {
        what: what(),
        attempts: ATTEMPTS,
    })
}

fn read_once(socket: &OwnedFd, level: libc::c_int, name: &str) -> nix::Result<Block> {
    let mut info = request(name, INFO_LEN);
    get(socket, level, GET_INFO, &mut info)?;
    let word = |number: usize| {
        let bytes = &info[NAME_LEN + 4 * number..][..4];
        bytes.try_into().map_or(0, u32::from_ne_bytes)
    };
    let offset = |hook: usize, first: usize| {
        let is_valid = word(0) & 1 << hook != 0;
        is_valid.then(|| usize::try_from(word(first + hook)).unwrap_or_default())
    };
    let size = word(2 + 2 * HOOKS);

    let len = usize::try_from(size).map_err(|_| Errno::EOVERFLOW)?;
    let mut table = request(name, HEADER_LEN + len);
    table[NAME_LEN..][..4].copy_from_slice(&size.to_ne_bytes());
    get(socket, level, GET_ENTRIES, &mut table)?;
    Ok(Block {
        entries: table.split_off(HEADER_LEN),
        hooks: std::array::from_fn(|hook| offset(hook, 1)),
        policies: std::array::from_fn(|hook| offset(hook, 1 + HOOKS)),
    })
}

/// Returns a buffer that begins with the name of a table.
fn request(name: &str, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let name_len = name.len().min(NAME_LEN - 1);
    buffer[..name_len].copy_from_slice(&name.as_bytes()[..name_len]);
    buffer
}

fn get(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    buffer: &mut [u8],
) -> nix::Result<()> {
    let mut len = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::EOVERFLOW)?;
    #[expect(unsafe_code, reason = "nix has no such option")]
    // SAFETY: the kernel writes at most `len` bytes, the length of the buffer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    Errno::result(result).map(drop)
}
