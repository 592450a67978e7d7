//! The packet pipeline of ciliate, for the kernel and for the host.
//!
//! # The life of a packet
//! [`fast`] reads the headers, looks its flow up once, and sends it along the remembered way. A
//! packet without a fresh decision takes [`slow`]: sender and receiver are found, the decision
//! is made and remembered, and the packet goes the same way.
//!
//! # Layout
//! - [`abi`]: map keys and values, the contract with the agent
//! - [`hook`], [`verdict`]: where a packet comes from, what becomes of it
//! - [`packet`], [`tables`]: the two traits that a kernel or a test implements
//! - [`family`], [`ipv4`], [`ipv6`], [`transport`]: headers
//! - [`flow`], [`admission`]: freshness, timeouts, how a flow becomes known
//! - [`identify`], [`work`]: sender, receiver and flow of a packet on the slow path
//! - [`source`], [`neighbour`], [`error`], [`fragment`], [`reassembly`]: who may say what
//! - [`beyond`], [`policy`]: who is behind an address, who may open a connection to whom
//! - [`translation`], [`binding`], [`permit`], [`rewrite`]: masquerade: what a packet leaves with
//! - [`ticket`], [`note`]: what the stack forwards is known again
//! - [`decision`], [`forward`]: from whom to whom, and how the packet leaves
//! - [`consult`]: whose a packet is while tables are exchanged
//! - [`address`], [`checksum`]: arithmetic
//! - [`model`]: packets and tables in ordinary memory, for tests and fuzzing
//!
//! Leaves are `#[inline(always)]`: the linker refuses functions of more than five arguments, and
//! a call costs more than most of them.

#![cfg_attr(target_arch = "bpf", no_std)]
#![expect(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::len_without_is_empty,
    clippy::many_single_char_names,
    reason = "see above; header arithmetic truncates on purpose, no packet is empty, and the \
              bytes of an address have no names"
)]
#![allow(
    clippy::doc_markdown,
    reason = "ICMPv6 and IPv6 are names of protocols, not of items"
)]

pub mod abi;
pub mod address;
pub mod admission;
pub mod beyond;
pub mod binding;
pub mod checksum;
pub mod consult;
pub mod decision;
pub mod error;
pub mod family;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod hook;
pub mod identify;
pub mod ipv4;
pub mod ipv6;
#[cfg(not(target_arch = "bpf"))]
pub mod model;
pub mod neighbour;
pub mod note;
pub mod packet;
pub mod permit;
pub mod policy;
pub mod reassembly;
pub mod rewrite;
pub mod source;
pub mod tables;
pub mod ticket;
pub mod translation;
pub mod transport;
pub mod verdict;
pub mod work;

use abi::{Flow, FlowKey, OUTSIDE};
use family::Address;
use flow::KeyHash;
use forward::{Exit, Way};
use hook::Hook;
use packet::{
    ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_LEN, ETH_PROTOCOL_OFFSET, ETH_QINQ, ETH_VLAN, MacPair, Packet,
    VLAN_ID,
};
use rewrite::has_free_ports;
use tables::Tables;
use verdict::{DropReason, Verdict};
use work::Work;

/// Tells which programs handle a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Ipv4,
    Ipv6,
    Arp,
    /// None of ours do: the packet goes on.
    Stack,
}

/// Bytes that the slow path wants in one piece: the longest headers that it rewrites.
const PULL_LEN: u32 = if cfg!(feature = "other-programs") {
    160
} else {
    128
};

/// Looks at a packet's Ethernet header.
///
/// # Errors
/// `Vlan`, `UnsupportedL3`, `InvalidPacket`.
#[inline(always)]
pub fn enter<P: Packet>(packet: &P, hook: Hook) -> Result<Path, DropReason> {
    let protocol: u16 = packet
        .load(ETH_PROTOCOL_OFFSET)
        .ok_or(DropReason::InvalidPacket)?;
    let tag = packet.vlan_tag();
    let is_tagged_within = protocol == ETH_VLAN || protocol == ETH_QINQ;
    // The stack takes off one tag after the other that names no VLAN.
    if matches!(hook, Hook::FromNetdev) && tag != 0 && tag & VLAN_ID == 0 && is_tagged_within {
        return Err(DropReason::Vlan);
    }
    // The stack takes what has only a priority for what it is without.
    let names_vlan = tag & VLAN_ID != 0 || !matches!(hook, Hook::FromNetdev);
    let tagged = tag != 0 && names_vlan || is_tagged_within;
    // What the node's stack sends through `cilium_host` is not for endpoints, and what a device
    // sees belongs to whatever lies on top of it.
    let others_are_welcome = matches!(hook, Hook::FromHost) || hook.is_of_device();
    if tagged {
        return if others_are_welcome {
            Ok(Path::Stack)
        } else {
            Err(DropReason::Vlan)
        };
    }
    if matches!(hook, Hook::FromNetdev) && !packet.is_for_us() {
        return Ok(Path::Stack);
    }
    match protocol {
        ETH_IPV4 => Ok(Path::Ipv4),
        ETH_IPV6 => Ok(Path::Ipv6),
        ETH_ARP if matches!(hook, Hook::FromContainer) => Ok(Path::Arp),
        _ if others_are_welcome => Ok(Path::Stack),
        _ => Err(DropReason::UnsupportedL3),
    }
}

/// Tells whether a packet at a device concerns endpoints; most are the node's own.
#[inline(always)]
pub fn concerns<A: Address, P: Packet, T: Tables<A>>(packet: &P, tables: &T, hook: Hook) -> bool {
    let Some(node) = tables.node() else {
        return false;
    };
    let Some([src, dst]) = A::ends(packet) else {
        return false;
    };
    if src.is_inside(node) {
        return true;
    }
    let is_guarded = node.guards_host() && !dst.is_multicast();
    match hook {
        Hook::FromNetdev => is_guarded || tables.local(&dst) != 0,
        Hook::ToNetdev if packet.ingress_ifindex() == 0 && is_guarded => true,
        // The node's stack answers for what endpoints get (see `error`), and may speak from a
        // port of the range (see `translation`).
        Hook::ToNetdev if packet.ingress_ifindex() == 0 => match A::next_protocol(packet) {
            Some(protocol) if protocol == A::ICMP => true,
            Some(protocol) => {
                has_free_ports(protocol) && speaks_from::<A, P>(packet, node.masquerade.ports)
            }
            None => false,
        },
        Hook::ToNetdev => false,
        Hook::FromContainer | Hook::ToContainer | Hook::FromHost | Hook::ToHost => true,
    }
}

/// Tells whether a packet has a source port of the range.
#[inline(always)]
fn speaks_from<A: Address, P: Packet>(packet: &P, [first, last]: [u16; 2]) -> bool {
    match packet.load::<u16>(A::TRANSPORT) {
        Some(port) => first != 0 && (first..=last).contains(&u16::from_be(port)),
        None => false,
    }
}

/// Sends a packet along its flow; `None` if the slow path has to decide about it.
#[inline(always)]
pub fn fast<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &mut T,
    hook: Hook,
) -> Option<Result<Verdict, DropReason>> {
    let plain = A::plain(packet)?;
    let node = tables.node()?;
    let (generation, host) = (node.generation, node.host_ifindex);
    let now_ns = tables.now_ns();
    let Some(flow) = tables.flow(&plain.key) else {
        let is_for_node = hook == Hook::FromNetdev && is_for_node(tables, &plain.key);
        return is_for_node.then_some(Ok(Verdict::Pass));
    };
    if !flow::is_fresh(flow, generation, now_ns) {
        return None;
    }
    if hook == Hook::ToContainer && flow.target != packet.ifindex() {
        return None;
    }
    let way = Way::of(flow)?;
    if hook == Hook::ToHost {
        let is_for_stack = flow.target == packet.ifindex() || way.through_stack;
        return is_for_stack.then_some(Ok(Verdict::Pass));
    }
    if !comes_as_known(packet, flow, hook, host) {
        return None;
    }
    if hook == Hook::FromContainer && packet.load::<MacPair>(0)? != flow.arrives {
        return None;
    }
    let is_routed = way.is_routed(hook);
    if is_routed && !(plain.hop_limit > 1 && forward::fits(packet, flow.mtu, plain.headers_len)) {
        return None;
    }
    let is_direct = hook == Hook::ToContainer && packet.load::<MacPair>(0)? != flow.leaves;
    if is_counted(flow, hook, host) || is_direct && flow.zone == host {
        flow.packets += 1;
        flow.bytes += u64::from(packet.len());
    }
    if hook == Hook::FromContainer && way.is_for_stack() {
        return Some(forward::to_stack(packet, tables));
    }
    let is_translated_here =
        !matches!(hook, Hook::FromHost | Hook::ToContainer) && flow.is_translated();
    if is_translated_here && !rewrite::plain(packet, &flow.out, flow.sums) {
        return Some(Err(DropReason::WriteError));
    }
    if hook == Hook::FromNetdev && !is_routed {
        return Some(Ok(Verdict::Pass));
    }
    Some(forward::forward(packet, hook, flow, way))
}

/// Tells whether a packet that comes to a device, of no flow that is known, is certainly none of
/// an endpoint's: to the node, most are.
///
/// The node and its endpoints share the masquerade address. Endpoints have ports of the range, and
/// the slow path says who else is to be heard.
#[inline(always)]
fn is_for_node<A: Address, T: Tables<A>>(tables: &T, key: &FlowKey<A>) -> bool {
    let Some(node) = tables.node() else {
        return false;
    };
    let (src, [first, last]) = (key.src(), node.masquerade.ports);
    if src.is_inside(node) || node.guards_host() {
        return false;
    }
    match tables.local(&key.dst()) {
        0 => true,
        OUTSIDE => {
            has_free_ports(key.proto())
                && !(first..=last).contains(&key.dst_port())
                && !src.is_martian()
                && tables.local(&src) == 0
        }
        _ => false,
    }
}

/// Tells whether a packet comes from where its flow comes from.
#[inline(always)]
fn comes_as_known<A, P: Packet>(packet: &P, flow: &Flow<A>, hook: Hook, host: u32) -> bool {
    match hook {
        Hook::FromContainer | Hook::ToHost => flow.zone == packet.ifindex(),
        Hook::FromNetdev => flow.zone == OUTSIDE,
        Hook::FromHost | Hook::ToContainer => {
            let ingress = packet.ingress_ifindex();
            let is_from_outside = ingress != 0 && ingress != host;
            let came_through = flow.is_through_stack()
                && ingress != 0
                && is_from_outside == (flow.zone == OUTSIDE);
            flow.zone == host || came_through
        }
        Hook::ToNetdev => {
            let ingress = packet.ingress_ifindex();
            let was_sent_here = !flow.is_translated() && ingress == flow.zone;
            let is_of_node = flow.zone == host && ingress == 0;
            flow.zone != OUTSIDE && (ingress == host || was_sent_here) || is_of_node
        }
    }
}

/// Tells whether this is the first hook that packets of a flow come to.
#[inline(always)]
fn is_counted<A>(flow: &Flow<A>, hook: Hook, host: u32) -> bool {
    match hook {
        Hook::FromContainer | Hook::FromNetdev => true,
        Hook::FromHost | Hook::ToNetdev => flow.zone == host,
        Hook::ToContainer | Hook::ToHost => false,
    }
}

/// Decides about a packet, remembers the decision, and sends the packet along.
///
/// # Errors
/// The reason for which the packet is dropped.
#[inline(always)]
pub fn slow<A: Address + KeyHash, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &mut T,
    work: &mut Work<A>,
) -> Result<Verdict, DropReason> {
    match judge(packet, tables, work) {
        Some(reason) => Err(reason),
        None => forward::leave(packet, tables, work),
    }
}

/// Decides about a packet and translates it, and writes to `work` how it leaves; returns the
/// reason to drop it, if there is one.
#[inline(always)]
fn judge<A: Address + KeyHash, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    work.exit = Exit::Pass;
    if let Some(reason) = family::parse(packet, ETH_LEN as u32, false, &mut work.header) {
        return malformed(packet, tables, work, reason);
    }
    work.hop_limit = work.header.hop_limit;
    // At a device, neighbours and routers talk to the node.
    let is_at_device = matches!(work.hook(), Some(hook) if hook.is_of_device());
    if !is_at_device && let Some(reason) = A::neighbour(packet, tables, work) {
        return Some(reason);
    }
    if let Some(reason) = reassembly::enter_again(packet, tables, work) {
        return Some(reason);
    }
    if work.exit != Exit::Pass {
        return None;
    }
    if let Some(reason) = identify::receiver(packet, tables, work) {
        return Some(reason);
    }
    if work.receiver == 0 {
        return None;
    }
    if let Some(reason) = identify::sender(packet, tables, work) {
        return Some(reason);
    }
    if let Some(reason) = reassembly::sort(packet, tables, work) {
        return Some(reason);
    }
    if work.receiver == 0 {
        return None;
    }
    if let Some(reason) = identify::flow(packet, tables, work) {
        return (!is_of_node(work) || is_guarded(work, reason)).then_some(reason);
    }
    fragment::remember(tables, work);
    beyond::find(tables, work);
    if let Some(reason) = resolve(packet, tables, work) {
        return refuse(packet, tables, reason, work);
    }
    if work.receiver == 0 {
        return None;
    }
    if let Some(reason) = decision::decide_packet(tables, work) {
        return Some(reason);
    }
    if !work.is_error()
        && let Some(reason) = admission::admit(tables, work)
    {
        return refuse(packet, tables, reason, work);
    }
    let reason = forward::choose(packet, work);
    reassembly::keep_together(tables, work);
    reason
}

/// Tells whether a packet at a device is the node's own business whatever it is: from the node, or
/// to an address of the node and without a port that could be an endpoint's. The stack judges it,
/// and puts fragments together that it has all of.
#[inline(always)]
fn is_of_node<A>(work: &Work<A>) -> bool {
    match work.hook() {
        Some(Hook::FromNetdev) => work.receiver == OUTSIDE,
        Some(Hook::ToNetdev) => work.sender == work.moment.host,
        Some(Hook::FromContainer | Hook::ToContainer | Hook::FromHost | Hook::ToHost) | None => {
            false
        }
    }
}

/// Tells whether a packet from outside may not reach the node's stack for this reason, because it
/// could hide from policy what it is. A later fragment alone makes no datagram.
#[inline(always)]
fn is_guarded<A>(work: &Work<A>, reason: DropReason) -> bool {
    let is_inbound = matches!(work.hook(), Some(Hook::FromNetdev));
    is_inbound && work.moment.guards_host != 0 && !matches!(reason, DropReason::FragmentNotFound)
}

/// Finds what a packet leaves with, and for whom it then is; returns the reason to drop it, if
/// there is one.
#[inline(never)]
fn resolve<A: Address + KeyHash, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    if work.is_error() {
        return error::relate(packet, tables, work);
    }
    let is_leaving = matches!(work.hook(), Some(Hook::ToNetdev));
    if is_leaving && !work.through_stack() {
        // The node's own packets may leave; others must not have an address of ours.
        translation::give_back(tables, work);
        if !policy::guards_outward(work) {
            work.receiver = 0;
        }
        work.route.ifindex = 0;
        return (work.sender == OUTSIDE).then_some(DropReason::InvalidSourceIp);
    }
    translation::translate(tables, work)
}

/// What is malformed is dropped, but for what the node itself may make of it.
#[inline(always)]
fn malformed<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &Work<A>,
    reason: DropReason,
) -> Option<DropReason> {
    let is_for_endpoint = match A::ends(packet) {
        Some([_, dst]) => !matches!(tables.local(&dst), 0 | OUTSIDE),
        None => false,
    };
    let is_at_device = matches!(work.hook(), Some(hook) if hook.is_of_device());
    let may_hide = match tables.node() {
        Some(node) => node.guards_host() && matches!(work.hook(), Some(Hook::FromNetdev)),
        None => false,
    };
    (is_for_endpoint || !is_at_device || may_hide).then_some(reason)
}

/// Drops a packet; where an endpoint could not have a port, or policy asks for it, the node's stack
/// tells the sender so.
#[inline(always)]
fn refuse<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &mut T,
    reason: DropReason,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let is_about_ports = matches!(
        reason,
        DropReason::NatExhausted | DropReason::NatLimit | DropReason::NatAddressGone
    );
    let is_told = is_about_ports || work.is_rejected();
    // The stack would take a masquerade address for its own, and answer itself.
    let can_tell = match work.hook() {
        Some(Hook::FromContainer) => !work.is_hairpin(),
        Some(Hook::FromNetdev) => work.out == work.key,
        _ => false,
    };
    // What is addressed to the node itself would reach it.
    let is_for_node = work.receiver == work.moment.host;
    if !is_told || !can_tell || is_for_node || work.moment.net == 0 {
        return Some(reason);
    }
    let Some(node) = tables.node() else {
        return Some(reason);
    };
    if !packet.store(0, node.to_stack.reversed()) {
        return Some(reason);
    }
    tables.count_drop(reason, work.len);
    work.exit = Exit::Refused;
    None
}

/// Prepares a packet for the slow path: brings its headers into one piece.
#[inline(always)]
pub fn prepare<P: Packet>(packet: &mut P) -> bool {
    let len = packet.len().min(PULL_LEN);
    packet.pull(len)
}
