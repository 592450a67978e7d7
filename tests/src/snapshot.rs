//! Flows, pending flows and fragments of a node: what a row is given, and what is compared.
//!
//! Times are ages here, in nanoseconds before the moment of the packet. They are for what a row
//! is given; what is read back has none, for clocks go on. Pending flows are compared by what
//! they say, not by where in their slice they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;

use datapath::abi::{
    Addr4, Addr6, Binding, Datagram, Flow, FlowKey, FragmentKey, Line, OUTSIDE, Order,
    PENDING_PER_SLOT, Pending, SLOT_OUTSIDE, TICKET_LINES, WITH_OTHER_NS,
};
use datapath::family::Address;
use datapath::flow::{KeyHash, key_hash, of_slot, pending_index};
use datapath::model::{ModelNode, ModelTables};
use datapath::{note, permit, rewrite};

use crate::frame::Tuple;
use crate::party::{AnyFlow, GENERATION, HOST, SLOTS, Who};

/// Holds both families.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub v4: Tables<Addr4>,
    pub v6: Tables<Addr6>,
}

/// Holds one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables<A: Ord> {
    pub flows: BTreeMap<FlowKey<A>, AnyFlow>,
    pub pending: BTreeMap<FlowKey<A>, Waiting>,
    pub fragments: BTreeMap<FragmentKey<A>, Datagram>,
    pub bindings: BTreeMap<FlowKey<A>, Bound<A>>,
    pub permits: Notes,
    pub tickets: Notes,
}

/// Holds notes by their lines and names, and how long they have still to go.
pub type Notes = BTreeMap<(u32, u32), i64>;

/// Is half of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<A> {
    /// Key of the other half.
    pub other: FlowKey<A>,
    pub zone: u32,
    pub answered: u16,
    pub open: u16,
    /// How long it has still to go; negative once it has ended.
    pub left_ns: i64,
}

/// Stands for the time that an inside half has to go.
const FOR_EVER: i64 = i64::MAX;

impl<A> Bound<A> {
    fn expires_ns(&self, now_ns: u64) -> u64 {
        if self.left_ns == FOR_EVER {
            WITH_OTHER_NS
        } else {
            now_ns.saturating_add_signed(self.left_ns)
        }
    }
}

/// Is a pending flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Slice that it lies in.
    pub slot: u32,
    pub zone: u32,
    pub generation: u32,
    pub is_translated: bool,
    pub packets: u64,
    pub bytes: u64,
    /// How long ago its latest packet came.
    pub age_ns: u64,
}

impl Waiting {
    /// Returns the pending flow of a party that has sent so much a moment ago.
    pub fn of(who: &Who, packets: u64, bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).expect("fits");
        let (slot, zone) = (u32::from(who.slot), who.link);
        Self {
            slot,
            zone,
            generation: GENERATION,
            is_translated: false,
            packets,
            bytes,
            age_ns: 0,
        }
    }

    /// Says that its packets are translated.
    #[must_use]
    pub fn translated(self) -> Self {
        Self {
            is_translated: true,
            ..self
        }
    }

    /// Returns the pending flow of somebody outside who has sent so much a moment ago.
    pub fn outside(packets: u64, bytes: usize) -> Self {
        Self {
            slot: u32::from(SLOT_OUTSIDE),
            zone: OUTSIDE,
            ..Self::of(&HOST, packets, bytes)
        }
    }
}

impl Snapshot {
    /// Reads the tables of a node in memory.
    pub fn of(model: &ModelNode) -> Self {
        Self {
            v4: Tables::of(&model.tables4),
            v6: Tables::of(&model.tables6),
        }
    }

    /// Adds a flow, or replaces it.
    pub fn flow(&mut self, tuple: Tuple, flow: AnyFlow) -> &mut Self {
        match key(&tuple) {
            Key::V4(key) => drop(self.v4.flows.insert(key, flow)),
            Key::V6(key) => drop(self.v6.flows.insert(key, flow)),
        }
        self
    }

    /// Adds a flow whose packets leave as `out`, or replaces it.
    pub fn translated(&mut self, tuple: Tuple, out: Tuple, mut flow: AnyFlow) -> &mut Self {
        let sums = match (key(&tuple), key(&out)) {
            (Key::V4(key), Key::V4(out)) => rewrite::sums(&key, &out),
            (Key::V6(key), Key::V6(out)) => rewrite::sums(&key, &out),
            (Key::V4(_), Key::V6(_)) | (Key::V6(_), Key::V4(_)) => panic!("one flow, one family"),
        };
        flow.set_translation(neutral(&out), sums);
        self.flow(tuple, flow)
    }

    /// Adds both halves of a binding of an endpoint, answered or not, with so much time to go.
    pub fn binding(
        &mut self,
        (inside, outside): (Tuple, Tuple),
        who: &Who,
        (answered, open): (u16, u16),
        left_ns: i64,
    ) -> &mut Self {
        fn add<A: Copy + Ord>(
            bindings: &mut BTreeMap<FlowKey<A>, Bound<A>>,
            [inside, outside]: [FlowKey<A>; 2],
            half: impl Fn(FlowKey<A>, bool) -> Bound<A>,
        ) {
            bindings.insert(inside, half(outside, false));
            bindings.insert(outside, half(inside, true));
        }
        let zone = who.link;
        match (key(&inside), key(&outside)) {
            (Key::V4(inside), Key::V4(outside)) => {
                add(
                    &mut self.v4.bindings,
                    [inside, outside],
                    |other, is_outer| Bound {
                        other,
                        zone,
                        answered: u16::from(is_outer) * answered,
                        open: u16::from(is_outer) * open,
                        left_ns: if is_outer { left_ns } else { FOR_EVER },
                    },
                );
            }
            (Key::V6(inside), Key::V6(outside)) => {
                add(
                    &mut self.v6.bindings,
                    [inside, outside],
                    |other, is_outer| Bound {
                        other,
                        zone,
                        answered: u16::from(is_outer) * answered,
                        open: u16::from(is_outer) * open,
                        left_ns: if is_outer { left_ns } else { FOR_EVER },
                    },
                );
            }
            (Key::V4(_), Key::V6(_)) | (Key::V6(_), Key::V4(_)) => panic!("one flow, one family"),
        }
        self
    }

    /// Adds a note that lets the remote address of this flow answer to its endpoint's port.
    pub fn permit(&mut self, tuple: Tuple, who: &Who, left_ns: i64) -> &mut Self {
        match key(&tuple) {
            Key::V4(key) => self.v4.permit(&key, who, left_ns),
            Key::V6(key) => self.v6.permit(&key, who, left_ns),
        }
        self
    }

    /// Adds a note that this flow of a party was checked at its link.
    pub fn ticket(&mut self, tuple: Tuple, who: &Who, left_ns: i64) -> &mut Self {
        match key(&tuple) {
            Key::V4(key) => self.v4.ticket(&key, who, left_ns),
            Key::V6(key) => self.v6.ticket(&key, who, left_ns),
        }
        self
    }

    /// Returns a flow that is there.
    pub fn known(&mut self, tuple: Tuple) -> &mut AnyFlow {
        let flow = match key(&tuple) {
            Key::V4(key) => self.v4.flows.get_mut(&key),
            Key::V6(key) => self.v6.flows.get_mut(&key),
        };
        flow.expect("the row is given the flow")
    }

    /// Removes a flow.
    pub fn no_flow(&mut self, tuple: Tuple) -> &mut Self {
        match key(&tuple) {
            Key::V4(key) => drop(self.v4.flows.remove(&key)),
            Key::V6(key) => drop(self.v6.flows.remove(&key)),
        }
        self
    }

    /// Adds a pending flow, or replaces it.
    pub fn pending(&mut self, tuple: Tuple, waiting: Waiting) -> &mut Self {
        match key(&tuple) {
            Key::V4(key) => drop(self.v4.pending.insert(key, waiting)),
            Key::V6(key) => drop(self.v6.pending.insert(key, waiting)),
        }
        self
    }

    /// Adds what the first fragment of the datagram `id` of a flow said.
    pub fn fragment(&mut self, tuple: Tuple, id: u16) -> &mut Self {
        self.fragment_before(0, tuple, id)
    }

    /// Adds what the first fragment of the datagram `id` of a flow said this long ago.
    pub fn fragment_before(&mut self, age_ns: u64, tuple: Tuple, id: u16) -> &mut Self {
        let ports = tuple.ports.map(u16::to_be);
        let datagram = Datagram::new(ports, tuple.tag, Order::FirstFirst, age_ns);
        self.datagram(tuple, id, datagram)
    }

    /// Says that the first fragment of the datagram `id` of a flow was overtaken, or that the
    /// node's stack has put its fragments in order.
    pub fn sorted(&mut self, tuple: Tuple, id: u16, order: Order) -> &mut Self {
        self.datagram(tuple, id, Datagram::new([0; 2], 0, order, 0))
    }

    fn datagram(&mut self, tuple: Tuple, id: u16, datagram: Datagram) -> &mut Self {
        let Tuple {
            source,
            destination,
            protocol,
            ..
        } = tuple;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(to)) => {
                let [source, to] = [source, to].map(|address| Addr4::new(address.octets()));
                let id = u32::from(id.to_be());
                self.v4
                    .fragments
                    .insert(FragmentKey::new(source, to, id, protocol), datagram);
            }
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                let [source, to] = [source, to].map(|address| Addr6::new(address.octets()));
                let id = u32::from(id).to_be();
                self.v6
                    .fragments
                    .insert(FragmentKey::new(source, to, id, protocol), datagram);
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => unreachable!(),
        }
        self
    }

    /// Adds everything to a node in memory, at this time.
    pub fn give(&self, model: &mut ModelNode, now_ns: u64) {
        self.v4.give(&mut model.tables4, now_ns);
        self.v6.give(&mut model.tables6, now_ns);
    }

    /// Returns the same without times.
    #[must_use]
    pub fn timeless(mut self) -> Self {
        self.v4.forget_times();
        self.v6.forget_times();
        self
    }
}

impl<A: Ord> Default for Tables<A> {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            pending: BTreeMap::new(),
            fragments: BTreeMap::new(),
            bindings: BTreeMap::new(),
            permits: BTreeMap::new(),
            tickets: BTreeMap::new(),
        }
    }
}

impl<A: Copy + Ord + KeyHash + Neutral> Tables<A> {
    fn of(tables: &ModelTables<A>) -> Self {
        let mut found = Self::new(
            tables.flows.iter().map(|(key, flow)| (*key, any(flow))),
            tables
                .pending
                .iter()
                .map(|(index, pending)| (*index, *pending)),
            tables.fragments.iter().map(|(key, ports)| (*key, *ports)),
            tables.bindings.iter().map(|(key, half)| (*key, *half)),
        );
        let lines = |lines: &BTreeMap<u32, Line>| names(lines.iter().map(|(a, b)| (*a, *b)));
        found.permits = lines(&tables.permits);
        found.tickets = lines(&tables.tickets);
        found
    }

    fn permit(&mut self, key: &FlowKey<A>, who: &Who, left_ns: i64)
    where
        A: Address,
    {
        let hash = permit::hash(key, who.link);
        let line = of_slot(who.slot, hash, SLOTS * PENDING_PER_SLOT - 1);
        self.permits.insert((line, name(hash)), left_ns);
    }

    fn ticket(&mut self, key: &FlowKey<A>, who: &Who, left_ns: i64) {
        let hash = key_hash(key, who.link);
        let line = low(hash) % TICKET_LINES;
        self.tickets.insert((line, name(hash)), left_ns);
    }

    /// Collects what tables hold, without times; entries of pending flows that were never
    /// written are left out.
    pub fn new(
        flows: impl Iterator<Item = (FlowKey<A>, AnyFlow)>,
        pending: impl Iterator<Item = (u32, Pending<A>)>,
        fragments: impl Iterator<Item = (FragmentKey<A>, Datagram)>,
        bindings: impl Iterator<Item = (FlowKey<A>, Binding<A>)>,
    ) -> Self {
        let written = pending.filter(|(_, entry)| entry.packets != 0);
        let waiting = written.map(|(index, entry)| {
            let Pending {
                key,
                zone,
                generation,
                is_translated,
                packets,
                bytes,
                ..
            } = entry;
            let slot = index / PENDING_PER_SLOT;
            (
                key,
                Waiting {
                    slot,
                    zone,
                    generation,
                    is_translated: is_translated != 0,
                    packets,
                    bytes,
                    age_ns: 0,
                },
            )
        });
        let mut tables = Self {
            flows: flows.collect(),
            pending: waiting.collect(),
            fragments: fragments.collect(),
            bindings: bindings.map(|(key, half)| (key, bound(&half))).collect(),
            ..Self::default()
        };
        tables.forget_times();
        tables
    }

    fn give(&self, tables: &mut ModelTables<A>, now_ns: u64) {
        let mask = tables
            .node
            .expect("a node is described before its flows")
            .pending_mask;
        for (key, flow) in &self.flows {
            let out = if flow.is_translated() {
                A::key(&flow.out)
            } else {
                *key
            };
            let mut flow = flow.carrying(out);
            flow.decided_ns = ago(now_ns, flow.decided_ns);
            flow.created_ns = ago(now_ns, flow.created_ns);
            tables.flows.insert(*key, flow);
        }
        for (key, waiting) in &self.pending {
            let slot = u16::try_from(waiting.slot).expect("fits");
            let seen_ns = ago(now_ns, waiting.age_ns);
            let pending = Pending {
                key: *key,
                zone: waiting.zone,
                generation: waiting.generation,
                is_translated: u32::from(waiting.is_translated),
                created_ns: seen_ns,
                seen_ns,
                packets: waiting.packets,
                bytes: waiting.bytes,
                ..zeroed(*key)
            };
            tables
                .pending
                .insert(pending_index(slot, key, mask), pending);
        }
        for (key, datagram) in &self.fragments {
            let now = Datagram::new([0; 2], 0, datagram.order(), now_ns);
            let mut datagram = *datagram;
            datagram.seen = now.seen.wrapping_sub(datagram.seen);
            tables.fragments.insert(*key, datagram);
        }
        for (key, bound) in &self.bindings {
            let half = Binding {
                #[cfg(feature = "next-schema")]
                shift: 0,
                other: bound.other,
                expires_ns: bound.expires_ns(now_ns),
                zone: bound.zone,
                answered: bound.answered,
                open: bound.open,
            };
            tables.bindings.insert(*key, half);
            if bound.left_ns != FOR_EVER
                && let Some(party) = tables.parties.get(&bound.zone)
            {
                *tables.bound.entry(party.slot).or_default() += 1;
            }
        }
        give_notes(&self.permits, &mut tables.permits, now_ns);
        give_notes(&self.tickets, &mut tables.tickets, now_ns);
    }

    fn forget_times(&mut self) {
        for flow in self.flows.values_mut() {
            *flow = flow.without_origin();
            (flow.decided_ns, flow.created_ns) = (0, 0);
        }
        for waiting in self.pending.values_mut() {
            waiting.age_ns = 0;
        }
        for datagram in self.fragments.values_mut() {
            *datagram = datagram.timeless();
        }
        for left_ns in self.permits.values_mut().chain(self.tickets.values_mut()) {
            *left_ns = 0;
        }
        for bound in self.bindings.values_mut() {
            if bound.left_ns != FOR_EVER {
                bound.left_ns = 0;
            }
        }
    }
}

/// Returns the notes of lines, without times.
pub fn names(lines: impl IntoIterator<Item = (u32, Line)>) -> Notes {
    let notes = lines.into_iter().flat_map(|(index, line)| {
        let written = line.notes.into_iter().filter(|note| *note != 0);
        written.map(move |note| ((index, name(note)), 0))
    });
    notes.collect()
}

fn give_notes(notes: &Notes, lines: &mut BTreeMap<u32, Line>, now_ns: u64) {
    for ((index, name), left_ns) in notes {
        let ends = note::moment(now_ns.saturating_add_signed(*left_ns));
        let line = lines.entry(*index).or_default();
        let free = line.notes.iter_mut().find(|note| **note == 0);
        *free.expect("rows have few notes") = u64::from(*name) << 32 | u64::from(ends);
    }
}

/// Returns the part of a hash that a note is known by.
fn name(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("half of it")
}

fn low(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).expect("half of it")
}

fn bound<A: Copy>(half: &Binding<A>) -> Bound<A> {
    Bound {
        other: half.other,
        zone: half.zone,
        answered: half.answered,
        open: half.open,
        left_ns: if half.expires_ns == WITH_OTHER_NS {
            FOR_EVER
        } else {
            0
        },
    }
}

/// Is an address that a flow of either family can hold.
pub trait Neutral: Copy {
    fn widen(self) -> Addr6;
    fn narrow(wide: Addr6) -> Self;

    /// Returns the key of this family that a neutral one stands for.
    fn key(wide: &FlowKey<Addr6>) -> FlowKey<Self> {
        let [src, dst] = [wide.src(), wide.dst()].map(Self::narrow);
        FlowKey::new(src, dst, wide.proto(), wide.ports(), wide.tag())
    }
}

impl Neutral for Addr4 {
    fn widen(self) -> Addr6 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.octets());
        Addr6::new(bytes)
    }

    fn narrow(wide: Addr6) -> Self {
        let [a, b, c, d, ..] = wide.octets();
        Self::new([a, b, c, d])
    }
}

impl Neutral for Addr6 {
    fn widen(self) -> Addr6 {
        self
    }

    fn narrow(wide: Addr6) -> Self {
        wide
    }
}

/// Returns a flow as snapshots hold it: what leaves is named only if it differs from the key.
pub fn any<A: Neutral>(flow: &Flow<A>) -> AnyFlow {
    flow.carrying(if flow.is_translated() {
        neutral_key(&flow.out)
    } else {
        FlowKey::default()
    })
}

/// Returns a key as a flow of either family holds it.
fn neutral_key<A: Neutral>(key: &FlowKey<A>) -> FlowKey<Addr6> {
    let [src, dst] = [key.src(), key.dst()].map(Neutral::widen);
    FlowKey::new(src, dst, key.proto(), key.ports(), key.tag())
}

fn neutral(tuple: &Tuple) -> FlowKey<Addr6> {
    match key(tuple) {
        Key::V4(key) => neutral_key(&key),
        Key::V6(key) => key,
    }
}

/// Returns where in its slice a flow of a party waits.
pub fn pending_place(tuple: &Tuple, who: &Who) -> u32 {
    let mask = SLOTS * PENDING_PER_SLOT - 1;
    match key(tuple) {
        Key::V4(key) => pending_index(who.slot, &key, mask),
        Key::V6(key) => pending_index(who.slot, &key, mask),
    }
}

/// Returns a pending flow of this key that has seen nothing.
pub fn zeroed<A>(key: FlowKey<A>) -> Pending<A> {
    Pending {
        #[cfg(feature = "next-schema")]
        shift: 0,
        lock: 0,
        version: 0,
        key,
        zone: 0,
        generation: 0,
        is_translated: 0,
        pad: 0,
        created_ns: 0,
        seen_ns: 0,
        packets: 0,
        bytes: 0,
    }
}

impl Snapshot {
    /// Describes where this differs from what it should be, an entry a line.
    pub fn differences(&self, wanted: &Self) -> String {
        self.v4.differences(&wanted.v4) + &self.v6.differences(&wanted.v6)
    }

    /// Returns the greatest age of what is given, in nanoseconds.
    pub fn oldest_ns(&self) -> u64 {
        self.v4.oldest_ns().max(self.v6.oldest_ns())
    }
}

impl<A: Copy + Ord + Debug> Tables<A> {
    fn differences(&self, wanted: &Self) -> String {
        differences("flow", &self.flows, &wanted.flows)
            + &differences("pending", &self.pending, &wanted.pending)
            + &differences("fragment", &self.fragments, &wanted.fragments)
            + &differences("binding", &self.bindings, &wanted.bindings)
            + &differences("permit", &self.permits, &wanted.permits)
            + &differences("ticket", &self.tickets, &wanted.tickets)
    }
}

fn differences<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> String {
    let keys: BTreeSet<&K> = found.keys().chain(wanted.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| found.get(key) != wanted.get(key));
    differing
        .map(|key| {
            let [found, wanted] = [found, wanted].map(|entries| match entries.get(key) {
                Some(entry) => format!("{entry:?}"),
                None => "nothing".to_owned(),
            });
            format!("    {what} {key:?} is\n      {found}\n    and should be\n      {wanted}\n")
        })
        .collect()
}

impl<A: Ord> Tables<A> {
    fn oldest_ns(&self) -> u64 {
        let flows = self
            .flows
            .values()
            .map(|flow| flow.decided_ns.max(flow.created_ns));
        let pending = self.pending.values().map(|waiting| waiting.age_ns);
        flows.chain(pending).max().unwrap_or(0)
    }
}

fn ago(now_ns: u64, age_ns: u64) -> u64 {
    now_ns
        .checked_sub(age_ns)
        .expect("the machine has been up for that long")
}

enum Key {
    V4(FlowKey<Addr4>),
    V6(FlowKey<Addr6>),
}

fn key(tuple: &Tuple) -> Key {
    let ports = tuple.ports.map(u16::to_be);
    let (protocol, tag) = (tuple.protocol, tuple.tag);
    match (tuple.source, tuple.destination) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            let [source, to] = [source, to].map(|address| Addr4::new(address.octets()));
            Key::V4(FlowKey::new(source, to, protocol, ports, tag))
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            let [source, to] = [source, to].map(|address| Addr6::new(address.octets()));
            Key::V6(FlowKey::new(source, to, protocol, ports, tag))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("one flow, one family")
        }
    }
}
