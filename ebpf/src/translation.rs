//! What a packet leaves with, and for whom it then is: masquerade, reverse masquerade, hairpin.
//!
//! A flow keeps the translation that it has. A new flow from an endpoint to somebody outside gets
//! a binding, unless its destination is excluded or the device that it leaves by does not
//! masquerade; a packet to a masquerade address goes to the endpoint whose binding it is, also if
//! another endpoint sends it (hairpin). A packet to a port of the range that nobody has is
//! dropped: the node's stack would answer it, and end a connection that is not its own.

use crate::abi::OUTSIDE;
use crate::admission;
use crate::binding;
use crate::family::Address;
use crate::flow::{KeyHash, is_live};
use crate::hook::Hook;
use crate::packet::proto;
use crate::permit;
use crate::policy;
use crate::rewrite::has_free_ports;
use crate::tables::Tables;
use crate::transport::TCP_RST;
use crate::verdict::DropReason;
use crate::work::Work;

/// Finds or makes the translation of the packet in `work`, and its receiver; returns the reason
/// to drop the packet, if there is one.
///
/// A packet that is the node's own business has receiver 0 afterwards if it is at a device, else
/// the node's stack.
#[inline(always)]
pub fn translate<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    if work.receiver != OUTSIDE {
        return None;
    }
    if work.sender == OUTSIDE {
        return inbound(tables, work);
    }
    work.set_needy(false);
    if let Some(reason) = look(tables, work) {
        return Some(reason);
    }
    if !work.is_needy() {
        return None;
    }
    if !work.is_bound()
        && let Some(reason) = make(tables, work)
    {
        return Some(reason);
    }
    finish(tables, work)
}

/// Makes the binding that a flow needs, unless it is new and policy denies it: that must not cost
/// a port.
#[inline(always)]
fn make<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    let is_new = work.out == work.key && !work.is_hairpin();
    if is_new && let Some(reason) = policy::ask_outward(tables, work) {
        return Some(reason);
    }
    binding::make(tables, work)
}

/// Ends the binding of a port that the node itself speaks from: it was there first, or has its
/// reasons. The endpoint gets another port with its next packet.
#[inline(never)]
pub fn give_back<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let is_echo = work.key.is_echo();
    if work.sender != work.moment.host || !has_free_ports(work.key.proto()) && !is_echo {
        return;
    }
    // A tunnel's packets carry ports that say nothing, and none of them is listened at.
    if work.key.proto() == proto::UDP && !tables.has_socket(&work.key) {
        return;
    }
    work.out = work.key;
    if binding::find_outside(tables, work) != 0 {
        binding::end(tables, work);
        let [port, _] = work.inside.ports();
        let inside = work.key.with_source(work.inside.src(), port);
        tables.remove_flow(&inside);
        tables.remove_flow(&work.key.reversed());
    }
}

/// Translates what comes to a masquerade address from outside.
#[inline(never)]
fn inbound<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    work.out = work.key.reversed();
    let zone = binding::find_outside(tables, work);
    if zone == 0 {
        work.out = work.key;
        return unowned(tables, work, 0);
    }
    work.set_bound(true);
    let known = known_translation(tables, work);
    let [port, _] = work.inside.ports();
    work.out = work.key.with_destination(work.inside.src(), port);
    work.receiver = zone;
    if known || permit::is_granted(tables, work, zone) {
        None
    } else {
        Some(DropReason::NatFiltered)
    }
}

/// Handles a packet to a masquerade address and a port that belongs to no endpoint; `stack` is the
/// receiver if it belongs to the node.
#[inline(never)]
fn unowned<A: Address, T: Tables<A>>(
    tables: &T,
    work: &mut Work<A>,
    stack: u32,
) -> Option<DropReason> {
    let [first, last] = work.moment.masquerade.ports;
    let in_range = (first..=last).contains(&work.key.dst_port());
    let is_ours = has_free_ports(work.key.proto()) && first != 0 && in_range;
    let is_outer = tables.local(&work.key.dst()) == OUTSIDE;
    if is_ours && is_outer && !tables.has_socket(&work.key.reversed()) {
        return Some(DropReason::NatNoBinding);
    }
    work.receiver = stack;
    if policy::guards_inward(work) {
        tables.route(&work.key, work.device, &mut work.route);
        // What is not forwarded is for the node.
        if work.route.ifindex == 0 {
            work.receiver = work.moment.host;
        }
    }
    None
}

/// Looks what an endpoint's packet to somebody outside needs: nothing, or a binding for the address
/// that is left in `work.address`, which is found already if the work is bound.
#[inline(never)]
fn look<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let is_known = known_translation(tables, work);
    if tables.local(&work.key.dst()) == OUTSIDE {
        look_inside(tables, work, is_known)
    } else {
        find_route(tables, work);
        if is_known {
            keep(tables, work)
        } else {
            look_outside(tables, work)
        }
    }
}

/// Looks at what an endpoint sends to a masquerade address: it goes to the endpoint behind it, with
/// the sender's own outside address (RFC 4787 REQ-9), or to the node.
#[inline(never)]
fn look_inside<A: Address, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    is_known: bool,
) -> Option<DropReason> {
    let is_bound = binding::find(tables, work);
    work.set_bound(is_bound);
    if is_known && is_still_behind(tables, work) {
        let is_bound = binding::find(tables, work);
        work.set_bound(is_bound);
        work.set_hairpin(true);
        return receiver_of(tables, work);
    }
    work.out = work.key;
    let [first, last] = work.moment.masquerade.ports;
    let in_range = (first..=last).contains(&work.key.dst_port());
    if first == 0 || !in_range || !has_free_ports(work.key.proto()) {
        work.receiver = work.moment.host;
        return None;
    }
    work.set_hairpin(true);
    work.set_needy(true);
    work.address = work.key.dst();
    None
}

/// Tells whether the endpoint that a known flow goes to, `work.out`, still has the port that its
/// packets are sent to.
#[inline(never)]
fn is_still_behind<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let out = work.out;
    let [port, _] = out.ports();
    work.out = work.key.with_source(out.src(), port).reversed();
    let zone = binding::find_outside(tables, work);
    work.out = out;
    let [inside, _] = work.inside.ports();
    let [_, port] = out.ports();
    zone != 0 && work.inside.src() == out.dst() && inside == port
}

/// Finds the endpoint that the translated packet is for.
#[inline(always)]
fn receiver_of<A: Address, T: Tables<A>>(tables: &T, work: &mut Work<A>) -> Option<DropReason> {
    match tables.local(&work.out.dst()) {
        0 | OUTSIDE => Some(DropReason::NatNoBinding),
        ifindex => {
            work.receiver = ifindex;
            None
        }
    }
}

/// Finds out which way a packet leaves: what is at a device leaves by that.
#[inline(never)]
fn find_route<A: Address, T: Tables<A>>(tables: &T, work: &mut Work<A>) {
    if matches!(work.hook(), Some(Hook::ToNetdev)) {
        work.route.ifindex = work.device;
        (work.route.is_resolved, work.route.mtu) = (0, u16::MAX);
    } else {
        tables.route(&work.key, work.moment.host, &mut work.route);
    }
}

/// Looks at the first packet to somebody outside.
#[inline(never)]
fn look_outside<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    if work.route.ifindex == 0 {
        work.receiver = work.moment.host;
        return None;
    }
    let device = tables.device(work.route.ifindex)?;
    if !device.is_masquerading() {
        return None;
    }
    let Some(address) = A::masquerade(device) else {
        let is_wanted = !is_excluded(work);
        return is_wanted.then_some(DropReason::NatAddressGone);
    };
    if answers_outside(tables, work) {
        return None;
    }
    work.address = address;
    let is_found = binding::find(tables, work) && is_current(tables, work);
    if !is_found && work.key.proto() == proto::TCP && work.tcp_flags & TCP_RST != 0 {
        // Nobody outside knows of the connection that it would end.
        return Some(DropReason::NatNoBinding);
    }
    work.set_bound(is_found);
    let is_own = is_found && (work.inside == work.key || was_translated(tables, work));
    if is_own || !is_excluded(work) {
        work.set_needy(true);
    } else {
        work.set_bound(false);
    }
    None
}

/// Completes a translation whose binding is there.
#[inline(never)]
fn finish<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    let [port, _] = work.outside.ports();
    work.out = work.key.with_source(work.outside.src(), port);
    work.set_bound(true);
    if !work.is_hairpin() {
        return None;
    }
    // The endpoint behind the address is found as if the packet came from outside.
    let sent = work.out;
    work.out = sent.reversed();
    let zone = binding::find_outside(tables, work);
    if zone == 0 || zone == work.sender {
        work.out = work.key;
        work.set_hairpin(false);
        work.set_bound(false);
        let stack = work.moment.host;
        return unowned(tables, work, stack);
    }
    let [port, _] = work.inside.ports();
    work.out = sent.with_destination(work.inside.src(), port);
    work.receiver = zone;
    let is_bound = binding::find(tables, work);
    work.set_bound(is_bound);
    None
}

/// Tells whether the binding that was found may serve a flow that begins, which leaves by a
/// device with this masquerade address; ends it if not.
///
/// A device that the stack chose differently, or that has got another address, is no place for
/// the old one.
#[inline(never)]
fn is_current<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let found = work.outside.src();
    if found == work.address {
        return true;
    }
    let is_answered = matches!(tables.binding(&work.outside), Some(half) if half.answered != 0);
    if is_answered && tables.local(&found) == OUTSIDE {
        return true;
    }
    binding::end(tables, work);
    false
}

/// Tells whether the packet answers one that came to the endpoint's own address from outside: such
/// a connection is translated in neither direction.
#[inline(never)]
fn answers_outside<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let key = work.key.reversed();
    let (now_ns, timeouts) = (work.moment.now_ns, work.moment.timeouts);
    if let Some(flow) = tables.flow(&key)
        && flow.zone == OUTSIDE
        && is_live(flow, &key, &timeouts, now_ns)
    {
        return true;
    }
    admission::waits(tables, work, &key, OUTSIDE)
}

/// Tells whether the flow waits for its first answer and was translated when it began: what is
/// excluded since then does not concern it.
#[inline(never)]
fn was_translated<A: Address + KeyHash, T: Tables<A>>(tables: &T, work: &mut Work<A>) -> bool {
    let (key, zone) = (work.key, work.sender);
    admission::waits(tables, work, &key, zone) && work.pending.is_translated != 0
}

#[inline(always)]
fn is_excluded<A>(work: &Work<A>) -> bool {
    work.beyond.prefix.is_excluded()
}

/// Takes the translation of a flow that stands into `work.out`.
#[inline(never)]
fn known_translation<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let now_ns = work.moment.now_ns;
    let timeouts = work.moment.timeouts;
    let Some(flow) = tables.flow(&work.key) else {
        return false;
    };
    if flow.zone != work.sender || !is_live(flow, &work.key, &timeouts, now_ns) {
        return false;
    }
    if !flow.is_translated() {
        // A packet to a masquerade address is never left as it is.
        return work.sender != OUTSIDE && flow.receiver == OUTSIDE;
    }
    work.out = flow.out;
    true
}

/// Makes sure that a flow from inside may keep the translation that it has.
#[inline(never)]
fn keep<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    if work.out == work.key {
        return None;
    }
    let address = work.out.src();
    if tables.local(&address) != OUTSIDE {
        if binding::find(tables, work) {
            binding::end(tables, work);
        }
        tables.remove_flow(&work.out.reversed());
        tables.remove_flow(&work.key);
        return Some(DropReason::NatAddressGone);
    }
    work.set_needy(true);
    work.address = address;
    // If it ran out while nobody spoke, whoever has the port by now keeps it.
    let is_bound = binding::find(tables, work);
    work.set_bound(is_bound);
    None
}
