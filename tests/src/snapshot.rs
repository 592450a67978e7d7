//! Flows, pending flows and fragments of a node: what a row is given, and what is compared.
//!
//! Times are ages here, in nanoseconds before the moment of the packet. They are for what a row
//! is given; what is read back has none, for clocks go on. Pending flows are compared by what
//! they say, not by where in their slice they lie.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{
    Addr4, Addr6, Flow, FlowKey, FragmentKey, FragmentPorts, PENDING_PER_SLOT, Pending,
};
use datapath::flow::{KeyHash, pending_index};
use datapath::model::{ModelNode, ModelTables};

use crate::frame::Tuple;
use crate::party::{GENERATION, Who};

/// Holds both families.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub v4: Tables<Addr4>,
    pub v6: Tables<Addr6>,
}

/// Holds one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables<A: Ord> {
    pub flows: BTreeMap<FlowKey<A>, Flow>,
    pub pending: BTreeMap<FlowKey<A>, Waiting>,
    pub fragments: BTreeMap<FragmentKey<A>, FragmentPorts>,
}

/// Is a pending flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Slice that it lies in.
    pub slot: u32,
    pub zone: u32,
    pub generation: u32,
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
            packets,
            bytes,
            age_ns: 0,
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
    pub fn flow(&mut self, tuple: Tuple, flow: Flow) -> &mut Self {
        match key(&tuple) {
            Key::V4(key) => drop(self.v4.flows.insert(key, flow)),
            Key::V6(key) => drop(self.v6.flows.insert(key, flow)),
        }
        self
    }

    /// Returns a flow that is there.
    pub fn known(&mut self, tuple: Tuple) -> &mut Flow {
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
        let ports = FragmentPorts {
            ports: tuple.ports.map(u16::to_be),
            tag: tuple.tag,
            ..FragmentPorts::default()
        };
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
                    .insert(FragmentKey::new(source, to, id, protocol), ports);
            }
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                let [source, to] = [source, to].map(|address| Addr6::new(address.octets()));
                let id = u32::from(id).to_be();
                self.v6
                    .fragments
                    .insert(FragmentKey::new(source, to, id, protocol), ports);
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
        }
    }
}

impl<A: Copy + Ord + KeyHash> Tables<A> {
    fn of(tables: &ModelTables<A>) -> Self {
        Self::new(
            tables.flows.iter().map(|(key, flow)| (*key, *flow)),
            tables
                .pending
                .iter()
                .map(|(index, pending)| (*index, *pending)),
            tables.fragments.iter().map(|(key, ports)| (*key, *ports)),
        )
    }

    /// Collects what tables hold, without times; entries of pending flows that were never
    /// written are left out.
    pub fn new(
        flows: impl Iterator<Item = (FlowKey<A>, Flow)>,
        pending: impl Iterator<Item = (u32, Pending<A>)>,
        fragments: impl Iterator<Item = (FragmentKey<A>, FragmentPorts)>,
    ) -> Self {
        let written = pending.filter(|(_, entry)| entry.packets != 0);
        let waiting = written.map(|(index, entry)| {
            let Pending {
                key,
                zone,
                generation,
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
            let mut flow = *flow;
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
        tables.fragments.extend(&self.fragments);
    }

    fn forget_times(&mut self) {
        for flow in self.flows.values_mut() {
            (flow.decided_ns, flow.created_ns) = (0, 0);
        }
        for waiting in self.pending.values_mut() {
            waiting.age_ns = 0;
        }
    }
}

/// Returns a pending flow of this key that has seen nothing.
pub fn zeroed<A>(key: FlowKey<A>) -> Pending<A> {
    Pending {
        lock: 0,
        version: 0,
        key,
        zone: 0,
        generation: 0,
        created_ns: 0,
        seen_ns: 0,
        packets: 0,
        bytes: 0,
    }
}

impl Snapshot {
    /// Returns the greatest age of what is given, in nanoseconds.
    pub fn oldest_ns(&self) -> u64 {
        self.v4.oldest_ns().max(self.v6.oldest_ns())
    }
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
