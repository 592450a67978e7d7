//! Access to the maps, the clock, the node's entry and the kernel's routes.

use crate::abi::{
    Binding, Datagram, Device, Flow, FlowKey, FragmentKey, Line, NextHop, Node, Overtaking, Party,
    Pending, PolicyEntry, PolicyKey, PolicyPort, Prefix, PrefixKey, Ruling, Side, Subject,
};
use crate::verdict::DropReason;
use crate::work::Work;

/// Gives access to the tables of one address family.
pub trait Tables<A> {
    /// Returns the time since boot in nanoseconds, a few milliseconds coarse.
    fn now_ns(&self) -> u64;
    /// Returns the node's entry.
    fn node(&self) -> Option<&Node>;
    /// Returns the party behind the link with this index.
    fn party(&self, ifindex: u32) -> Option<&Party>;
    /// Returns the index of the link of the endpoint that has this address,
    /// [`crate::abi::OUTSIDE`] if endpoints are masqueraded with it, else 0.
    ///
    /// verifier (all): "!read_ok": comparing an `Option` reads what lies beside `None`.
    fn local(&self, address: &A) -> u32;
    /// Returns the device with this index.
    fn device(&self, ifindex: u32) -> Option<&Device>;
    /// Returns the number of lengths of prefixes, and what is known of addresses in none of them.
    fn lengths(&self, side: Side) -> (u32, Prefix);
    /// Returns one of the lengths of prefixes in bits, of which the first is the shortest.
    fn length(&self, side: Side, place: u32) -> u32;
    /// Returns what is known of a prefix.
    fn prefix(&self, key: &PrefixKey<A>, side: Side) -> Option<Prefix>;
    /// Returns what a party is to policy.
    fn subject(&self, key: u64, side: Side) -> Subject;
    /// Returns what holds between a subject and an identity; without a decision if there is no entry.
    fn policy(&self, key: &PolicyKey, side: Side) -> PolicyEntry;
    /// Returns what a row says about a port; without a decision if nothing.
    fn range(&self, port: &PolicyPort, side: Side) -> Ruling;
    /// Counts packets for a term of policy; 0 is none.
    fn count_term(&mut self, term: u16, packets: u64, bytes: u64);
    /// Counts a packet that policy would deny, and only watches.
    fn count_audit(&mut self, slot: u16, bytes: u64);
    /// Returns the remembered decision about a flow.
    fn flow(&mut self, key: &FlowKey<A>) -> Option<&mut Flow<A>>;
    /// Remembers a decision; a full table forgets its least used entry, and a failure only costs
    /// the next packet another decision.
    fn insert_flow(&mut self, key: &FlowKey<A>, flow: &Flow<A>);
    /// Forgets a decision.
    fn remove_flow(&mut self, key: &FlowKey<A>);
    /// Copies a pending flow; `false` if there is none or another processor is writing it.
    fn pending(&self, index: u32, copy: &mut Pending<A>) -> bool;
    /// Writes a pending flow, unless another processor is at it.
    fn set_pending(&mut self, index: u32, pending: &Pending<A>);
    /// Returns a line of notes about whom endpoints let in.
    fn permits(&mut self, index: u32) -> Option<&mut Line>;
    /// Returns a line of notes about what is on its way through the node's stack.
    fn tickets(&mut self, index: u32) -> Option<&mut Line>;
    /// Returns what is remembered of a datagram that comes in fragments.
    fn datagram(&self, key: &FragmentKey<A>) -> Option<Datagram>;
    /// Remembers a datagram that comes in fragments.
    fn insert_datagram(&mut self, key: &FragmentKey<A>, datagram: &Datagram);
    /// Returns the count of overtaken datagrams of the senders of a slot.
    fn overtaking(&mut self, slot: u32) -> Option<&mut Overtaking>;
    /// Returns the count of flows of a slot that entered the table unanswered.
    fn share(&mut self, slot: u16) -> Option<&mut Overtaking>;
    /// Returns half of a binding.
    fn binding(&mut self, key: &FlowKey<A>) -> Option<&mut Binding<A>>;
    /// Adds half of a binding.
    fn insert_binding(&mut self, key: &FlowKey<A>, binding: &Binding<A>) -> Insertion;
    /// Takes over half of a binding that ended at `expires_ns`, unless somebody else did or it was
    /// renewed.
    fn take_binding(&mut self, key: &FlowKey<A>, expires_ns: u64, binding: &Binding<A>) -> bool;
    /// Removes half of a binding; `false` if it was gone.
    fn remove_binding(&mut self, key: &FlowKey<A>) -> bool;
    /// Adds to the number of bindings of a slot and returns what it was.
    fn count_bindings(&mut self, slot: u16, more: i32) -> u32;
    /// Returns the next number for a port, of a sequence or a random one.
    fn next_number(&mut self, is_random: bool) -> u32;
    /// Tells whether a socket of the node uses the source of a flow.
    fn has_socket(&self, key: &FlowKey<A>) -> bool;
    /// Takes a step `count` times at most, until one says that it was the last; tells whether one
    /// did.
    fn repeat<S: Step<A>>(&mut self, work: &mut Work<A>, count: u32) -> bool;
    /// Visits every entry of the bindings; tells whether it was done. It is not done a moment after
    /// the last time, nor before `work.soonest_ns` of then. The visitor may remove entries.
    fn sweep<V: Visit<A>>(&mut self, work: &mut Work<A>) -> bool;
    /// Counts a packet that is dropped for this reason.
    fn count_drop(&mut self, reason: DropReason, len: u32);
    /// Asks the kernel where it would route packets of a flow that enter the stack by the link
    /// with index `from`.
    fn route(&self, key: &FlowKey<A>, from: u32, route: &mut Route);
}

/// Tells what came of adding an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Insertion {
    Done,
    /// There is an entry with this key.
    Taken,
    /// The table has no room, or could not be locked.
    Refused,
}

/// Is what is done over and over, in a loop that the kernel turns.
pub trait Step<A> {
    /// Takes one step; tells whether it was the last.
    fn step<T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool;
}

/// Is what is done with every entry of the bindings.
pub trait Visit<A> {
    /// Looks at one entry, of which the expiry is read already.
    fn visit<T: Tables<A>>(tables: &mut T, work: &mut Work<A>, key: &FlowKey<A>, expires_ns: u64);
}

/// Least time between two sweeps, in nanoseconds: one takes milliseconds.
pub const SWEEP_PAUSE_NS: u64 = 100_000_000;

/// Is the kernel's answer about where packets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Route {
    /// Index of the link that they leave by; 0 if they are not forwarded.
    pub ifindex: u32,
    /// Largest packet that the way takes, in bytes.
    pub mtu: u16,
    /// The kernel's number of the next hop's address family.
    pub family: u8,
    /// Whether the next hop's link-layer address is known.
    pub is_resolved: u8,
    pub next_hop: NextHop,
}
