//! The first stages of the slow path: whom a packet names, who sent it, and of which flow it is.
//!
//! Each stage reads the hook anew, so that the verifier forgets in between which one it was.

use crate::abi::OUTSIDE;
use crate::decision;
use crate::family::{Address, Header};
use crate::fragment;
use crate::hook::Hook;
use crate::packet::{ETH_LEN, MacPair, Packet, proto};
use crate::source;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::Work;

/// Finds out whom a packet is for; returns the reason to drop it, if there is one.
///
/// A packet that is none of ours has receiver 0 afterwards. A receiver [`OUTSIDE`] is whoever the
/// address belongs to that is no endpoint's: somebody far away, an endpoint behind a masquerade
/// address, or the node.
#[inline(never)]
pub fn receiver<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    if !decision::set_moment(tables, &mut work.moment) {
        return Some(DropReason::NotReady);
    }
    work.device = packet.ifindex();
    work.set_hairpin(false);
    work.set_bound(false);
    work.set_error(false);
    work.set_reply(false);
    work.set_rejected(false);
    let is_direct = matches!(work.hook(), Some(Hook::ToContainer)) && is_direct(packet, tables);
    work.set_direct(is_direct);
    match try_receiver(packet, tables, work) {
        Ok(receiver) => {
            work.receiver = receiver;
            None
        }
        Err(reason) => Some(reason),
    }
}

/// Tells whether a packet at the link of an endpoint is not addressed to it: what comes from
/// `cilium_host` is, and what the node's stack sends has the address of the link itself, which does
/// not ask for neighbours.
#[inline(always)]
fn is_direct<A: Address, P: Packet, T: Tables<A>>(packet: &P, tables: &T) -> bool {
    let macs: Option<MacPair> = packet.load(0);
    match (macs, tables.party(packet.ifindex())) {
        (Some(macs), Some(party)) => macs.destination() != party.mac,
        _ => false,
    }
}

#[inline(always)]
fn try_receiver<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &Work<A>,
) -> Result<u32, DropReason> {
    let hook = work.hook().ok_or(DropReason::NotReady)?;
    let node = tables.node().ok_or(DropReason::NotReady)?;
    let (header, host) = (&work.header, work.moment.host);
    let local = tables.local(&header.dst);
    let is_endpoint = !matches!(local, 0 | OUTSIDE);
    match hook {
        Hook::ToHost => Ok(host),
        Hook::FromContainer if header.dst.is_multicast() => Err(DropReason::Multicast),
        Hook::FromContainer if local != 0 => Ok(local),
        // No router forwards these (RFC 1812 §5.3.5 and §5.3.7, RFC 4291 §2.5.6).
        Hook::FromContainer if header.dst.is_broadcast(node) => Err(DropReason::Multicast),
        Hook::FromContainer if header.dst.is_martian() => Err(DropReason::StaleOrUnroutable),
        // Routers, and what else is in the node's own prefix, are the node's business.
        Hook::FromContainer if header.dst.is_inside(node) => Ok(host),
        Hook::FromContainer | Hook::ToNetdev => Ok(OUTSIDE),
        Hook::FromHost if is_endpoint => Ok(local),
        Hook::FromHost if header.dst.is_node_local(node) => Err(DropReason::StaleOrUnroutable),
        Hook::FromHost => Ok(0),
        Hook::ToContainer if local == packet.ifindex() => Ok(local),
        Hook::ToContainer => Err(DropReason::StaleOrUnroutable),
        Hook::FromNetdev if local == 0 && header.src.is_inside(node) => {
            Err(DropReason::InvalidSourceIp)
        }
        Hook::FromNetdev if work.moment.guards_host != 0 && local == 0 => {
            Ok(if header.dst.is_multicast() {
                0
            } else {
                OUTSIDE
            })
        }
        Hook::FromNetdev if work.moment.guards_host != 0 && local == OUTSIDE => Ok(OUTSIDE),
        // Neighbours of the node, and what else is not routed, never talk to endpoints.
        Hook::FromNetdev if local == OUTSIDE && header.src.is_martian() => Ok(0),
        Hook::FromNetdev => Ok(local),
    }
}

/// Finds out who sent a packet, and whether it may say so; returns the reason to drop it, if there
/// is one.
#[inline(never)]
pub fn sender<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let Some(hook) = work.hook() else {
        return Some(DropReason::NotReady);
    };
    // The node has neighbours; whether it listens to them, policy says.
    let is_for_node = matches!(hook, Hook::FromNetdev) && work.receiver == OUTSIDE;
    if is_for_node && work.header.src.is_martian() {
        work.sender = OUTSIDE;
        work.set_through_stack(false);
        return None;
    }
    match source::sender(packet, tables, hook, &work.header.src, &work.moment) {
        Ok(sender) => {
            work.sender = sender.ifindex;
            work.set_through_stack(sender.through_stack);
            if matches!(hook, Hook::ToNetdev) && sender.ifindex == work.moment.host {
                work.set_direct(true);
            }
        }
        Err(reason) => return Some(reason),
    }
    (work.sender == work.receiver && work.sender != OUTSIDE).then_some(DropReason::InvalidPacket)
}

/// Reads the transport header of a packet: the key of its flow, and what else it says; returns the
/// reason to drop the packet, if there is one.
#[inline(never)]
pub fn flow<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let transport = match fragment::transport(packet, tables, &work.header, work.moment.now_ns) {
        Ok(transport) => transport,
        Err(reason) => return Some(reason),
    };
    work.len = packet.len();
    work.headers_len = headers_len(packet, &work.header);
    work.key = fragment::flow_key(&work.header, &transport);
    work.out = work.key;
    work.tcp_flags = transport.tcp_flags;
    work.code = transport.code;
    work.set_error(transport.is_error);
    None
}

/// Returns the length of the IP and transport headers of a packet in bytes.
#[inline(always)]
fn headers_len<A: Address, P: Packet>(packet: &P, header: &Header<A>) -> u32 {
    let ip_len = header.transport - ETH_LEN as u32;
    let transport_len = match header.protocol {
        proto::TCP => packet
            .read::<u8>(header.transport + 12)
            .map_or(20, |offset| u32::from(offset >> 4) * 4),
        _ => 8,
    };
    ip_len + transport_len
}
