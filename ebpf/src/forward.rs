//! The last step: size, hop limit, addresses, and the way out.
//!
//! What this cannot do by the book goes to the node's stack as it came, which answers it: too
//! big, or at the end of its hop limit.

use crate::abi::{Action, Flow};
use crate::family::Address;
use crate::hook::Hook;
use crate::packet::{ETH_LEN, MacPair, Packet};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::work::Moment;

/// Sends a packet along its flow, from the hook that it is at.
///
/// # Errors
/// `WriteError`.
#[inline(always)]
pub fn forward<A: Address, P: Packet>(
    packet: &mut P,
    hook: Hook,
    way: &Way,
) -> Result<Verdict, DropReason> {
    match (hook, way.action) {
        (Hook::ToContainer | Hook::ToHost, _) => Ok(Verdict::Pass),
        (Hook::FromHost, _) => {
            rewrite(packet, way.leaves)?;
            Ok(Verdict::Egress(way.target))
        }
        (Hook::FromContainer, Action::Peer) => {
            rewrite(packet, way.leaves)?;
            if A::age(packet) {
                Ok(Verdict::Peer(way.target))
            } else {
                Err(DropReason::WriteError)
            }
        }
        (Hook::FromContainer, Action::Host | Action::Endpoint) => {
            rewrite(packet, way.leaves)?;
            Ok(Verdict::Host(way.target))
        }
    }
}

/// Is what the last step needs to know of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub action: Action,
    pub target: u32,
    pub leaves: MacPair,
}

impl Way {
    /// Returns the way of a flow; `None` if the flow holds no action of ours.
    #[inline(always)]
    pub fn of(flow: &Flow) -> Option<Self> {
        Some(Self {
            action: flow.action()?,
            target: flow.target,
            leaves: flow.leaves,
        })
    }
}

/// Tells whether a packet is one that its receiver takes, and that may be routed once more.
///
/// A GSO packet is judged by its segments. `headers_len` counts the IP and transport headers.
#[inline(always)]
pub fn fits<P: Packet>(packet: &P, mtu: u16, headers_len: u32) -> bool {
    let mtu = u32::from(mtu);
    packet.len() <= mtu + ETH_LEN as u32 || {
        let segment = packet.gso_size();
        segment != 0 && segment + headers_len <= mtu
    }
}

/// Hands a packet to the node's stack unchanged, through `cilium_host`.
///
/// # Errors
/// `NotReady` if the node's own entry is gone, `WriteError`.
#[inline(always)]
pub fn to_stack<A, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    moment: &Moment,
) -> Result<Verdict, DropReason> {
    let host = tables.party(moment.host).ok_or(DropReason::NotReady)?;
    rewrite(packet, MacPair::new(host.mac, host.gateway_mac))?;
    Ok(Verdict::Host(moment.host))
}

#[inline(always)]
fn rewrite<P: Packet>(packet: &mut P, macs: MacPair) -> Result<(), DropReason> {
    if packet.store(0, macs) {
        Ok(())
    } else {
        Err(DropReason::WriteError)
    }
}
