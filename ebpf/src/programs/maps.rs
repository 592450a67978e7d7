//! The maps, and the tables of the pipeline on top of them.
//!
//! Names and key and value types are the contract with the agent; it sets the capacities when it
//! creates the maps.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{
    bpf_for_each_map_elem, bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_loop,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key as Lpm;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray};
use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};
#[cfg(feature = "next-schema")]
use datapath::abi::previous::Pending as PreviousPending;
use datapath::abi::{
    Addr4, Addr6, Binding, CALLS, Count, DROP_SLOTS, Datagram, Device, FORMER_SLOTS, Flow, FlowKey,
    FragmentKey, LENGTHS_SLOTS, Lengths, Line, Node, OVERTAKING_SLOTS, Overtaking, Party, Pending,
    PolicyEntry, PolicyKey, PolicyPort, Prefix, PrefixKey, Ruling, Side, Sides, Subject, TAKEN_NS,
    TERM_SLOTS, TICKET_LINES,
};
use datapath::consult::Former;
use datapath::family::Address;
use datapath::flow::pending_index;
use datapath::tables::{Insertion, Route, SWEEP_PAUSE_NS, Step, Tables, Visit};
use datapath::verdict::DropReason;
use datapath::work::Work;

use crate::lookup::Lookup as _;
use crate::skb::Skb;

/// Errors of an insertion: another program, which this one interrupted, has the bucket's lock; and
/// there is such an entry already.
const EBUSY: i32 = -16;
const EEXIST: i32 = -17;

/// Capacities where the agent sets none.
const FLOWS: u32 = 65_536;
const PARTIES: u32 = 8_192;
const PENDING: u32 = 4_096;
const FRAGMENTS: u32 = 4_096;
const DEVICES: u32 = 64;
const PREFIXES: u32 = 16_384;
const BINDINGS: u32 = 32_768;
const SLOTS: u32 = 16;
const POLICIES: u32 = 16_384;

#[map]
static NODE: Array<Node> = Array::with_max_entries(1, 0);
#[map]
static ENDPOINTS: HashMap<u32, Party> = HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static LOCAL4: HashMap<Addr4, u32> = HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static LOCAL6: HashMap<Addr6, u32> = HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static FLOWS4: LruHashMap<FlowKey<Addr4>, Flow<Addr4>> = LruHashMap::with_max_entries(FLOWS, 0);
#[map]
static FLOWS6: LruHashMap<FlowKey<Addr6>, Flow<Addr6>> = LruHashMap::with_max_entries(FLOWS, 0);
#[map]
static PENDING4: Array<Pending<Addr4>> = Array::with_max_entries(PENDING, 0);
#[map]
static PENDING6: Array<Pending<Addr6>> = Array::with_max_entries(PENDING, 0);
#[map]
static PERMITS4: Array<Line> = Array::with_max_entries(PENDING, 0);
#[map]
static PERMITS6: Array<Line> = Array::with_max_entries(PENDING, 0);
#[map]
static TICKETS4: Array<Line> = Array::with_max_entries(TICKET_LINES, 0);
#[map]
static TICKETS6: Array<Line> = Array::with_max_entries(TICKET_LINES, 0);
#[map]
static FRAGMENTS4: LruHashMap<FragmentKey<Addr4>, Datagram> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
#[map]
static FRAGMENTS6: LruHashMap<FragmentKey<Addr6>, Datagram> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
/// Fragments that came before the first of their datagram, for the sender.
#[map]
static OVERTAKING: Array<Overtaking> = Array::with_max_entries(OVERTAKING_SLOTS, 0);
/// Flows of each slot that entered the table unanswered.
#[map]
static SHARES: Array<Overtaking> = Array::with_max_entries(SLOTS, 0);
#[map(name = "DEVICES")]
static DEVICE_BY_INDEX: HashMap<u32, Device> = HashMap::with_max_entries(DEVICES, 0);
#[map]
static PREFIXES4: HashMap<PrefixKey<Addr4>, Sides<Prefix>> =
    HashMap::with_max_entries(PREFIXES, BPF_F_NO_PREALLOC);
#[map]
static PREFIXES6: HashMap<PrefixKey<Addr6>, Sides<Prefix>> =
    HashMap::with_max_entries(PREFIXES, BPF_F_NO_PREALLOC);
/// The lengths of prefixes, see [`LENGTHS_SLOTS`].
#[map]
static LENGTHS: Array<Lengths> = Array::with_max_entries(LENGTHS_SLOTS, 0);
/// What each party is to policy.
#[map]
static SUBJECTS: HashMap<u64, Sides<Subject>> =
    HashMap::with_max_entries(PARTIES, BPF_F_NO_PREALLOC);
#[map]
static POLICY: HashMap<PolicyKey, Sides<PolicyEntry>> =
    HashMap::with_max_entries(POLICIES, BPF_F_NO_PREALLOC);
#[map]
static RANGES: LpmTrie<PolicyPort, Sides<Ruling>> =
    LpmTrie::with_max_entries(POLICIES, BPF_F_NO_PREALLOC);
/// What each term of policy has allowed or denied.
#[map]
static TERMS: PerCpuArray<Count> = PerCpuArray::with_max_entries(TERM_SLOTS, 0);
/// What policy would have denied to each slot.
#[map]
static AUDITS: PerCpuArray<Count> = PerCpuArray::with_max_entries(SLOTS, 0);
#[map]
static BINDINGS4: HashMap<FlowKey<Addr4>, Binding<Addr4>> = HashMap::with_max_entries(BINDINGS, 0);
#[map]
static BINDINGS6: HashMap<FlowKey<Addr6>, Binding<Addr6>> = HashMap::with_max_entries(BINDINGS, 0);
/// Numbers of bindings: for each slot one of IPv4, then one of IPv6.
#[map]
static BOUND: Array<u32> = Array::with_max_entries(SLOTS * 2, 0);
/// Where the search for a free port goes on, for each family.
#[map]
static CURSOR: Array<u32> = Array::with_max_entries(2, 0);
/// When bindings may be swept again, for each family.
#[map]
static SWEEPS: Array<u64> = Array::with_max_entries(2, 0);
#[map]
static WORK4: PerCpuArray<Work<Addr4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static WORK6: PerCpuArray<Work<Addr6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static DROPS: PerCpuArray<Count> = PerCpuArray::with_max_entries(DROP_SLOTS, 0);
#[map]
pub(crate) static CALL: ProgramArray = ProgramArray::with_max_entries(CALLS, 0);
/// The programs of hooks that work on the tables before these, by the number of the hook.
#[map]
pub(crate) static FORMER: ProgramArray = ProgramArray::with_max_entries(FORMER_SLOTS, 0);

/// Not 0 once these tables are in charge in the place of others. It is one word because programs on all
/// hooks must change their mind at once: the kernel replaces a tail call in one program after the
/// other, which takes milliseconds.
#[map]
static IN_CHARGE: Array<u32> = Array::with_max_entries(1, 0);

/// Tells whether these tables are in charge.
#[inline(always)]
pub(crate) fn is_in_charge() -> bool {
    // SAFETY: the pointer comes from the lookup; a word is read whole.
    IN_CHARGE
        .get_ptr(0)
        .is_some_and(|word| unsafe { word.read_volatile() } != 0)
}

/// The tables before these, while they are exchanged; the kernel knows how large their values are.
#[map]
static FORMER_ENDPOINTS: HashMap<u32, Party> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static FORMER_FLOWS4: LruHashMap<FlowKey<Addr4>, Flow<Addr4>> = LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_FLOWS6: LruHashMap<FlowKey<Addr6>, Flow<Addr6>> = LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_BINDINGS4: HashMap<FlowKey<Addr4>, Binding<Addr4>> = HashMap::with_max_entries(1, 0);
#[map]
static FORMER_BINDINGS6: HashMap<FlowKey<Addr6>, Binding<Addr6>> = HashMap::with_max_entries(1, 0);
#[map]
static FORMER_PENDING4: Array<Pending<Addr4>> = Array::with_max_entries(1, 0);
#[map]
static FORMER_PENDING6: Array<Pending<Addr6>> = Array::with_max_entries(1, 0);

/// Stands for the tables before these, of this layout.
pub(crate) struct Same;

/// Stands for the tables before these, of the layout before.
#[cfg(feature = "next-schema")]
pub(crate) struct Previous;

macro_rules! former {
    ($layout:ty, $value:ident, $address:ty, $flows:ident, $bindings:ident, $pending:ident) => {
        impl Former<$address> for $layout {
            #[inline(always)]
            fn has_flow(&self, key: &FlowKey<$address>) -> bool {
                $flows.get_ptr(key).is_some()
            }

            #[inline(always)]
            fn has_binding(&self, key: &FlowKey<$address>) -> bool {
                $bindings.get_ptr(key).is_some()
            }

            #[inline(always)]
            fn waits(&self, key: &FlowKey<$address>, zone: u32) -> bool {
                // SAFETY: the agent replaces entries whole.
                let Some(party) = (unsafe { FORMER_ENDPOINTS.get(&zone) }) else {
                    return false;
                };
                let index = pending_index(party.slot, key, u32::MAX);
                let Some(entry) = $pending.get_ptr(index) else {
                    return false;
                };
                let entry = entry.cast::<$value<$address>>();
                // SAFETY: the pointer comes from the lookup, and the entry is of this layout. One that
                // is written meanwhile may be taken for another one, for this packet.
                unsafe { (*entry).packets != 0 && (*entry).key == *key }
            }
        }
    };
}

former!(
    Same,
    Pending,
    Addr4,
    FORMER_FLOWS4,
    FORMER_BINDINGS4,
    FORMER_PENDING4
);
former!(
    Same,
    Pending,
    Addr6,
    FORMER_FLOWS6,
    FORMER_BINDINGS6,
    FORMER_PENDING6
);
#[cfg(feature = "next-schema")]
former!(
    Previous,
    PreviousPending,
    Addr4,
    FORMER_FLOWS4,
    FORMER_BINDINGS4,
    FORMER_PENDING4
);
#[cfg(feature = "next-schema")]
former!(
    Previous,
    PreviousPending,
    Addr6,
    FORMER_FLOWS6,
    FORMER_BINDINGS6,
    FORMER_PENDING6
);

/// Counts a dropped packet.
#[inline(always)]
pub(crate) fn count_drop(reason: DropReason, len: u32) {
    count(DROPS.get_ptr_mut(reason as u32), 1, u64::from(len));
}

/// Adds to a counter of this processor.
#[inline(always)]
fn count(counter: Option<*mut Count>, packets: u64, bytes: u64) {
    if let Some(counter) = counter {
        // SAFETY: the entry belongs to this processor, and programs of these hooks do not
        // interrupt each other on one processor.
        unsafe {
            (*counter).packets += packets;
            (*counter).bytes += bytes;
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

/// Returns the index in `LENGTHS` of a family.
#[inline(always)]
fn lengths_index<A: Address>(side: Side) -> u32 {
    u32::from(A::IS_IPV6) * 2 + side.number()
}

/// Stands for the maps, and for the kernel's view of the packet in hand.
pub(crate) struct Maps(pub(crate) Skb);

macro_rules! tables {
    (
        $address:ty, $local:ident, $flows:ident, $pending:ident, $permits:ident, $tickets:ident,
        $fragments:ident, $prefixes:ident, $bindings:ident
    ) => {
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
            fn local(&self, address: &$address) -> u32 {
                // SAFETY: as above; the value is one aligned word.
                match unsafe { $local.get(address) } {
                    Some(ifindex) => *ifindex,
                    None => 0,
                }
            }

            #[inline(always)]
            fn flow(&mut self, key: &FlowKey<$address>) -> Option<&mut Flow<$address>> {
                let flow = $flows.get_ptr_mut(key)?;
                // SAFETY: the pointer comes from the lookup. Another processor may write the
                // entry meanwhile: each field is one aligned word at the most, and counters may
                // lose a count. The kernel may even give the element to another flow while it
                // is read; that leads one packet to an endpoint that did not ask for it, which
                // answers as to any stray packet.
                Some(unsafe { &mut *flow })
            }

            #[inline(always)]
            fn insert_flow(&mut self, key: &FlowKey<$address>, flow: &Flow<$address>) {
                // A failure costs the next packet another decision, nothing else.
                if matches!($flows.insert(key, flow, 0), Err(EBUSY)) {
                    let _ = $flows.insert(key, flow, 0);
                }
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
                    (*entry).is_translated = pending.is_translated;
                    (*entry).created_ns = pending.created_ns;
                    (*entry).seen_ns = pending.seen_ns;
                    (*entry).packets = pending.packets;
                    (*entry).bytes = pending.bytes;
                    bump(&raw mut (*entry).version);
                    atomic_xchg::<u32, { AtomicOrdering::SeqCst }>(&raw mut (*entry).lock, 0);
                }
            }

            #[inline(always)]
            fn permits(&mut self, index: u32) -> Option<&mut Line> {
                let line = $permits.get_ptr_mut(index)?;
                // SAFETY: the pointer comes from the lookup. Another processor may write a note
                // meanwhile: each is one aligned word, and one may be lost.
                Some(unsafe { &mut *line })
            }

            #[inline(always)]
            fn tickets(&mut self, index: u32) -> Option<&mut Line> {
                let line = $tickets.get_ptr_mut(index)?;
                // SAFETY: as above.
                Some(unsafe { &mut *line })
            }

            #[inline(always)]
            fn datagram(&self, key: &FragmentKey<$address>) -> Option<Datagram> {
                // SAFETY: the value is eight bytes, aligned to two; a torn read is possible
                // only while the same datagram's first fragment comes twice.
                unsafe { $fragments.get(key) }.copied()
            }

            #[inline(always)]
            fn insert_datagram(&mut self, key: &FragmentKey<$address>, datagram: &Datagram) {
                // Without the entry the later fragments are dropped and counted.
                let _ = $fragments.insert(key, datagram, 0);
            }

            #[inline(always)]
            fn overtaking(&mut self, slot: u32) -> Option<&mut Overtaking> {
                let overtaking = OVERTAKING.get_ptr_mut(slot)?;
                // SAFETY: the pointer comes from the lookup; two processors may lose a count.
                Some(unsafe { &mut *overtaking })
            }

            #[inline(always)]
            fn share(&mut self, slot: u16) -> Option<&mut Overtaking> {
                let share = SHARES.get_ptr_mut(u32::from(slot))?;
                // SAFETY: the pointer comes from the lookup; two processors may lose a count.
                Some(unsafe { &mut *share })
            }

            #[inline(always)]
            fn device(&self, ifindex: u32) -> Option<&Device> {
                // SAFETY: as for parties.
                unsafe { DEVICE_BY_INDEX.get(&ifindex) }
            }

            #[inline(always)]
            fn lengths(&self, side: Side) -> (u32, Prefix) {
                match LENGTHS.get(lengths_index::<$address>(side)) {
                    Some(lengths) => (lengths.count, lengths.rest),
                    None => (0, Prefix::default()),
                }
            }

            #[inline(always)]
            fn length(&self, side: Side, place: u32) -> u32 {
                match LENGTHS.get(lengths_index::<$address>(side)) {
                    Some(lengths) => u32::from(lengths.bits[(place % Lengths::MOST) as usize]),
                    None => 0,
                }
            }

            #[inline(always)]
            fn prefix(&self, key: &PrefixKey<$address>, side: Side) -> Option<Prefix> {
                // SAFETY: the agent replaces entries whole; the kernel frees an old one only
                // after this program has ended.
                unsafe { $prefixes.get(key) }.map(|prefix| prefix.get(side))
            }

            #[inline(always)]
            fn subject(&self, key: u64, side: Side) -> Subject {
                // SAFETY: as for parties.
                match unsafe { SUBJECTS.get(&key) } {
                    Some(subject) => subject.get(side),
                    None => Subject::default(),
                }
            }

            #[inline(always)]
            fn policy(&self, key: &PolicyKey, side: Side) -> PolicyEntry {
                // SAFETY: the agent replaces entries whole; the kernel frees an old one only
                // after this program has ended.
                match unsafe { POLICY.get(key) } {
                    Some(entry) => entry.get(side),
                    None => PolicyEntry::default(),
                }
            }

            #[inline(always)]
            fn range(&self, port: &PolicyPort, side: Side) -> Ruling {
                match RANGES.get(&Lpm::new(PolicyPort::BITS, *port)) {
                    Some(ruling) => ruling.get(side),
                    None => Ruling::default(),
                }
            }

            #[inline(always)]
            fn count_term(&mut self, term: u16, packets: u64, bytes: u64) {
                if term != 0 {
                    count(TERMS.get_ptr_mut(u32::from(term)), packets, bytes);
                }
            }

            #[inline(always)]
            fn count_audit(&mut self, slot: u16, bytes: u64) {
                count(AUDITS.get_ptr_mut(u32::from(slot)), 1, bytes);
            }

            #[inline(always)]
            fn binding(&mut self, key: &FlowKey<$address>) -> Option<&mut Binding<$address>> {
                let binding = $bindings.get_ptr_mut(key)?;
                // SAFETY: the pointer comes from the lookup. Another processor may take the
                // entry over meanwhile; its expiry says so, and its other half leads elsewhere.
                Some(unsafe { &mut *binding })
            }

            #[inline(always)]
            fn insert_binding(
                &mut self,
                key: &FlowKey<$address>,
                binding: &Binding<$address>,
            ) -> Insertion {
                let mut result = $bindings.insert(key, binding, u64::from(BPF_NOEXIST));
                if matches!(result, Err(EBUSY)) {
                    result = $bindings.insert(key, binding, u64::from(BPF_NOEXIST));
                }
                match result {
                    Ok(()) => Insertion::Done,
                    Err(EEXIST) => Insertion::Taken,
                    Err(_) => Insertion::Refused,
                }
            }

            #[inline(always)]
            fn take_binding(
                &mut self,
                key: &FlowKey<$address>,
                expires_ns: u64,
                binding: &Binding<$address>,
            ) -> bool {
                let Some(entry) = $bindings.get_ptr_mut(key) else {
                    return false;
                };
                // SAFETY: the pointer comes from the lookup; whoever changes the expiry from what
                // it was has the entry alone until the new one is there.
                unsafe {
                    let expiry = &raw mut (*entry).expires_ns;
                    if expires_ns == TAKEN_NS || !exchange(expiry, expires_ns, TAKEN_NS) {
                        return false;
                    }
                    (*entry).other = binding.other;
                    (*entry).zone = binding.zone;
                    (*entry).answered = binding.answered;
                    (*entry).open = binding.open;
                    atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(expiry, binding.expires_ns);
                }
                true
            }

            #[inline(always)]
            fn remove_binding(&mut self, key: &FlowKey<$address>) -> bool {
                $bindings.remove(key).is_ok()
            }

            #[inline(always)]
            fn count_bindings(&mut self, slot: u16, more: i32) -> u32 {
                let index = u32::from(slot) * 2 + u32::from(<$address>::IS_IPV6);
                let Some(count) = BOUND.get_ptr_mut(index) else {
                    return 0;
                };
                // SAFETY: the pointer comes from the lookup.
                unsafe { add(count, more.cast_unsigned()) }
            }

            #[inline(always)]
            fn next_number(&mut self, is_random: bool) -> u32 {
                if is_random {
                    // SAFETY: the helper has no preconditions.
                    return unsafe { bpf_get_prandom_u32() } as u32;
                }
                let Some(cursor) = CURSOR.get_ptr_mut(u32::from(<$address>::IS_IPV6)) else {
                    return 0;
                };
                // SAFETY: the pointer comes from the lookup.
                unsafe { add(cursor, 1) }
            }

            #[inline(always)]
            fn has_socket(&self, key: &FlowKey<$address>) -> bool {
                self.0.has_socket(key)
            }

            #[inline(always)]
            fn repeat<S: Step<$address>>(&mut self, work: &mut Work<$address>, count: u32) -> bool {
                turn::<$address, S>(self, work, count)
            }

            #[inline(always)]
            fn sweep<V: Visit<$address>>(&mut self, work: &mut Work<$address>) -> bool {
                let bindings = (&raw const $bindings).cast_mut().cast();
                look_through::<$address, V>(self, bindings, work)
            }

            #[inline(always)]
            fn count_drop(&mut self, reason: DropReason, len: u32) {
                count_drop(reason, len);
            }

            #[inline(always)]
            fn route(&self, key: &FlowKey<$address>, from: u32, route: &mut Route) {
                self.0.route(key, from, route);
            }
        }
    };
}

tables!(
    Addr4, LOCAL4, FLOWS4, PENDING4, PERMITS4, TICKETS4, FRAGMENTS4, PREFIXES4, BINDINGS4
);
tables!(
    Addr6, LOCAL6, FLOWS6, PENDING6, PERMITS6, TICKETS6, FRAGMENTS6, PREFIXES6, BINDINGS6
);

/// Is what a loop's steps work on.
#[repr(C)]
struct Loop<A> {
    maps: Maps,
    work: *mut Work<A>,
    is_done: u64,
}

/// Takes steps in a loop of the kernel's: the verifier follows one of them, not all.
#[inline(always)]
fn turn<A, S: Step<A>>(maps: &Maps, work: *mut Work<A>, count: u32) -> bool
where
    Maps: Tables<A>,
{
    let mut state = Loop {
        maps: Maps(maps.0),
        work,
        is_done: 0,
    };
    // SAFETY: the steps get what they expect, and the state outlives the loop.
    unsafe {
        bpf_loop(
            count,
            step::<A, S> as *mut c_void,
            (&raw mut state).cast(),
            0,
        );
    }
    state.is_done != 0
}

/// Takes one step; 1 ends the loop.
///
/// # Safety
/// `state` is the loop's.
unsafe extern "C" fn step<A, S: Step<A>>(_index: u64, state: *mut c_void) -> i64
where
    Maps: Tables<A>,
{
    // SAFETY: passed on to the caller.
    let state = unsafe { &mut *state.cast::<Loop<A>>() };
    // SAFETY: the work space outlives the loop.
    let is_last = S::step(&mut state.maps, unsafe { &mut *state.work });
    state.is_done = u64::from(is_last);
    i64::from(is_last)
}

/// A sweep is followed by a pause this many times as long, so that sweeps of a very large table
/// take no more than their share of a processor.
const SWEEP_PAUSES: u64 = 50;

/// Takes every entry of a map of bindings to a visitor, if the last time is long enough ago.
#[inline(always)]
fn look_through<A: Address, V: Visit<A>>(
    maps: &Maps,
    bindings: *mut c_void,
    work: *mut Work<A>,
) -> bool
where
    Maps: Tables<A>,
{
    let Some(next) = SWEEPS.get_ptr_mut(u32::from(A::IS_IPV6)) else {
        return false;
    };
    let begun_ns = maps.now_ns();
    // SAFETY: the pointer comes from the lookup; a word is read whole.
    let next_ns = unsafe { next.read_volatile() };
    // SAFETY: as above.
    if begun_ns < next_ns || !unsafe { exchange(next, next_ns, begun_ns + SWEEP_PAUSE_NS) } {
        return false;
    }
    let mut state = Loop {
        maps: Maps(maps.0),
        work,
        is_done: 0,
    };
    // SAFETY: the visitor gets what it expects, and the state outlives the loop.
    unsafe {
        bpf_for_each_map_elem(
            bindings,
            visit::<A, V> as *mut c_void,
            (&raw mut state).cast(),
            0,
        );
    }
    let taken_ns = maps.now_ns() - begun_ns;
    let pause_ns = SWEEP_PAUSE_NS.max(taken_ns * SWEEP_PAUSES);
    // SAFETY: the work space outlives this function.
    let soonest_ns = unsafe { (*work).soonest_ns };
    // SAFETY: as above; nobody else gets here before the pause is over.
    unsafe {
        atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(next, soonest_ns.max(begun_ns + pause_ns))
    };
    true
}

/// Visits one entry.
///
/// # Safety
/// `state` is the loop's; `key` and `value` are the kernel's.
unsafe extern "C" fn visit<A: Address, V: Visit<A>>(
    _map: *mut c_void,
    key: *const FlowKey<A>,
    value: *const Binding<A>,
    state: *mut c_void,
) -> i64
where
    Maps: Tables<A>,
{
    // SAFETY: passed on to the caller; the work space outlives the loop.
    unsafe {
        let state = &mut *state.cast::<Loop<A>>();
        let work = &mut *state.work;
        V::visit(&mut state.maps, work, &*key, (*value).expires_ns);
    }
    0
}

/// Replaces a word if it is what it was; tells whether it was.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: passed on to the caller.
    let (found, _) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new)
    };
    found == old
}

/// Adds to a word with a full barrier and returns what it was.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
unsafe fn add(word: *mut u32, more: u32) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(word, more) }
}

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
