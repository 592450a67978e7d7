//! Which ICMP errors are believed.
//!
//! An error is related to a flow only if it quotes a packet of that flow, comes from the side
//! that the packet was sent to, and goes back to the one that sent it. From an endpoint this
//! means: a packet that was sent *to* it. The node's stack, as a router on the way, may report
//! about any flow.

use crate::admission;
use crate::family::{self, Address, Part};
use crate::flow::KeyHash;
use crate::fragment;
use crate::packet::Packet;
use crate::tables::Tables;
use crate::transport;
use crate::work::Work;

/// Length of the part of an ICMP error before the packet that it quotes, in bytes.
const QUOTE_OFFSET: u32 = 8;

/// Tells whether an error is about a packet that its sender could have received.
///
/// Leaves the quoted header in `work.header`.
#[inline(never)]
pub fn is_related<A: Address + KeyHash, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &mut T,
    work: &mut Work<A>,
) -> bool {
    let offset = work.header.transport + QUOTE_OFFSET;
    let is_whole = work.header.part == Part::Whole;
    if !is_whole || family::parse(packet, offset, true, &mut work.header).is_some() {
        return false;
    }
    let quoted = &work.header;
    if quoted.src != work.key.dst() || quoted.part == Part::Later {
        return false;
    }
    let Ok(inner) = transport::quoted(packet, quoted.transport, quoted.protocol) else {
        return false;
    };
    // Nobody sends an error about an error (RFC 1122 §3.2.2, RFC 4443 §2.4).
    if inner.is_error {
        return false;
    }
    let key = fragment::flow_key(quoted, &inner);
    admission::known(tables, work, &key)
        .is_some_and(|(_, target)| target == work.sender || work.sender == work.moment.host)
}
