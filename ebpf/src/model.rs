//! Packets and tables in ordinary memory: what tests, fuzzers and the differential run use in
//! place of a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use crate::abi::{
    Addr4, Addr6, Binding, Count, Datagram, Device, Flow, FlowKey, FragmentKey, Lengths, Line,
    Node, OUTSIDE, Overtaking, PENDING_PER_SLOT, Party, Pending, PolicyEntry, PolicyKey,
    PolicyPort, Prefix, PrefixKey, Ruling, Side, Sides, Subject,
};
use crate::checksum;

use crate::family::Address;
use crate::flow::KeyHash;
use crate::hook::Hook;
use crate::packet::{CheckChange, Packet, Wire};
use crate::tables::{Insertion, Route, SWEEP_PAUSE_NS, Step, Tables, Visit};
use crate::verdict::{DropReason, Verdict};
use crate::work::Work;

/// Is a packet in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPacket {
    pub bytes: Vec<u8>,
    pub ifindex: u32,
    pub ingress_ifindex: u32,
    pub gso_size: u32,
    /// See [`Packet::vlan_tag`].
    pub vlan_tag: u32,
    /// Whether it is addressed to somebody else.
    pub is_foreign: bool,
}

impl Packet for ModelPacket {
    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }

    fn is_for_us(&self) -> bool {
        !self.is_foreign
    }

    fn vlan_tag(&self) -> u32 {
        self.vlan_tag
    }

    fn pull(&mut self, len: u32) -> bool {
        self.bytes.len() >= len as usize
    }

    fn load<T: Wire>(&self, offset: usize) -> Option<T> {
        let bytes = self
            .bytes
            .get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice is as long as `T`, any bytes are a valid `T: Wire`, and the read
        // does not ask for alignment.
        #[expect(unsafe_code, reason = "copies a header out of a slice of its length")]
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn store<T: Wire>(&mut self, offset: usize, value: T) -> bool {
        let Some(bytes) = self.bytes.get_mut(offset..offset + size_of::<T>()) else {
            return false;
        };
        // SAFETY: the slice is as long as `T`, and the write does not ask for alignment.
        #[expect(unsafe_code, reason = "copies a header into a slice of its length")]
        unsafe {
            bytes.as_mut_ptr().cast::<T>().write_unaligned(value);
        }
        true
    }

    fn read<T: Wire + Default>(&self, offset: u32) -> Option<T> {
        self.load(offset as usize)
    }

    fn write<T: Wire>(&mut self, offset: u32, value: T) -> bool {
        self.store(offset as usize, value)
    }

    fn sum(&self, offset: u32, len: u32) -> Option<u16> {
        let end = offset.checked_add(len)?;
        let bytes = self.bytes.get(offset as usize..end as usize)?;
        if len > MAX_SUM {
            return None;
        }
        let words = bytes.chunks(2).map(|pair| {
            let [a, b] = [pair[0], pair.get(1).copied().unwrap_or(0)];
            u64::from(u16::from_ne_bytes([a, b]))
        });
        Some(checksum::fold(words.sum()))
    }

    fn update_check(&mut self, offset: u32, change: CheckChange) -> bool {
        let Some(mut check) = self.load::<u16>(offset as usize) else {
            return false;
        };
        if change.is_udp && check == 0 {
            return true;
        }
        for change in [change.addresses, change.ports] {
            if change != 0 {
                check = checksum::add(check, change);
            }
        }
        if change.is_udp && check == 0 {
            check = u16::MAX;
        }
        self.store(offset as usize, check)
    }

    fn adjust_sum(&mut self, _difference: u32) {}

    fn set_for_host(&mut self) {}
}

/// Bytes that are summed at most, as in the kernel.
const MAX_SUM: u32 = 1536;

/// Holds the tables of one address family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelTables<A: Ord> {
    pub now_ns: u64,
    pub node: Option<Node>,
    pub parties: BTreeMap<u32, Party>,
    pub local: BTreeMap<A, u32>,
    pub flows: BTreeMap<FlowKey<A>, Flow<A>>,
    pub pending: BTreeMap<u32, Pending<A>>,
    pub permits: BTreeMap<u32, Line>,
    pub tickets: BTreeMap<u32, Line>,
    pub fragments: BTreeMap<FragmentKey<A>, Datagram>,
    pub overtaking: BTreeMap<u32, Overtaking>,
    pub shares: BTreeMap<u16, Overtaking>,
    pub devices: BTreeMap<u32, Device>,
    /// Prefixes, and the markers among them.
    pub prefixes: BTreeMap<PrefixKey<A>, Sides<Prefix>>,
    pub lengths: Sides<Lengths>,
    pub subjects: BTreeMap<u64, Sides<Subject>>,
    pub policies: BTreeMap<PolicyKey, Sides<PolicyEntry>>,
    /// By port and length.
    pub ranges: Vec<(PolicyPort, u32, Sides<Ruling>)>,
    pub terms: BTreeMap<u16, Count>,
    pub audits: BTreeMap<u16, Count>,
    pub bindings: BTreeMap<FlowKey<A>, Binding<A>>,
    pub bound: BTreeMap<u16, u32>,
    pub cursor: u32,
    /// When bindings may be swept again.
    pub next_sweep_ns: u64,
    /// Sources of the node's own sockets: address, port in the order of the wire, protocol.
    pub sockets: BTreeSet<(A, u16, u8)>,
    /// Routes by prefix and length, the longest first; what has none is not forwarded.
    pub routes: Vec<(A, u32, Route)>,
    /// Packets that were dropped, but for those whose verdict says so.
    pub drops: BTreeMap<DropReason, u64>,
}

impl<A: Address + Ord> ModelTables<A> {
    /// Says what is known of a prefix, on both sides; one of which two lengths at most are known
    /// needs no markers as long as no prefix lies in another one.
    fn add_prefix(&mut self, (address, len): (A, u32), prefix: Prefix) {
        let key = PrefixKey::new(address.first(len), len);
        self.prefixes.insert(key, Sides::both(prefix));
        let known: BTreeSet<u8> = self.prefixes.keys().map(|key| key.len as u8).collect();
        let mut lengths = Lengths {
            count: known.len() as u32,
            ..Lengths::default()
        };
        for (place, len) in lengths.bits.iter_mut().zip(known) {
            *place = len;
        }
        self.lengths = Sides::both(lengths);
        self.mark();
    }

    /// Adds the markers that a search by halves comes by.
    fn mark(&mut self) {
        let lengths = self.lengths.get(Side::of(0));
        let known: Vec<u32> = lengths.bits[..lengths.count as usize]
            .iter()
            .map(|len| u32::from(*len))
            .collect();
        let wanted: Vec<PrefixKey<A>> = self.prefixes.keys().copied().collect();
        for key in wanted {
            let (mut low, mut high) = (0, known.len());
            while low < high {
                let middle = usize::midpoint(low, high);
                if known[middle] >= key.len {
                    high = middle;
                    continue;
                }
                let marker = PrefixKey::new(key.address.first(known[middle]), known[middle]);
                self.prefixes.entry(marker).or_default();
                low = middle + 1;
            }
        }
    }
}

impl<A: Address + Ord + Hash + Default> Tables<A> for ModelTables<A> {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn party(&self, ifindex: u32) -> Option<&Party> {
        self.parties.get(&ifindex)
    }

    fn local(&self, address: &A) -> u32 {
        self.local.get(address).copied().unwrap_or(0)
    }

    fn flow(&mut self, key: &FlowKey<A>) -> Option<&mut Flow<A>> {
        self.flows.get_mut(key)
    }

    fn insert_flow(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        self.flows.insert(*key, *flow);
    }

    fn remove_flow(&mut self, key: &FlowKey<A>) {
        self.flows.remove(key);
    }

    fn pending(&self, index: u32, copy: &mut Pending<A>) -> bool {
        // As in the kernel, where every entry of an array exists from the start.
        *copy = self.pending.get(&index).copied().unwrap_or_default();
        true
    }

    fn set_pending(&mut self, index: u32, pending: &Pending<A>) {
        let version = self.pending.get(&index).map_or(0, |old| old.version) + 2;
        self.pending.insert(
            index,
            Pending {
                version,
                ..*pending
            },
        );
    }

    fn permits(&mut self, index: u32) -> Option<&mut Line> {
        Some(self.permits.entry(index).or_default())
    }

    fn tickets(&mut self, index: u32) -> Option<&mut Line> {
        Some(self.tickets.entry(index).or_default())
    }

    fn datagram(&self, key: &FragmentKey<A>) -> Option<Datagram> {
        self.fragments.get(key).copied()
    }

    fn insert_datagram(&mut self, key: &FragmentKey<A>, datagram: &Datagram) {
        self.fragments.insert(*key, *datagram);
    }

    fn overtaking(&mut self, slot: u32) -> Option<&mut Overtaking> {
        Some(self.overtaking.entry(slot).or_default())
    }

    fn share(&mut self, slot: u16) -> Option<&mut Overtaking> {
        Some(self.shares.entry(slot).or_default())
    }

    fn device(&self, ifindex: u32) -> Option<&Device> {
        self.devices.get(&ifindex)
    }

    fn lengths(&self, side: Side) -> (u32, Prefix) {
        let lengths = self.lengths.get(side);
        (lengths.count, lengths.rest)
    }

    fn length(&self, side: Side, place: u32) -> u32 {
        u32::from(self.lengths.get(side).bits[place as usize])
    }

    fn prefix(&self, key: &PrefixKey<A>, side: Side) -> Option<Prefix> {
        self.prefixes.get(key).map(|prefix| prefix.get(side))
    }

    fn subject(&self, key: u64, side: Side) -> Subject {
        let subject = self.subjects.get(&key).copied().unwrap_or_default();
        subject.get(side)
    }

    fn policy(&self, key: &PolicyKey, side: Side) -> PolicyEntry {
        let entry = self.policies.get(key).copied().unwrap_or_default();
        entry.get(side)
    }

    fn range(&self, port: &PolicyPort, side: Side) -> Ruling {
        let word = |port: &PolicyPort| {
            let low = u64::from(port.protocol()) << 16 | u64::from(port.port());
            u64::from(port.row()) << 24 | low
        };
        let matching = self.ranges.iter().filter(|(range, bits, _)| {
            (word(range) ^ word(port)) >> (PolicyPort::BITS - bits) == 0
        });
        matching
            .max_by_key(|(_, bits, _)| *bits)
            .map(|(_, _, ruling)| ruling.get(side))
            .unwrap_or_default()
    }

    fn count_term(&mut self, term: u16, packets: u64, bytes: u64) {
        if term != 0 {
            let count = self.terms.entry(term).or_default();
            count.packets += packets;
            count.bytes += bytes;
        }
    }

    fn count_audit(&mut self, slot: u16, bytes: u64) {
        let count = self.audits.entry(slot).or_default();
        count.packets += 1;
        count.bytes += bytes;
    }

    fn binding(&mut self, key: &FlowKey<A>) -> Option<&mut Binding<A>> {
        self.bindings.get_mut(key)
    }

    fn insert_binding(&mut self, key: &FlowKey<A>, binding: &Binding<A>) -> Insertion {
        if self.bindings.contains_key(key) {
            return Insertion::Taken;
        }
        self.bindings.insert(*key, *binding);
        Insertion::Done
    }

    fn take_binding(&mut self, key: &FlowKey<A>, expires_ns: u64, binding: &Binding<A>) -> bool {
        match self.bindings.get_mut(key) {
            Some(entry) if entry.expires_ns == expires_ns => {
                *entry = *binding;
                true
            }
            Some(_) | None => false,
        }
    }

    fn remove_binding(&mut self, key: &FlowKey<A>) -> bool {
        self.bindings.remove(key).is_some()
    }

    fn count_bindings(&mut self, slot: u16, more: i32) -> u32 {
        let count = self.bound.entry(slot).or_default();
        let before = *count;
        *count = count.wrapping_add_signed(more);
        before
    }

    fn next_number(&mut self, _is_random: bool) -> u32 {
        self.cursor = self.cursor.wrapping_add(1);
        self.cursor.wrapping_sub(1)
    }

    fn has_socket(&self, key: &FlowKey<A>) -> bool {
        let [port, _] = key.ports();
        self.sockets.contains(&(key.src(), port, key.proto()))
    }

    fn repeat<S: Step<A>>(&mut self, work: &mut Work<A>, count: u32) -> bool {
        (0..count).any(|_| S::step(self, work))
    }

    fn sweep<V: Visit<A>>(&mut self, work: &mut Work<A>) -> bool {
        if self.now_ns < self.next_sweep_ns {
            return false;
        }
        let entries = self
            .bindings
            .iter()
            .map(|(key, half)| (*key, half.expires_ns));
        let entries: Vec<_> = entries.collect();
        for (key, expires_ns) in entries {
            V::visit(self, work, &key, expires_ns);
        }
        self.next_sweep_ns = work.soonest_ns.max(self.now_ns + SWEEP_PAUSE_NS);
        true
    }

    fn count_drop(&mut self, reason: DropReason, _len: u32) {
        *self.drops.entry(reason).or_default() += 1;
    }

    fn route(&self, key: &FlowKey<A>, _from: u32, route: &mut Route) {
        let found = self
            .routes
            .iter()
            .find(|(prefix, len, _)| key.dst().shares(prefix, *len));
        *route = found.map(|(_, _, route)| *route).unwrap_or_default();
    }
}

/// Holds a whole node: both families.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelNode {
    pub tables4: ModelTables<Addr4>,
    pub tables6: ModelTables<Addr6>,
}

impl ModelNode {
    /// Makes a node with room for `slots` parties; `now_ns` stands still.
    pub fn new(mut node: Node, slots: u32, now_ns: u64) -> Self {
        node.pending_mask = slots * PENDING_PER_SLOT - 1;
        let mut model = Self::default();
        (model.tables4.node, model.tables6.node) = (Some(node), Some(node));
        (model.tables4.now_ns, model.tables6.now_ns) = (now_ns, now_ns);
        model
    }

    /// Says what a party is to policy, on both sides.
    pub fn add_subject(&mut self, party: &Party, subject: Subject) {
        let both = Sides::both(subject);
        self.tables4.subjects.insert(party.subject(), both);
        self.tables6.subjects.insert(party.subject(), both);
    }

    /// Says the same of a prefix of each family, on both sides.
    pub fn add_prefixes(&mut self, v4: (Addr4, u32), v6: (Addr6, u32), prefix: Prefix) {
        self.tables4.add_prefix(v4, prefix);
        self.tables6.add_prefix(v6, prefix);
    }

    /// Says what holds between a subject and an identity.
    pub fn add_entry(&mut self, key: PolicyKey, entry: Sides<PolicyEntry>) {
        self.tables4.policies.insert(key, entry);
        self.tables6.policies.insert(key, entry);
    }

    /// Says what holds for the ports of a row whose first `bits` bits are these.
    pub fn add_range(&mut self, port: PolicyPort, bits: u32, ruling: Sides<Ruling>) {
        self.tables4.ranges.push((port, bits, ruling));
        self.tables6.ranges.push((port, bits, ruling));
    }

    /// Adds the world behind the devices.
    pub fn add_outside(&mut self) {
        let outside = Party::outside();
        self.tables4.parties.insert(OUTSIDE, outside);
        self.tables6.parties.insert(OUTSIDE, outside);
    }

    /// Adds a device, and the addresses that endpoints are masqueraded with.
    pub fn add_device(&mut self, device: Device) {
        self.tables4.devices.insert(device.ifindex, device);
        self.tables6.devices.insert(device.ifindex, device);
        if device.masquerades4() {
            self.tables4.local.insert(device.masquerade4, OUTSIDE);
        }
        if device.masquerades6() {
            self.tables6.local.insert(device.masquerade6, OUTSIDE);
        }
    }

    /// Adds a party, and its addresses if it is an endpoint.
    pub fn add(&mut self, party: Party) {
        self.tables4.parties.insert(party.ifindex, party);
        self.tables6.parties.insert(party.ifindex, party);
        if let Some(address) = party.ipv4() {
            self.tables4.local.insert(address, party.ifindex);
        }
        if let Some(address) = party.ipv6() {
            self.tables6.local.insert(address, party.ifindex);
        }
    }

    /// Takes a packet through the program of a hook, tail calls included.
    ///
    /// # Errors
    /// The reason for which the packet is dropped.
    pub fn run(&mut self, hook: Hook, packet: &mut ModelPacket) -> Result<Verdict, DropReason> {
        match crate::enter(packet, hook)? {
            crate::Path::Ipv4 => walk(&mut self.tables4, hook, packet),
            crate::Path::Ipv6 => walk(&mut self.tables6, hook, packet),
            crate::Path::Arp => {
                crate::prepare(packet);
                crate::neighbour::arp(packet, &self.tables4)
            }
            crate::Path::Stack => Ok(Verdict::Pass),
        }
    }
}

fn walk<A: Address + KeyHash + Ord + Hash + Default>(
    tables: &mut ModelTables<A>,
    hook: Hook,
    packet: &mut ModelPacket,
) -> Result<Verdict, DropReason> {
    if hook == Hook::ToNetdev && !crate::concerns(packet, tables, hook) {
        return Ok(Verdict::Pass);
    }
    crate::fast(packet, tables, hook).unwrap_or_else(|| {
        if hook == Hook::FromNetdev && !crate::concerns(packet, tables, hook) {
            return Ok(Verdict::Pass);
        }
        crate::prepare(packet);
        let mut work = Work::default();
        work.set_hook(hook);
        crate::slow(packet, tables, &mut work)
    })
}
