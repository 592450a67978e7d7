//! ICMP errors: which are believed, and what they say behind a translation (RFC 5508).
//!
//! An error is related to a flow only if it quotes a packet of that flow, comes from the side
//! that the packet was sent to, and goes back to the one that sent it. From an endpoint this
//! means: a packet that was sent *to* it. Routers on the way, and the node's stack among them,
//! may report about any flow. An error neither makes nor renews nor ends anything.
//!
//! ```text
//! quoted packet  K            what it was before its translation  out.reversed()
//! its answer     K.reversed() ──► the flow that the error goes along ──► out
//! ```

use crate::abi::OUTSIDE;
use crate::admission;
use crate::binding;
use crate::checksum;
use crate::family::{self, Address, Part};
use crate::flow::{KeyHash, is_live};
use crate::fragment;
use crate::hook::Hook;
use crate::packet::{CheckChange, Packet, proto};
use crate::rewrite;
use crate::tables::Tables;
use crate::transport;
use crate::verdict::DropReason;
use crate::work::Work;

/// Length of the part of an ICMP error before the packet that it quotes, in bytes.
const QUOTE_OFFSET: u32 = 8;
/// Where the checksum of an ICMP message stands.
const CHECK_OFFSET: u32 = 2;

/// Finds the flow that the ICMP error in `work` goes along: its translation in `work.out`, and its
/// receiver; returns the reason to drop it, if there is one.
///
/// The quoted header is in `work.header` afterwards, the error's own in `work.outer`. An error that
/// is the node's own business has receiver 0.
#[inline(never)]
pub fn relate<A: Address + KeyHash, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    work.outer = work.header;
    work.route.ifindex = 0;
    let is_known = is_forwarded(packet, work) && quotes(packet, work) && find(tables, work);
    if !is_known {
        return not_ours(work);
    }
    let is_checked = work.out != work.key && work.sender == OUTSIDE;
    let is_at_device = matches!(work.hook(), Some(Hook::FromNetdev));
    if is_checked && is_at_device && !is_sound(packet, work) {
        return Some(DropReason::BadChecksum);
    }
    None
}

/// What quotes nothing that is known goes to the node if it is addressed to the node.
#[inline(always)]
fn not_ours<A: Address>(work: &mut Work<A>) -> Option<DropReason> {
    let is_ours = match work.hook() {
        Some(Hook::FromNetdev) => work.receiver == OUTSIDE,
        Some(Hook::ToNetdev) => work.sender == work.moment.host,
        _ => false,
    };
    if is_ours {
        work.receiver = 0;
        None
    } else {
        Some(DropReason::UnrelatedIcmpError)
    }
}

/// Source quench (RFC 6633) and redirects cross no router.
#[inline(always)]
fn is_forwarded<A: Address, P: Packet>(packet: &P, work: &Work<A>) -> bool {
    if work.sender != OUTSIDE || A::IS_IPV6 {
        return true;
    }
    !matches!(packet.read::<u8>(work.header.transport), Some(4 | 5))
}

/// Reads the quoted packet: its header into `work.header`, the key of its answers into `work.key`.
#[inline(never)]
fn quotes<A: Address, P: Packet>(packet: &P, work: &mut Work<A>) -> bool {
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
    work.key = fragment::flow_key(quoted, &inner).reversed();
    work.out = work.key;
    true
}

/// Finds the flow that an error goes along: its translation and its receiver.
#[inline(never)]
fn find<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    if along_flow(tables, work) {
        return true;
    }
    let quoted = work.key.reversed();
    if let Some((from, to)) = admission::known(tables, work, &quoted)
        && (to == work.sender || is_router(work) || is_far(tables, work, to))
    {
        work.receiver = from;
        return true;
    }
    along_binding(tables, work) || is_of_stack(tables, work)
}

/// Tells whether errors of the sender are believed whatever they quote.
#[inline(always)]
fn is_router<A: Address>(work: &Work<A>) -> bool {
    work.sender == work.moment.host
}

/// Tells whether the quoted packet left the node, so that routers outside may report about it. Of a
/// flow that waits for its answer only its receiver's address is known.
#[inline(always)]
fn is_far<A: Address, T: Tables<A>>(tables: &T, work: &Work<A>, to: u32) -> bool {
    let is_inside = match tables.node() {
        Some(node) => work.key.src().is_inside(node),
        None => true,
    };
    work.sender == OUTSIDE && to == work.moment.host && !is_inside
}

/// Finds the flow in the table.
#[inline(always)]
fn along_flow<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let now_ns = work.moment.now_ns;
    let timeouts = work.moment.timeouts;
    let is_router = is_router(work);
    let Some(flow) = tables.flow(&work.key) else {
        return false;
    };
    if !is_live(flow, &work.key, &timeouts, now_ns) || (flow.zone != work.sender && !is_router) {
        return false;
    }
    let (receiver, is_translated) = (flow.receiver, flow.is_translated());
    work.receiver = receiver;
    if is_translated {
        work.out = flow.out;
    }
    work.set_hairpin(is_translated && work.sender != OUTSIDE && receiver != OUTSIDE);
    true
}

/// Finds the flow by its binding.
#[inline(never)]
fn along_binding<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    if matches!(work.hook(), Some(Hook::FromNetdev)) {
        work.out = work.key.reversed();
        let zone = binding::find_outside(tables, work);
        work.out = work.key;
        if zone == 0 {
            return false;
        }
        let [port, _] = work.inside.ports();
        work.out = work.key.with_destination(work.inside.src(), port);
        work.receiver = zone;
        return true;
    }
    let is_outbound = matches!(work.hook(), Some(Hook::FromContainer | Hook::ToNetdev));
    // Nobody reports about packets that were sent to somebody else.
    let is_own = tables.local(&work.key.src()) == work.sender || is_router(work);
    if !is_outbound || !is_own || !binding::find(tables, work) {
        return false;
    }
    let [port, _] = work.outside.ports();
    let sent = work.key.with_source(work.outside.src(), port);
    work.out = sent;
    work.receiver = OUTSIDE;
    if tables.local(&work.key.dst()) != OUTSIDE {
        return true;
    }
    // The quoted packet came from another endpoint, by its masquerade address.
    work.out = sent.reversed();
    let zone = binding::find_outside(tables, work);
    let [port, _] = work.inside.ports();
    work.out = sent.with_destination(work.inside.src(), port);
    work.receiver = zone;
    work.set_hairpin(true);
    zone != 0
}

/// The node's stack answers an endpoint also about packets that no flow was made for: those that
/// were refused.
#[inline(always)]
fn is_of_stack<A: Address, T: Tables<A>>(tables: &T, work: &Work<A>) -> bool {
    matches!(work.hook(), Some(Hook::FromHost | Hook::ToContainer))
        && work.sender == work.moment.host
        && tables.local(&work.key.dst()) == work.receiver
}

/// Tells whether the checksums of an error from outside, and of the header that it quotes, are
/// right (RFC 5508 REQ-3).
#[inline(never)]
fn is_sound<A: Address, P: Packet>(packet: &P, work: &Work<A>) -> bool {
    let outer = &work.outer;
    let Some(sum) = packet.sum(outer.transport, outer.payload_len) else {
        return false;
    };
    let pseudo = if A::IS_IPV6 {
        let ends = outer.src.word_sum() + outer.dst.word_sum();
        let len = (outer.payload_len as u16).to_be();
        ends + u64::from(len) + u64::from(u16::from(proto::ICMP6).to_be())
    } else {
        0
    };
    let quote = outer.transport + QUOTE_OFFSET;
    checksum::fold(u64::from(sum) + pseudo) == u16::MAX
        && A::is_sound(packet, quote, work.header.transport)
}

/// Translates an error: its own addresses, and the packet that it quotes.
#[inline(always)]
pub fn translate<A: Address, P: Packet>(packet: &mut P, work: &Work<A>) -> bool {
    let outer = &work.outer;
    let (quoted, before) = (work.key.reversed(), work.out.reversed());
    let [addresses, ports] = rewrite::sums(&quoted, &before);
    let Some(check) = quoted_check(packet, work, [addresses, ports]) else {
        return false;
    };
    let quote = outer.transport + QUOTE_OFFSET;
    let ends = [before.src(), before.dst()];
    let Some(header) = A::set_quoted_ends(packet, quote, ends, addresses) else {
        return false;
    };
    if quoted.ports() != before.ports()
        && !rewrite::set_ports(packet, work.header.transport, &before)
    {
        return false;
    }
    let src = if outer.src == work.key.src() {
        work.out.src()
    } else {
        outer.src
    };
    let ends = [src, work.out.dst()];
    let change = checksum::sum_difference(
        outer.src.word_sum() + outer.dst.word_sum(),
        ends[0].word_sum() + ends[1].word_sum(),
    );
    let quote = checksum::fold(u64::from(header) + u64::from(ports) + u64::from(check));
    let change_of_message = CheckChange {
        addresses: if A::IS_IPV6 { change } else { 0 },
        ports: if quote == u16::MAX { 0 } else { quote },
        is_udp: false,
        is_ipv6: A::IS_IPV6,
    };
    packet.update_check(outer.transport + CHECK_OFFSET, change_of_message)
        && A::set_ends(packet, ends, change)
}

/// Updates the transport checksum of the quoted packet, as far as it is quoted, and returns what
/// that adds to the checksum of the error; `None` if it cannot be written.
#[inline(always)]
fn quoted_check<A: Address, P: Packet>(
    packet: &mut P,
    work: &Work<A>,
    sums: [u16; 2],
) -> Option<u16> {
    let protocol = work.header.protocol;
    let Some(offset) = rewrite::check_offset(protocol) else {
        return Some(0);
    };
    let offset = work.header.transport + offset;
    let Some(old) = packet.read::<u16>(offset) else {
        return Some(0);
    };
    let change = rewrite::change::<A>(protocol, sums);
    if change.is_udp && old == 0 {
        return Some(0);
    }
    let mut new = checksum::add(old, change.addresses);
    new = checksum::add(new, change.ports);
    if change.is_udp && new == 0 {
        new = u16::MAX;
    }
    packet
        .write(offset, new)
        .then(|| checksum::sum_difference(u64::from(old), u64::from(new)))
}
