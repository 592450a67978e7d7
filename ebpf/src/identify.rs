//! The first stage of the slow path: whose packet it is, for whom, and of which flow.

use crate::decision;
use crate::family::{Address, Header};
use crate::fragment;
use crate::hook::Hook;
use crate::packet::{ETH_LEN, Packet, proto};
use crate::source;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::{Moment, Work};

/// Fills `work` from its header up to the flow's key; returns the reason to drop the packet, if there is one.
///
/// A packet that is none of ours has receiver 0 afterwards.
#[inline(never)]
pub fn identify<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    try_identify(packet, tables, work).err()
}

#[inline(always)]
fn try_identify<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &mut Work<A>,
) -> Result<(), DropReason> {
    let hook = work.hook().ok_or(DropReason::NotReady)?;
    work.moment = decision::moment(tables).ok_or(DropReason::NotReady)?;
    work.receiver = receiver(packet, tables, hook, &work.header, &work.moment)?;
    if work.receiver == 0 {
        return Ok(());
    }
    let sender = source::sender(packet, tables, hook, &work.header.src, &work.moment)?;
    if sender.ifindex == work.receiver {
        return Err(DropReason::InvalidPacket);
    }
    work.sender = sender.ifindex;
    work.set_through_stack(sender.through_stack);
    let transport = fragment::transport(packet, tables, &work.header)?;
    work.len = packet.len();
    work.headers_len = headers_len(packet, &work.header);
    work.key = fragment::flow_key(&work.header, &transport);
    work.tcp_flags = transport.tcp_flags;
    work.set_error(transport.is_error);
    Ok(())
}

/// Finds the link of the party that a packet is for; 0 if the packet is none of ours.
#[inline(always)]
fn receiver<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    hook: Hook,
    header: &Header<A>,
    moment: &Moment,
) -> Result<u32, DropReason> {
    let local = tables.local(&header.dst);
    match (hook, local) {
        (Hook::FromContainer, _) if header.dst.is_multicast() => Err(DropReason::Multicast),
        (Hook::FromContainer, None) | (Hook::ToHost, _) => Ok(moment.host),
        (Hook::FromContainer | Hook::FromHost, Some(ifindex)) => Ok(ifindex),
        (Hook::FromHost, None) => {
            let node = tables.node().ok_or(DropReason::NotReady)?;
            if header.dst.is_node_local(node) {
                Err(DropReason::StaleOrUnroutable)
            } else {
                Ok(0)
            }
        }
        (Hook::ToContainer, Some(ifindex)) if ifindex == packet.ifindex() => Ok(ifindex),
        (Hook::ToContainer, _) => Err(DropReason::StaleOrUnroutable),
    }
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
