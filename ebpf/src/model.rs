//! Packets and tables in ordinary memory: what tests, fuzzers and the differential run use in
//! place of a kernel.

use std::collections::BTreeMap;
use std::hash::Hash;

use crate::abi::{
    Addr4, Addr6, Flow, FlowKey, FragmentKey, FragmentPorts, Node, PENDING_PER_SLOT, Party, Pending,
};

use crate::family::Address;
use crate::flow::KeyHash;
use crate::hook::Hook;
use crate::packet::{Packet, Wire};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::work::Work;

/// Is a packet in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPacket {
    pub bytes: Vec<u8>,
    pub ifindex: u32,
    pub ingress_ifindex: u32,
    pub gso_size: u32,
    pub has_vlan_tag: bool,
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

    fn has_vlan_tag(&self) -> bool {
        self.has_vlan_tag
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

    fn adjust_sum(&mut self, _difference: u32) {}

    fn set_for_host(&mut self) {}
}

/// Holds the tables of one address family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelTables<A: Ord> {
    pub now_ns: u64,
    pub node: Option<Node>,
    pub parties: BTreeMap<u32, Party>,
    pub local: BTreeMap<A, u32>,
    pub flows: BTreeMap<FlowKey<A>, Flow>,
    pub pending: BTreeMap<u32, Pending<A>>,
    pub fragments: BTreeMap<FragmentKey<A>, FragmentPorts>,
}

impl<A: Copy + Ord + Hash + Default> Tables<A> for ModelTables<A> {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    fn party(&self, ifindex: u32) -> Option<&Party> {
        self.parties.get(&ifindex)
    }

    fn local(&self, address: &A) -> Option<u32> {
        self.local.get(address).copied()
    }

    fn flow(&mut self, key: &FlowKey<A>) -> Option<&mut Flow> {
        self.flows.get_mut(key)
    }

    fn insert_flow(&mut self, key: &FlowKey<A>, flow: &Flow) {
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

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        self.fragments.get(key).copied()
    }

    fn insert_fragment(&mut self, key: &FragmentKey<A>, ports: &FragmentPorts) {
        self.fragments.insert(*key, *ports);
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
    crate::fast(packet, tables, hook).unwrap_or_else(|| {
        crate::prepare(packet);
        let mut work = Work::default();
        work.set_hook(hook);
        crate::slow(packet, tables, &mut work)
    })
}
