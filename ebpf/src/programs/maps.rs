//! The maps, and the tables of the pipeline on top of them.
//!
//! Names and key and value types are the contract with the agent; it sets the capacities when it
//! creates the maps.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray};
use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};
use datapath::abi::{
    Addr4, Addr6, CALLS, DROP_SLOTS, DropCount, Flow, FlowKey, FragmentKey, FragmentPorts, Node,
    Party, Pending,
};
use datapath::tables::Tables;
use datapath::verdict::DropReason;
use datapath::work::Work;

/// Capacities where the agent sets none.
const FLOWS: u32 = 65_536;
const PARTIES: u32 = 8_192;
const PENDING: u32 = 4_096;
const FRAGMENTS: u32 = 4_096;

#[map]
static NODE: Array<Node> = Array::with_max_entries(1, 0);
#[map]
static ENDPOINTS: HashMap<u32, Party> = HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static LOCAL4: HashMap<Addr4, u32> = HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static LOCAL6: HashMap<Addr6, u32> = HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static FLOWS4: LruHashMap<FlowKey<Addr4>, Flow> = LruHashMap::with_max_entries(FLOWS, 0);
#[map]
static FLOWS6: LruHashMap<FlowKey<Addr6>, Flow> = LruHashMap::with_max_entries(FLOWS, 0);
#[map]
static PENDING4: Array<Pending<Addr4>> = Array::with_max_entries(PENDING, 0);
#[map]
static PENDING6: Array<Pending<Addr6>> = Array::with_max_entries(PENDING, 0);
#[map]
static FRAGMENTS4: LruHashMap<FragmentKey<Addr4>, FragmentPorts> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
#[map]
static FRAGMENTS6: LruHashMap<FragmentKey<Addr6>, FragmentPorts> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
#[map]
static WORK4: PerCpuArray<Work<Addr4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static WORK6: PerCpuArray<Work<Addr6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static DROPS: PerCpuArray<DropCount> = PerCpuArray::with_max_entries(DROP_SLOTS, 0);
#[map]
pub(crate) static CALL: ProgramArray = ProgramArray::with_max_entries(CALLS, 0);

/// Counts a dropped packet.
#[inline(always)]
pub(crate) fn count_drop(reason: DropReason, len: u32) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: the entry belongs to this processor, and programs of these hooks do not
        // interrupt each other on one processor.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(len);
        }
    }
}

/// Returns the slow path's work space on this processor.
#[inline(always)]
pub(crate) fn work4() -> Option<&'static mut Work<Addr4>> {
    // SAFETY: the entry belongs to this processor, and programs of these hooks do not interrupt
    // each other on one processor; the same below.
    WORK4.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}

/// Returns the slow path's work space on this processor.
#[inline(always)]
pub(crate) fn work6() -> Option<&'static mut Work<Addr6>> {
    // SAFETY: see above.
    WORK6.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}

/// Stands for the maps.
pub(crate) struct Maps;

macro_rules! tables {
    ($address:ty, $local:ident, $flows:ident, $pending:ident, $fragments:ident) => {
        impl Tables<$address> for Maps {
            #[inline(always)]
            fn now_ns(&self) -> u64 {
                // SAFETY: the helper has no preconditions.
                unsafe { bpf_ktime_get_coarse_ns() }
            }

            #[inline(always)]
            fn node(&self) -> Option<&Node> {
                NODE.get(0)
            }

            #[inline(always)]
            fn party(&self, ifindex: u32) -> Option<&Party> {
                // SAFETY: the agent replaces entries whole; the kernel frees an old one only
                // after this program has ended.
                unsafe { ENDPOINTS.get(&ifindex) }
            }

            #[inline(always)]
            fn local(&self, address: &$address) -> Option<u32> {
                // SAFETY: as above; the value is one aligned word.
                unsafe { $local.get(address) }.copied()
            }

            #[inline(always)]
            fn flow(&mut self, key: &FlowKey<$address>) -> Option<&mut Flow> {
                let flow = $flows.get_ptr_mut(key)?;
                // SAFETY: the pointer comes from the lookup. Another processor may write the
                // entry meanwhile: each field is one aligned word at the most, and counters may
                // lose a count. The kernel may even give the element to another flow while it
                // is read; that leads one packet to an endpoint that did not ask for it, which
                // answers as to any stray packet.
                Some(unsafe { &mut *flow })
            }

            #[inline(always)]
            fn insert_flow(&mut self, key: &FlowKey<$address>, flow: &Flow) {
                // A failure costs the next packet another decision, nothing else.
                let _ = $flows.insert(key, flow, 0);
            }

            #[inline(always)]
            fn remove_flow(&mut self, key: &FlowKey<$address>) {
                // An entry that is already gone is what was wanted.
                let _ = $flows.remove(key);
            }

            #[inline(always)]
            fn pending(&self, index: u32, copy: &mut Pending<$address>) -> bool {
                let Some(entry) = $pending.get_ptr_mut(index) else {
                    return false;
                };
                // SAFETY: the pointer comes from the lookup; the atomic operations are
                // barriers, and the version is odd while somebody writes, so that a copy
                // between two equal even versions is of one piece.
                unsafe {
                    let version = load(&raw mut (*entry).version);
                    *copy = *entry;
                    version & 1 == 0 && load(&raw mut (*entry).version) == version
                }
            }

            #[inline(always)]
            fn set_pending(&mut self, index: u32, pending: &Pending<$address>) {
                let Some(entry) = $pending.get_ptr_mut(index) else {
                    return;
                };
                // SAFETY: the pointer comes from the lookup; whoever takes the lock writes
                // alone, and programs always run to their end.
                unsafe {
                    if atomic_xchg::<u32, { AtomicOrdering::SeqCst }>(&raw mut (*entry).lock, 1)
                        != 0
                    {
                        return;
                    }
                    bump(&raw mut (*entry).version);
                    (*entry).key = pending.key;
                    (*entry).zone = pending.zone;
                    (*entry).generation = pending.generation;
                    (*entry).created_ns = pending.created_ns;
                    (*entry).seen_ns = pending.seen_ns;
                    (*entry).packets = pending.packets;
                    (*entry).bytes = pending.bytes;
                    bump(&raw mut (*entry).version);
                    atomic_xchg::<u32, { AtomicOrdering::SeqCst }>(&raw mut (*entry).lock, 0);
                }
            }

            #[inline(always)]
            fn fragment(&self, key: &FragmentKey<$address>) -> Option<FragmentPorts> {
                // SAFETY: the value is eight bytes, aligned to two; a torn read is possible
                // only while the same datagram's first fragment comes twice.
                unsafe { $fragments.get(key) }.copied()
            }

            #[inline(always)]
            fn insert_fragment(&mut self, key: &FragmentKey<$address>, ports: &FragmentPorts) {
                // Without the entry the later fragments are dropped and counted.
                let _ = $fragments.insert(key, ports, 0);
            }
        }
    };
}

tables!(Addr4, LOCAL4, FLOWS4, PENDING4, FRAGMENTS4);
tables!(Addr6, LOCAL6, FLOWS6, PENDING6, FRAGMENTS6);

/// Reads a word with a full barrier.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
unsafe fn load(word: *mut u32) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(word, 0) }
}

/// Adds one to a word with a full barrier.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
unsafe fn bump(word: *mut u32) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(word, 1) }
}
