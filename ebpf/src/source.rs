//! Who sent a packet, and whether it may say so.

use crate::abi::Party;
use crate::family::Address;
use crate::hook::Hook;
use crate::packet::{MacPair, Packet};
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::Moment;

/// Is the sender of a packet: the index of its link, and whether the packet comes from the
/// node's stack although an endpoint sent it. The stack forwards such a packet only because the
/// pipeline handed it over through `cilium_host`, so it came from there, and its flow is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub ifindex: u32,
    pub through_stack: bool,
}

/// Finds the sender of a packet with this source address.
///
/// # Errors
/// `InvalidSourceMac`, `InvalidDestinationMac`, `InvalidSourceIp`.
#[inline(always)]
pub fn sender<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    hook: Hook,
    src: &A,
    moment: &Moment,
) -> Result<Sender, DropReason> {
    match hook {
        Hook::FromContainer => {
            let ifindex = packet.ifindex();
            let party = tables.party(ifindex).ok_or(DropReason::InvalidSourceIp)?;
            speaks_as_itself(packet, party)?;
            // Only what is addressed to the gateway itself is routed (RFC 1122 §3.3.6).
            if packet.load(0) != Some(MacPair::new(party.gateway_mac, party.mac)) {
                return Err(DropReason::InvalidDestinationMac);
            }
            if !src.belongs_to(party) {
                return Err(DropReason::InvalidSourceIp);
            }
            Ok(Sender {
                ifindex,
                through_stack: false,
            })
        }
        Hook::FromHost | Hook::ToContainer => match tables.local(src) {
            // Whoever else uses an endpoint's address is outside, and lies.
            Some(_) if packet.ingress_ifindex() != moment.host => Err(DropReason::InvalidSourceIp),
            Some(ifindex) => Ok(Sender {
                ifindex,
                through_stack: true,
            }),
            None => Ok(Sender {
                ifindex: moment.host,
                through_stack: false,
            }),
        },
        Hook::ToHost => {
            let ifindex = tables.local(src).ok_or(DropReason::InvalidSourceIp)?;
            Ok(Sender {
                ifindex,
                through_stack: false,
            })
        }
    }
}

/// Checks the addresses of an endpoint's frame, which may be for everybody.
///
/// # Errors
/// `InvalidSourceMac`, `InvalidDestinationMac`.
#[inline(always)]
pub fn speaks_as_itself<P: Packet>(packet: &P, party: &Party) -> Result<(), DropReason> {
    let macs: MacPair = packet.load(0).ok_or(DropReason::InvalidPacket)?;
    if macs.source() != party.mac {
        return Err(DropReason::InvalidSourceMac);
    }
    if macs.destination() != party.gateway_mac && macs.destination()[0] & 1 == 0 {
        return Err(DropReason::InvalidDestinationMac);
    }
    Ok(())
}
