//! A packet as tc programs see it.

#![expect(
    clippy::cast_possible_truncation,
    reason = "headers are shorter than 4 GiB"
)]

use core::arch::asm;
use core::mem::offset_of;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_pull_data,
};
use datapath::packet::{Packet, Wire};

/// Packet type of the kernel for "to us".
const PACKET_HOST: u32 = 0;

const _: () = assert!(offset_of!(__sk_buff, data) == 76);
const _: () = assert!(offset_of!(__sk_buff, data_end) == 80);

/// Wraps the context of a program.
#[derive(Clone, Copy)]
pub(crate) struct Skb(pub(crate) *mut __sk_buff);

impl Skb {
    /// Returns where the accessible part of the packet begins and ends.
    ///
    /// Written out, for the compiler likes to keep a pointer to these two fields of the context.
    /// verifier (all): "dereference of modified ctx ptr".
    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        let (data, end): (usize, usize);
        // SAFETY: the context is valid for as long as the program runs, and the offsets are
        // those of the fields, as the assertions check.
        unsafe {
            asm!(
                "{data} = *(u32 *)({ctx} + 76)",
                "{end} = *(u32 *)({ctx} + 80)",
                ctx = in(reg) self.0,
                data = out(reg) data,
                end = lateout(reg) end,
                options(pure, readonly, nostack),
            );
        }
        (data, end)
    }

    /// Returns the packet's bytes from `offset` on as a `T`, if they are accessible.
    #[inline(always)]
    fn at<T>(self, offset: usize) -> Option<*mut T> {
        let (data, end) = self.bounds();
        let start = data + offset;
        if start + size_of::<T>() > end {
            None
        } else {
            Some(start as *mut T)
        }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is valid for as long as the program runs; the same below.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.0).vlan_present != 0 }
    }

    #[inline(always)]
    fn pull(&mut self, len: u32) -> bool {
        // SAFETY: see `len`; nothing points into the packet across this call.
        unsafe { bpf_skb_pull_data(self.0, len) == 0 }
    }

    #[inline(always)]
    fn load<T: Wire>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` has checked the bounds, and any bytes are a valid `T: Wire`. Headers lie
        // at any even address; the processors that the kernel's verifier allows this on do not
        // mind, and one load per field is what keeps the fast path short.
        self.at::<T>(offset)
            .map(|pointer| unsafe { pointer.read() })
    }

    #[inline(always)]
    fn store<T: Wire>(&mut self, offset: usize, value: T) -> bool {
        let Some(pointer) = self.at::<T>(offset) else {
            return false;
        };
        // SAFETY: `at` has checked the bounds; for the alignment see `load`.
        unsafe { pointer.write(value) };
        true
    }

    #[inline(always)]
    fn read<T: Wire + Default>(&self, offset: u32) -> Option<T> {
        let mut value = T::default();
        // SAFETY: the helper checks the bounds of the packet and writes `size_of::<T>()` bytes,
        // any of which are a valid `T: Wire`.
        let status = unsafe {
            bpf_skb_load_bytes(
                self.0.cast(),
                offset,
                (&raw mut value).cast(),
                size_of::<T>() as u32,
            )
        };
        (status == 0).then_some(value)
    }

    #[inline(always)]
    fn adjust_sum(&mut self, difference: u32) {
        // The helper refuses packets whose sum nobody took, which is as it should be.
        // SAFETY: see `len`.
        let _ = unsafe { bpf_csum_update(self.0, difference) };
    }

    #[inline(always)]
    fn set_for_host(&mut self) {
        // A neighbour message that stays a broadcast is understood all the same.
        // SAFETY: see `len`.
        let _ = unsafe { bpf_skb_change_type(self.0, PACKET_HOST) };
    }
}
