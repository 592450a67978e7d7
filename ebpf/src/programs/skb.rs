//! A packet as tc programs see it.

#![expect(
    clippy::cast_possible_truncation,
    reason = "headers are shorter than 4 GiB"
)]

use core::arch::asm;
use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_csum_update, bpf_l4_csum_replace, bpf_loop, bpf_skb_change_type,
    bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use datapath::checksum;
use datapath::packet::{CheckChange, Packet, VLAN_TAG, Wire};

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

/// Bytes that are summed at once.
const CHUNK_LEN: u32 = 64;
/// Chunks that are summed: 1536 bytes, more than any link carries of an ICMP error.
const CHUNKS: u32 = 24;

/// Is a sum that is being taken.
#[repr(C)]
struct Sum {
    skb: Skb,
    offset: u32,
    /// Bytes that are still to be summed.
    len: u32,
    so_far: u32,
    /// Not 0 if bytes are not there.
    is_short: u32,
}

impl Sum {
    /// Adds a chunk; `true` if it was the last.
    #[inline(always)]
    fn step(&mut self) -> bool {
        let mut chunk = [0_u64; CHUNK_LEN as usize / 8];
        if self.len == 0 {
            return true;
        }
        // verifier (6.1): "invalid zero-sized read": it does not know that both are the same.
        let part = (self.len - 1).min(CHUNK_LEN - 1) + 1;
        // SAFETY: the helper writes at most `CHUNK_LEN` bytes, and checks the packet's bounds.
        let status = unsafe {
            bpf_skb_load_bytes(
                self.skb.0.cast(),
                self.offset,
                (&raw mut chunk).cast(),
                part,
            )
        };
        if status != 0 {
            self.is_short = 1;
            return true;
        }
        // SAFETY: the chunk is initialised and as long as it says.
        let added = unsafe {
            bpf_csum_diff(
                core::ptr::null_mut(),
                0,
                (&raw mut chunk).cast(),
                CHUNK_LEN,
                self.so_far,
            )
        };
        self.so_far = added.cast_unsigned() as u32;
        self.offset += part;
        self.len -= part;
        self.len == 0
    }
}

/// Adds a chunk in a loop of the kernel's, which the verifier follows once; 1 ends it.
///
/// # Safety
/// `sum` is the loop's.
unsafe extern "C" fn sum_step(_index: u64, sum: *mut c_void) -> i64 {
    // SAFETY: passed on to the caller.
    i64::from(unsafe { &mut *sum.cast::<Sum>() }.step())
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
    fn is_for_us(&self) -> bool {
        // SAFETY: see `len`.
        unsafe { (*self.0).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn vlan_tag(&self) -> u32 {
        // SAFETY: see `len`.
        unsafe {
            if (*self.0).vlan_present == 0 {
                0
            } else {
                VLAN_TAG | (*self.0).vlan_tci
            }
        }
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
    fn write<T: Wire>(&mut self, offset: u32, value: T) -> bool {
        // SAFETY: the helper checks the bounds of the packet and reads `size_of::<T>()` bytes of
        // the value, all of which are initialised, for `T: Wire` has no padding.
        unsafe {
            bpf_skb_store_bytes(
                self.0,
                offset,
                (&raw const value).cast(),
                size_of::<T>() as u32,
                0,
            ) == 0
        }
    }

    #[inline(never)]
    fn sum(&self, offset: u32, len: u32) -> Option<u16> {
        let mut sum = Sum {
            skb: *self,
            offset,
            len,
            so_far: 0,
            is_short: 0,
        };
        // SAFETY: the steps get what they expect, and the sum outlives the loop.
        unsafe {
            bpf_loop(CHUNKS, sum_step as *mut c_void, (&raw mut sum).cast(), 0);
        }
        let is_whole = sum.is_short == 0 && sum.len == 0;
        is_whole.then(|| checksum::fold(u64::from(sum.so_far)))
    }

    #[inline(always)]
    fn update_check(&mut self, offset: u32, change: CheckChange) -> bool {
        let mangled = if change.is_udp {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let [addresses, ports] = [change.addresses, change.ports].map(u64::from);
        if addresses != 0 {
            let flags = u64::from(BPF_F_PSEUDO_HDR) | mangled;
            // SAFETY: see `len`; the same below.
            if unsafe { bpf_l4_csum_replace(self.0, offset, 0, addresses, flags) } != 0 {
                return false;
            }
            if change.is_ipv6 {
                // The helper takes it that addresses have a checksum of their own, which takes
                // their change back in the sum over the whole packet. Those of IPv6 have none.
                self.adjust_sum(change.addresses.into());
            }
        }
        // SAFETY: see `len`.
        ports == 0 || unsafe { bpf_l4_csum_replace(self.0, offset, 0, ports, mangled) } == 0
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
