//! Who sent a packet, and whether it may say so.

use crate::abi::{OUTSIDE, Party};
use crate::family::Address;
use crate::hook::Hook;
use crate::packet::{MacPair, Packet};
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::Moment;

/// Is the sender of a packet: the index of its link, and whether the packet comes from the
/// node's stack although somebody else sent it. The stack forwards an endpoint's packet only
/// because the pipeline handed it over through `cilium_host`, so it came from there, and its flow
/// is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub ifindex: u32,
    pub through_stack: bool,
}

impl Sender {
    #[inline(always)]
    const fn at_its_link(ifindex: u32) -> Self {
        Self {
            ifindex,
            through_stack: false,
        }
    }

    #[inline(always)]
    const fn through_stack(ifindex: u32) -> Self {
        Self {
            ifindex,
            through_stack: true,
        }
    }
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
            Ok(Sender::at_its_link(ifindex))
        }
        // What an endpoint sends past the stack was judged at its link.
        Hook::ToNetdev if is_from_its_link(packet, tables, src) => {
            Ok(Sender::at_its_link(packet.ingress_ifindex()))
        }
        Hook::FromHost | Hook::ToContainer | Hook::ToNetdev => {
            from_stack(packet, tables, src, moment)
        }
        Hook::ToHost => match tables.local(src) {
            0 | OUTSIDE => Err(DropReason::InvalidSourceIp),
            ifindex => Ok(Sender::at_its_link(ifindex)),
        },
        Hook::FromNetdev => {
            let node = tables.node().ok_or(DropReason::NotReady)?;
            // Nobody outside has our addresses, or one that is not routed (RFC 1812 §5.3.7).
            if src.is_inside(node) || src.is_martian() || tables.local(src) != 0 {
                return Err(DropReason::InvalidSourceIp);
            }
            Ok(Sender::at_its_link(OUTSIDE))
        }
    }
}

/// Tells whether a packet came into the node by the link of the endpoint that it is from.
#[inline(always)]
fn is_from_its_link<A: Address, P: Packet, T: Tables<A>>(packet: &P, tables: &T, src: &A) -> bool {
    let ingress = packet.ingress_ifindex();
    ingress != 0 && tables.local(src) == ingress
}

/// Finds the sender of what the node's stack sends.
#[inline(always)]
fn from_stack<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    src: &A,
    moment: &Moment,
) -> Result<Sender, DropReason> {
    let ingress = packet.ingress_ifindex();
    match tables.local(src) {
        0 | OUTSIDE if ingress == 0 => Ok(Sender::at_its_link(moment.host)),
        0 if ingress != moment.host => Ok(if tables.device(ingress).is_some() {
            Sender::through_stack(OUTSIDE)
        } else {
            Sender::at_its_link(OUTSIDE)
        }),
        ifindex if ingress == moment.host && !matches!(ifindex, 0 | OUTSIDE) => {
            Ok(Sender::through_stack(ifindex))
        }
        // Whoever else uses one of these addresses is outside, and lies.
        _ => Err(DropReason::InvalidSourceIp),
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
