//! The decision about a flow: from whom, to whom, and how its packets leave.

use crate::abi::{Action, Flow, IDENTITY_HOST, OUTSIDE};
use crate::family::Address;
use crate::packet::MacPair;
use crate::policy;
use crate::rewrite;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::{Moment, Work};

/// Reads the clock and the node's entry; `false` while the node is not set up.
#[inline(always)]
pub fn set_moment<A, T: Tables<A>>(tables: &T, moment: &mut Moment) -> bool {
    let now_ns = tables.now_ns();
    let Some(node) = tables.node() else {
        return false;
    };
    moment.set(now_ns, node);
    node.host_ifindex != 0
}

/// Decides about packets that the party behind link `from` sends to the party behind link `to`
/// and writes the decision to `flow`; `false` if one of them is gone.
///
/// Counts and stage begin anew. What goes outside goes to the stack until a route is found.
#[inline(never)]
pub fn decide<A, T: Tables<A>>(
    tables: &T,
    from: u32,
    to: u32,
    moment: &Moment,
    flow: &mut Flow<A>,
) -> bool {
    let (Some(sender), Some(receiver)) = (tables.party(from), tables.party(to)) else {
        return false;
    };
    flow.generation = moment.generation;
    flow.zone = from;
    flow.decided_ns = moment.now_ns;
    flow.created_ns = moment.now_ns;
    flow.arrives = MacPair::new(sender.gateway_mac, sender.mac);
    flow.target = if to == OUTSIDE { moment.host } else { to };
    flow.receiver = to;
    flow.leaves = MacPair::new(receiver.mac, receiver.gateway_mac);
    flow.mtu = receiver.mtu;
    let side = moment.side();
    flow.source_identity = tables.subject(sender.subject(), side).identity;
    flow.target_identity = tables.subject(receiver.subject(), side).identity;
    let is_from_host = from == moment.host;
    flow.begin(match (is_from_host, receiver.is_endpoint()) {
        (false, true) => Action::Peer,
        (true, true) => Action::Endpoint,
        (_, false) if to == OUTSIDE => Action::Stack,
        (_, false) => Action::Host,
    });
    if moment.is_legacy() && receiver.is_endpoint() && !is_from_host {
        flow.set_through_stack();
    }
    true
}

/// Decides about the packet in `work`; returns the reason to drop it, if there is one.
#[inline(never)]
pub fn decide_packet<A: Address, T: Tables<A>>(
    tables: &T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let (sender, receiver) = (work.sender, work.receiver);
    if !decide(tables, sender, receiver, &work.moment, &mut work.decided) {
        return Some(DropReason::NotReady);
    }
    complete(tables, work);
    // An address of the node, from outside.
    let is_forged = sender == OUTSIDE && work.decided.source_identity == IDENTITY_HOST;
    is_forged.then_some(DropReason::InvalidSourceIp)
}

/// Completes the decision about the packet in `work`: its way out of a device, and what it leaves
/// with.
#[inline(never)]
fn complete<A: Address, T: Tables<A>>(tables: &T, work: &mut Work<A>) {
    let is_error = work.is_error();
    let flow = &mut work.decided;
    flow.out = work.key;
    if work.out != work.key {
        flow.set_translation(work.out, rewrite::sums(&work.key, &work.out));
    }
    if work.is_hairpin() {
        work.decided.set_past_stack();
    }
    let outside = policy::outside_identity(tables, work);
    let flow = &mut work.decided;
    if work.sender == OUTSIDE {
        flow.source_identity = outside;
    }
    if work.receiver != OUTSIDE || is_error {
        return;
    }
    flow.target_identity = outside;
    if work.route.ifindex == 0 {
        return;
    }
    flow.mtu = work.route.mtu;
    let is_ready = work.route.is_resolved != 0 && tables.device(work.route.ifindex).is_some();
    if is_ready && !work.moment.is_legacy() {
        flow.set_action(Action::Device);
        flow.target = work.route.ifindex;
        flow.set_next_hop(work.route.next_hop, work.route.family);
    }
}
