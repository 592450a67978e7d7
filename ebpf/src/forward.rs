//! The last step: size, hop limit, addresses, and the way out.
//!
//! What this cannot do by the book goes to the node's stack, which answers it: too big, at the
//! end of its hop limit, or without a known neighbour. From an endpoint it goes there as it came,
//! and is translated when the stack sends it on; from outside it has been translated back.

use crate::abi::{Action, Flow, OUTSIDE};
use crate::error;
use crate::family::Address;
use crate::hook::Hook;
use crate::packet::{ETH_LEN, MacPair, Packet};
use crate::rewrite;
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::work::Work;

/// Sends a packet along its flow, from the hook that it is at. It has been translated, if this
/// hook translates.
///
/// Each field of the flow is read where it is needed: what only some packets need lies in other
/// cache lines.
///
/// # Errors
/// `WriteError`.
#[inline(always)]
pub fn forward<A: Address, P: Packet>(
    packet: &mut P,
    hook: Hook,
    flow: &Flow<A>,
    way: Way,
) -> Result<Verdict, DropReason> {
    match (hook, way.action) {
        (Hook::ToHost | Hook::ToNetdev, _) => Ok(Verdict::Pass),
        (Hook::ToContainer, _) => {
            // What comes from `cilium_host` is addressed to the endpoint already.
            if packet.load(0) != Some(flow.leaves) {
                rewrite(packet, flow.leaves)?;
            }
            Ok(Verdict::Pass)
        }
        (Hook::FromHost, _) => {
            rewrite(packet, flow.leaves)?;
            Ok(Verdict::Egress(flow.target))
        }
        (Hook::FromContainer | Hook::FromNetdev, Action::Peer) => {
            rewrite(packet, flow.leaves)?;
            age::<A, P>(packet)?;
            Ok(Verdict::Peer(flow.target))
        }
        (Hook::FromContainer, Action::Device) => {
            age::<A, P>(packet)?;
            let (next_hop, family) = (flow.next_hop, flow.next_hop_family());
            Ok(Verdict::Neighbour(flow.target, next_hop, family))
        }
        (Hook::FromContainer, Action::Host | Action::Endpoint | Action::Stack) => {
            rewrite(packet, flow.leaves)?;
            Ok(Verdict::Host(flow.target))
        }
        (Hook::FromNetdev, Action::Host | Action::Endpoint | Action::Device | Action::Stack) => {
            Ok(Verdict::Pass)
        }
    }
}

/// Tells how the packets of a flow leave.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub action: Action,
    /// Whether the stack forwards the packet between two of our hooks.
    pub through_stack: bool,
}

impl Way {
    /// Returns the way of a flow; `None` if the flow holds no action of ours.
    #[inline(always)]
    pub fn of<A>(flow: &Flow<A>) -> Option<Self> {
        Some(Self {
            action: flow.action()?,
            through_stack: flow.is_through_stack(),
        })
    }

    /// Tells whether an endpoint's packets go to the node's stack to be forwarded there.
    #[inline(always)]
    pub const fn is_for_stack(self) -> bool {
        self.through_stack || matches!(self.action, Action::Stack)
    }

    /// Tells whether packets that come to this hook are routed here, past the stack.
    #[inline(always)]
    pub const fn is_routed(self, hook: Hook) -> bool {
        matches!(hook, Hook::FromContainer | Hook::FromNetdev)
            && matches!(self.action, Action::Peer | Action::Device)
            && !self.through_stack
    }
}

/// Sends a packet the way that `work` says.
///
/// # Errors
/// `NotReady`, `WriteError`.
#[inline(always)]
pub fn leave<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    work: &Work<A>,
) -> Result<Verdict, DropReason> {
    match work.exit {
        Exit::Pass => Ok(Verdict::Pass),
        Exit::Forward => {
            let (Some(hook), Some(way)) = (work.hook(), Way::of(&work.decided)) else {
                return Err(DropReason::NotReady);
            };
            forward(packet, hook, &work.decided, way)
        }
        Exit::ToStack => to_stack(packet, tables),
        Exit::Refused => Ok(Verdict::Host(work.moment.net)),
        Exit::EnterAgain => Ok(Verdict::Host(work.device)),
        Exit::Consumed => Ok(Verdict::Consumed),
        Exit::Returned => Ok(Verdict::Peer(packet.ifindex())),
    }
}

/// Tells how a packet leaves the slow path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It goes on where it is.
    #[default]
    Pass = 0,
    /// It goes the way that was decided.
    Forward = 1,
    /// It enters the node's stack as it came.
    ToStack = 2,
    /// It enters the node's stack to be refused there.
    Refused = 3,
    /// It is a neighbour message that needs no answer.
    Consumed = 4,
    /// It was turned round and goes back to its sender.
    Returned = 5,
    /// It enters the node once more by its device.
    EnterAgain = 6,
}

/// Chooses how the packet in `work` leaves, and translates it if this hook does; returns the reason
/// to drop it, if there is one.
#[inline(always)]
pub fn choose<A: Address, P: Packet>(packet: &mut P, work: &mut Work<A>) -> Option<DropReason> {
    if let Some(reason) = choose_exit(packet, work) {
        return Some(reason);
    }
    let is_translated = work.exit != Exit::ToStack && work.is_translated_here();
    (is_translated && !translate(packet, work)).then_some(DropReason::WriteError)
}

#[inline(never)]
fn choose_exit<A: Address, P: Packet>(packet: &P, work: &mut Work<A>) -> Option<DropReason> {
    let (Some(hook), Some(way)) = (work.hook(), Way::of(&work.decided)) else {
        return Some(DropReason::NotReady);
    };
    let is_last_hop = work.hop_limit <= 1;
    let may_route = !is_last_hop && fits(packet, work.decided.mtu, work.headers_len);
    let is_routed = way.is_routed(hook);
    work.exit = match hook {
        // The stack would take a masquerade address for its own.
        Hook::FromContainer if work.is_hairpin() && is_last_hop => {
            return Some(DropReason::TtlExceeded);
        }
        Hook::FromContainer if work.is_hairpin() && !may_route => {
            return Some(DropReason::TooBig);
        }
        Hook::FromContainer if way.is_for_stack() || is_routed && !may_route => Exit::ToStack,
        Hook::FromContainer | Hook::FromHost | Hook::ToContainer => Exit::Forward,
        Hook::FromNetdev if is_routed && may_route => Exit::Forward,
        Hook::FromNetdev | Hook::ToHost | Hook::ToNetdev => Exit::Pass,
    };
    None
}

#[inline(never)]
fn translate<A: Address, P: Packet>(packet: &mut P, work: &Work<A>) -> bool {
    if work.is_error() {
        error::translate(packet, work)
    } else {
        rewrite::full(packet, &work.header, &work.key, &work.out)
            && (work.sender == OUTSIDE
                || rewrite::own_identification(packet, &work.header, work.sender))
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
/// `NotReady` if the node's entry is gone, `WriteError`.
#[inline(always)]
pub fn to_stack<A, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
) -> Result<Verdict, DropReason> {
    let node = tables.node().ok_or(DropReason::NotReady)?;
    rewrite(packet, node.to_stack)?;
    Ok(Verdict::Host(node.host_ifindex))
}

#[inline(always)]
fn age<A: Address, P: Packet>(packet: &mut P) -> Result<(), DropReason> {
    if A::age(packet) {
        Ok(())
    } else {
        Err(DropReason::WriteError)
    }
}

#[inline(always)]
fn rewrite<P: Packet>(packet: &mut P, macs: MacPair) -> Result<(), DropReason> {
    if packet.store(0, macs) {
        Ok(())
    } else {
        Err(DropReason::WriteError)
    }
}
