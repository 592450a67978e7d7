//! The decision about a flow: from whom, to whom, and how its packets leave.

use crate::abi::{Action, Flow};
use crate::packet::MacPair;
use crate::tables::Tables;
use crate::work::Moment;

/// Reads the clock and the node's entry; `None` while the node is not set up.
#[inline(always)]
pub fn moment<A, T: Tables<A>>(tables: &T) -> Option<Moment> {
    let node = tables.node()?;
    let (generation, host) = (node.generation, node.host_ifindex);
    (host != 0).then(|| Moment::new(tables.now_ns(), generation, host, node.pending_mask))
}

/// Decides about packets that the party behind link `from` sends to the party behind link `to`
/// and writes the decision to `flow`; `false` if one of them is gone.
///
/// Counts and stage begin anew.
#[inline(never)]
pub fn decide<A, T: Tables<A>>(
    tables: &T,
    from: u32,
    to: u32,
    moment: &Moment,
    flow: &mut Flow,
) -> bool {
    let (Some(sender), Some(receiver)) = (tables.party(from), tables.party(to)) else {
        return false;
    };
    flow.generation = moment.generation;
    flow.zone = from;
    flow.decided_ns = moment.now_ns;
    flow.created_ns = moment.now_ns;
    flow.arrives = MacPair::new(sender.gateway_mac, sender.mac);
    flow.target = to;
    flow.leaves = MacPair::new(receiver.mac, receiver.gateway_mac);
    flow.mtu = receiver.mtu;
    flow.source_identity = sender.identity;
    flow.target_identity = receiver.identity;
    flow.begin(match (sender.is_endpoint(), receiver.is_endpoint()) {
        (true, true) => Action::Peer,
        (false, true) => Action::Endpoint,
        (_, false) => Action::Host,
    });
    true
}
