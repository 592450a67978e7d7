//! How a packet that the node's stack forwards is known again: by a ticket from its sender's link.
//!
//! ```text
//! from_container ── checked ──► ticket, stack ──► from_host or to_netdev: ticket, or a known flow
//! ```
//!
//! A new flow may be pushed out of its place among the pending ones before its packet is through:
//! hundreds may be in the stack's queue at once. Tickets live for seconds and need little room, so
//! that there is enough for all that the queues of a machine hold.

use crate::abi::{OUTSIDE, TICKET_LINES};
use crate::family::Address;
use crate::flow::{KeyHash, SECOND_NS, key_hash};
use crate::note;
use crate::tables::Tables;
use crate::work::Work;

/// How long a packet may be on its way: the kernel looks for a neighbour for three seconds.
const TICKET_NS: u64 = 8 * SECOND_NS;

/// Notes that the packet in `work` was checked where it came from. What comes from outside needs no
/// ticket, and so has no share in their number.
#[inline(never)]
pub fn issue<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    if work.sender == OUTSIDE {
        return;
    }
    let Some(index) = look(tables, work) else {
        return;
    };
    let ends = note::moment(work.moment.now_ns + TICKET_NS);
    if let Some(line) = tables.tickets(index) {
        work.search.write(line, ends);
    }
}

/// Tells whether a packet of the flow in `work` was checked a moment ago at the link of its sender.
#[inline(never)]
pub fn is_issued<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    look(tables, work).is_some() && work.search.has_found()
}

/// Looks for the ticket of the flow in `work`, and returns the index of its line.
#[inline(always)]
fn look<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<u32> {
    let hash = key_hash(&work.key, work.sender);
    let index = hash as u32 % TICKET_LINES;
    work.search.line = *tables.tickets(index)?;
    note::search(tables, work, hash);
    Some(index)
}
