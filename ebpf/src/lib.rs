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
//! - [`source`], [`neighbour`], [`icmp`], [`fragment`]: who may say what
//! - [`decision`], [`forward`]: from whom to whom, and how the packet leaves
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
pub mod checksum;
pub mod decision;
pub mod family;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod hook;
pub mod icmp;
pub mod identify;
pub mod ipv4;
pub mod ipv6;
#[cfg(not(target_arch = "bpf"))]
pub mod model;
pub mod neighbour;
pub mod packet;
pub mod source;
pub mod tables;
pub mod transport;
pub mod verdict;
pub mod work;

use abi::Action;
use family::Address;
use flow::KeyHash;
use forward::Way;
use hook::Hook;
use packet::{
    ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_LEN, ETH_PROTOCOL_OFFSET, ETH_QINQ, ETH_VLAN, MacPair, Packet,
};
use tables::Tables;
use verdict::{DropReason, Verdict};
use work::{Answer, Work};

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
const PULL_LEN: u32 = 128;

/// Looks at a packet's Ethernet header.
///
/// # Errors
/// `Vlan`, `UnsupportedL3`, `InvalidPacket`.
#[inline(always)]
pub fn enter<P: Packet>(packet: &P, hook: Hook) -> Result<Path, DropReason> {
    let protocol: u16 = packet
        .load(ETH_PROTOCOL_OFFSET)
        .ok_or(DropReason::InvalidPacket)?;
    let tagged = packet.has_vlan_tag() || protocol == ETH_VLAN || protocol == ETH_QINQ;
    let is_from_host = matches!(hook, Hook::FromHost);
    if tagged {
        // The node's stack may send what it likes through `cilium_host`; it is not for endpoints.
        return if is_from_host {
            Ok(Path::Stack)
        } else {
            Err(DropReason::Vlan)
        };
    }
    match protocol {
        ETH_IPV4 => Ok(Path::Ipv4),
        ETH_IPV6 => Ok(Path::Ipv6),
        ETH_ARP if matches!(hook, Hook::FromContainer) => Ok(Path::Arp),
        _ if is_from_host => Ok(Path::Stack),
        _ => Err(DropReason::UnsupportedL3),
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
    let generation = tables.node()?.generation;
    let now_ns = tables.now_ns();
    let flow = tables.flow(&plain.key)?;
    let ifindex = packet.ifindex();
    if !flow::is_fresh(flow, generation, now_ns) {
        return None;
    }
    if matches!(hook, Hook::ToContainer | Hook::ToHost) {
        return (flow.target == ifindex).then_some(Ok(Verdict::Pass));
    }
    if flow.zone != ifindex {
        return None;
    }
    let way = Way::of(flow)?;
    if matches!(hook, Hook::FromContainer) {
        let routed = matches!(way.action, Action::Peer);
        let in_order = packet.load::<MacPair>(0)? == flow.arrives;
        if !in_order || routed && !may_route(packet, flow.mtu, plain.headers_len, plain.hop_limit) {
            return None;
        }
    }
    flow.packets += 1;
    flow.bytes += u64::from(packet.len());
    Some(forward::forward::<A, P>(packet, hook, &way))
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
    if let Some(reason) = family::parse(packet, ETH_LEN as u32, false, &mut work.header) {
        return Err(reason);
    }
    if let Some(reason) = A::neighbour(packet, tables, work) {
        return Err(reason);
    }
    match work.answer {
        Answer::None => {}
        Answer::Consumed => return Ok(Verdict::Consumed),
        Answer::Returned => return Ok(Verdict::Peer(packet.ifindex())),
    }
    let hop_limit = work.header.hop_limit;
    if let Some(reason) = identify::identify(packet, tables, work) {
        return Err(reason);
    }
    if work.receiver == 0 {
        return Ok(Verdict::Pass);
    }
    if !decision::decide(
        tables,
        work.sender,
        work.receiver,
        &work.moment,
        &mut work.decided,
    ) {
        return Err(DropReason::NotReady);
    }
    if work.is_error() {
        if !icmp::is_related(packet, tables, work) {
            return Err(DropReason::UnrelatedIcmpError);
        }
    } else {
        if let Some(reason) = admission::admit(tables, work) {
            return Err(reason);
        }
        fragment::remember(tables, work);
    }
    leave(packet, tables, work, hop_limit)
}

/// Sends a packet the way that was decided, or to the stack if it may not go that way.
#[inline(always)]
fn leave<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    work: &Work<A>,
    hop_limit: u8,
) -> Result<Verdict, DropReason> {
    let (Some(hook), Some(way)) = (work.hook(), Way::of(&work.decided)) else {
        return Err(DropReason::NotReady);
    };
    let routed = matches!((hook, way.action), (Hook::FromContainer, Action::Peer));
    if routed && !may_route(packet, work.decided.mtu, work.headers_len, hop_limit) {
        return forward::to_stack(packet, tables, &work.moment);
    }
    forward::forward::<A, P>(packet, hook, &way)
}

/// Prepares a packet for the slow path: brings its headers into one piece.
#[inline(always)]
pub fn prepare<P: Packet>(packet: &mut P) -> bool {
    let len = packet.len().min(PULL_LEN);
    packet.pull(len)
}

/// Tells whether a packet may be routed from one endpoint to another without the stack's help.
#[inline(always)]
fn may_route<P: Packet>(packet: &P, mtu: u16, headers_len: u32, hop_limit: u8) -> bool {
    hop_limit > 1 && forward::fits(packet, mtu, headers_len)
}
