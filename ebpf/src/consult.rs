//! Whose a packet is while a node's tables are exchanged for others, once the new ones are in charge.
//!
//! What the former tables came to know in the last moments before that is copied within milliseconds.
//! Until it is, a packet of such a connection belongs to the programs that know it: here its policy
//! would be asked anew, and its translation made anew, with another port. Whatever the new tables know
//! is theirs already. Only packets without options and fragments are looked at; what the others lose
//! in those milliseconds is at most a decision.

use crate::abi::{FlowKey, OUTSIDE, Pending};
use crate::binding::key_of;
use crate::family::Address;
use crate::flow::{KeyHash, pending_index};
use crate::packet::Packet;
use crate::tables::Tables;

/// Is what the former tables are asked.
pub trait Former<A> {
    /// Tells whether a flow is in the table.
    fn has_flow(&self, key: &FlowKey<A>) -> bool;

    /// Tells whether a half of a binding is in the table.
    fn has_binding(&self, key: &FlowKey<A>) -> bool;

    /// Tells whether a flow of the party behind link `zone` waits for its answer.
    fn waits(&self, key: &FlowKey<A>, zone: u32) -> bool;
}

/// Tells whether only the former tables know what a packet belongs to.
#[inline(always)]
pub fn is_formers<A, P, T, F>(packet: &P, tables: &mut T, former: &F) -> bool
where
    A: Address + KeyHash,
    P: Packet,
    T: Tables<A>,
    F: Former<A>,
{
    let Some(plain) = A::plain(packet) else {
        return false;
    };
    let key = plain.key;
    if tables.flow(&key).is_some() {
        return false;
    }
    if former.has_flow(&key) || waits_there(tables, former, &key) {
        return true;
    }
    let reply = key.reversed();
    if waits_there(tables, former, &reply) {
        return true;
    }
    let Some(shared) = tables
        .node()
        .map(|node| node.masquerade.endpoint_independent)
    else {
        return false;
    };
    let (inside, outside) = (key_of(&key, shared), key_of(&reply, shared));
    if tables.binding(&inside).is_none() && former.has_binding(&inside) {
        return true;
    }
    let Some(other) = tables.binding(&outside).map(|half| half.other) else {
        return former.has_binding(&outside);
    };
    let [port, _] = other.ports();
    let opener = reply.with_source(other.src(), port);
    waits_there(tables, former, &opener)
}

/// Tells whether a flow waits for its answer by the former tables, and not by these.
#[inline(always)]
fn waits_there<A, T, F>(tables: &T, former: &F, key: &FlowKey<A>) -> bool
where
    A: Address + KeyHash,
    T: Tables<A>,
    F: Former<A>,
{
    let Some((host, mask)) = tables
        .node()
        .map(|node| (node.host_ifindex, node.pending_mask))
    else {
        return false;
    };
    let [zone, other] = match tables.local(&key.src()) {
        0 | OUTSIDE => [host, OUTSIDE],
        ifindex => [ifindex, ifindex],
    };
    let is_there = |zone: u32| former.waits(key, zone) && !waits(tables, key, zone, mask);
    is_there(zone) || other != zone && is_there(other)
}

#[inline(always)]
fn waits<A, T>(tables: &T, key: &FlowKey<A>, zone: u32, mask: u32) -> bool
where
    A: Address + KeyHash,
    T: Tables<A>,
{
    let Some(slot) = tables.party(zone).map(|party| party.slot) else {
        return false;
    };
    let mut pending = Pending::default();
    tables.pending(pending_index(slot, key, mask), &mut pending)
        && pending.packets != 0
        && pending.key == *key
}
