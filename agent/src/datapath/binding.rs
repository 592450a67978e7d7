//! A table of bindings, while programs work on it: read piece by piece, entries taken out for good.
//!
//! aya reads a map key by key from its beginning, and cannot take an entry out.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use aya::Pod;
use aya_obj::generated::{bpf_attr, bpf_cmd};
use datapath::abi::{Binding, FlowKey};
use nix::libc;

use super::sys::{bpf, open_pin, zeroed};

/// Flag of `BPF_MAP_UPDATE_ELEM`: only if there is no such entry.
const NO_EXIST: u64 = 1;

/// Is a table of bindings of one family.
pub(super) struct Bindings<A> {
    fd: OwnedFd,
    address: PhantomData<A>,
}

/// Is a piece of a table.
pub(super) struct Piece<A> {
    pub(super) entries: Vec<(FlowKey<A>, Binding<A>)>,
    /// Where the next piece begins; `None` after the last one.
    pub(super) next: Option<u32>,
}

impl<A: Default + Copy> Bindings<A>
where
    FlowKey<A>: Pod + Default,
    Binding<A>: Pod + Default,
{
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let fd = open_pin(path)?;
        let address = PhantomData;
        Ok(Self { fd, address })
    }

    /// Reads about so many entries, from the beginning or from where another piece ended.
    pub(super) fn read(&self, from: Option<u32>, len: u32) -> io::Result<Piece<A>> {
        let mut keys = vec![FlowKey::<A>::default(); len as usize];
        let mut halves = vec![Binding::<A>::default(); len as usize];
        let (start, mut end) = (from.unwrap_or(0), 0_u32);
        let mut attr = zeroed();
        // SAFETY: this member is the one that BPF_MAP_LOOKUP_BATCH reads; any bytes are valid.
        #[expect(unsafe_code, reason = "the kernel's interface is a union")]
        let batch = unsafe { &mut attr.batch };
        batch.map_fd = self.fd.as_raw_fd().cast_unsigned();
        batch.in_batch = from.map_or(0, |_| (&raw const start) as u64);
        batch.out_batch = (&raw mut end) as u64;
        batch.keys = keys.as_mut_ptr() as u64;
        batch.values = halves.as_mut_ptr() as u64;
        batch.count = len;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "the kernel's interface is a union")]
        let found = unsafe { attr.batch.count } as usize;
        let next = match result {
            Ok(_) => Some(end),
            // The last piece.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
            Err(error) => return Err(error),
        };
        let entries = keys.into_iter().zip(halves).take(found).collect();
        Ok(Piece { entries, next })
    }

    /// Reads an entry, if it is there.
    pub(super) fn get(&self, key: &FlowKey<A>) -> io::Result<Option<Binding<A>>> {
        self.fetch(bpf_cmd::BPF_MAP_LOOKUP_ELEM, key)
    }

    /// Takes an entry out, if it is there, and returns what it was.
    pub(super) fn take(&self, key: &FlowKey<A>) -> io::Result<Option<Binding<A>>> {
        self.fetch(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, key)
    }

    /// Puts an entry back, unless there is another one meanwhile.
    pub(super) fn put_back(&self, key: &FlowKey<A>, half: &Binding<A>) -> io::Result<()> {
        let mut attr = self.attr(key, (&raw const *half) as u64, NO_EXIST);
        match bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn fetch(&self, command: bpf_cmd, key: &FlowKey<A>) -> io::Result<Option<Binding<A>>> {
        let mut half = Binding::default();
        let mut attr = self.attr(key, (&raw mut half) as u64, 0);
        match bpf(command, &mut attr) {
            Ok(_) => Ok(Some(half)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn attr(&self, key: &FlowKey<A>, value: u64, flags: u64) -> bpf_attr {
        let mut attr = zeroed();
        // SAFETY: this member is the one that commands about one entry read; any bytes are valid.
        #[expect(unsafe_code, reason = "the kernel's interface is a union")]
        let element = unsafe { &mut attr.__bindgen_anon_2 };
        element.map_fd = self.fd.as_raw_fd().cast_unsigned();
        element.key = (&raw const *key) as u64;
        element.__bindgen_anon_1.value = value;
        element.flags = flags;
        attr
    }
}
