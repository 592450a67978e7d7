//! Which remote addresses may send to a port that serves all of them: those that its endpoint has
//! spoken to a while ago (RFC 4787 REQ-8, address-dependent filtering).
//!
//! Permits are notes on lines of the endpoint's own, so that one which speaks to a million
//! addresses pushes out none but its own. A flow that stands, or waits for its answer, needs no
//! permit: they are for what else the address sends, and for flows that were forgotten.

use crate::abi::FlowKey;
use crate::admission;
use crate::family::Address;
use crate::flow::{KeyHash, key_hash, of_slot, timeout_ns};
use crate::note;
use crate::tables::Tables;
use crate::work::Work;

/// Lets a flow's remote address answer for as long as the flow is spoken on.
#[inline(never)]
pub fn grant<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    if !is_asked_for(work) {
        return;
    }
    let (key, zone) = (work.key, work.sender);
    let Some(index) = look(tables, work, &key, zone) else {
        return;
    };
    let stage = work.decided.stage();
    let idle_ns = timeout_ns(&work.moment.timeouts, work.key.proto(), stage);
    // The moment that it ends in still counts.
    let ends = note::moment(work.moment.now_ns + idle_ns) + 1;
    if let Some(line) = tables.permits(index) {
        work.search.write(line, ends);
    }
}

/// Tells whether a packet from outside may reach the endpoint behind link `zone`; `work.out` is its
/// key behind the translation. `work.pending` is used.
#[inline(never)]
pub fn is_granted<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    zone: u32,
) -> bool {
    if !is_asked_for(work) {
        return true;
    }
    let key = work.out.reversed();
    if look(tables, work, &key, zone).is_some() && work.search.has_found() {
        return true;
    }
    admission::waits(tables, work, &key, zone)
}

/// Looks for the permit of a flow from the endpoint behind link `zone`, and returns the index of its
/// line.
#[inline(always)]
fn look<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    key: &FlowKey<A>,
    zone: u32,
) -> Option<u32> {
    let slot = tables.party(zone)?.slot;
    let hash = hash(key, zone);
    let index = of_slot(slot, hash, work.moment.pending_mask);
    work.search.line = *tables.permits(index)?;
    note::search(tables, work, hash);
    Some(index)
}

#[inline(always)]
const fn is_asked_for<A>(work: &Work<A>) -> bool {
    let masquerade = &work.moment.masquerade;
    masquerade.endpoint_independent != 0 && masquerade.unfiltered == 0
}

/// Returns the hash of what is permitted: a remote address, whatever its port, and a port of the
/// endpoint behind link `zone`. Whoever has the endpoint's address next has another link.
#[inline(always)]
pub fn hash<A: Address + KeyHash>(flow: &FlowKey<A>, zone: u32) -> u64 {
    let [port, _] = flow.ports();
    let permitted = FlowKey::new(flow.src(), flow.dst(), flow.proto(), [port, 0], flow.tag());
    key_hash(&permitted, zone)
}
