//! Access to the maps, the clock and the node's entry.

use crate::abi::{Flow, FlowKey, FragmentKey, FragmentPorts, Node, Party, Pending};

/// Gives access to the tables of one address family.
pub trait Tables<A> {
    /// Returns the time since boot in nanoseconds, a few milliseconds coarse.
    fn now_ns(&self) -> u64;
    /// Returns the node's entry.
    fn node(&self) -> Option<&Node>;
    /// Returns the party behind the link with this index.
    fn party(&self, ifindex: u32) -> Option<&Party>;
    /// Returns the index of the link of the endpoint that has this address.
    fn local(&self, address: &A) -> Option<u32>;
    /// Returns the remembered decision about a flow.
    fn flow(&mut self, key: &FlowKey<A>) -> Option<&mut Flow>;
    /// Remembers a decision; a full table forgets its least used entry, and a failure only costs
    /// the next packet another decision.
    fn insert_flow(&mut self, key: &FlowKey<A>, flow: &Flow);
    /// Forgets a decision.
    fn remove_flow(&mut self, key: &FlowKey<A>);
    /// Copies a pending flow; `false` if there is none or another processor is writing it.
    fn pending(&self, index: u32, copy: &mut Pending<A>) -> bool;
    /// Writes a pending flow, unless another processor is at it.
    fn set_pending(&mut self, index: u32, pending: &Pending<A>);
    /// Returns what the first fragment of a datagram said.
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    /// Remembers what the first fragment of a datagram said.
    fn insert_fragment(&mut self, key: &FragmentKey<A>, ports: &FragmentPorts);
}
