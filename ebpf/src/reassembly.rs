//! Fragments that overtake their first: the node's stack puts them in order.
//!
//! Only the first fragment of a datagram tells whose it is. If another one comes before it, all of
//! them are handed to the stack as they are. The stack joins them, because the agent made it, and
//! sends the datagram on in fragments that are in order.
//!
//! ```text
//! endpoint:  from_container ──► stack ──► to_netdev or from_host, where the flow begins
//! outside:   from_netdev ──► stack ──► from_host ──► from_netdev once more
//! ```
//!
//! What is for a masquerade address would end at the node, so it travels under the first address of
//! the node's prefix, which no endpoint has, and gets its own back in `from_host`.
//!
//! The stack holds at most some megabytes of unfinished datagrams. Senders have their share of
//! these; what is beyond it is dropped. Not handled: fragments of hairpin connections.

use crate::abi::{Datagram, OUTSIDE, OVERTAKING_SLOTS, Order};
use crate::checksum;
use crate::family::{Address, Part};
use crate::forward::Exit;
use crate::fragment;
use crate::hook::Hook;
use crate::packet::{MacPair, Packet};
use crate::rewrite::has_free_ports;
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::Work;

/// Datagrams that a sender may have overtaken in one stretch of 2³³ ns, which is 8.6 s. The stack
/// holds what is unfinished for 30 s.
const SHARE: u32 = 256;
const STRETCH_NS: u64 = 1 << 33;

/// Hands a fragment to the node's stack if one of its datagram came before the first; returns the
/// reason to drop it, if there is one.
///
/// The receiver is 0 afterwards if the fragment was handed over.
#[inline(never)]
pub fn sort<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    if work.header.part == Part::Whole {
        return None;
    }
    let now_ns = work.moment.now_ns;
    let key = fragment::key(&work.header);
    let order = match tables.datagram(&key) {
        Some(datagram) if datagram.is_live(now_ns) => Some(datagram.order()),
        Some(_) | None => None,
    };
    let is_overtaken = matches!(order, Some(Order::Overtaken));
    if matches!(work.hook(), Some(Hook::ToHost)) {
        if is_overtaken {
            work.receiver = 0;
        }
        return None;
    }
    if work.moment.reassembles == 0 || fragment::hides_ports(&work.header) {
        return None;
    }
    let overtakes = order.is_none() && work.header.part == Part::Later;
    if !is_overtaken && !overtakes || !is_sorted_here(packet, tables, work) {
        return None;
    }
    if overtakes {
        if !has_share(tables, work) {
            return Some(DropReason::FragmentNotFound);
        }
        let datagram = Datagram::new([0; 2], 0, Order::Overtaken, now_ns);
        tables.insert_datagram(&key, &datagram);
    }
    hand_over(packet, tables, work)
}

/// Tells whether fragments of this sender to this receiver can be sorted at this hook.
#[inline(always)]
fn is_sorted_here<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    work: &Work<A>,
) -> bool {
    match work.hook() {
        Some(Hook::FromContainer) => tables.local(&work.header.dst) != OUTSIDE,
        Some(Hook::FromNetdev) if work.receiver == OUTSIDE => {
            let protocol = work.header.protocol;
            let may_be_translated = has_free_ports(protocol) || protocol == A::ICMP;
            let is_own = match own_address::<A, T>(tables, packet.ifindex()) {
                Some(address) => address == work.header.dst,
                None => false,
            };
            may_be_translated && is_own
        }
        Some(Hook::FromNetdev) => true,
        Some(Hook::ToContainer | Hook::FromHost | Hook::ToHost | Hook::ToNetdev) | None => false,
    }
}

/// Returns the masquerade address of the device with this index.
#[inline(always)]
fn own_address<A: Address, T: Tables<A>>(tables: &T, ifindex: u32) -> Option<A> {
    A::masquerade(tables.device(ifindex)?)
}

/// Counts a datagram that was overtaken; `false` if its sender has had its share.
#[inline(always)]
fn has_share<A: Address, T: Tables<A>>(tables: &mut T, work: &Work<A>) -> bool {
    let stretch = (work.moment.now_ns / STRETCH_NS) as u32;
    let source = work.header.src.word_sum();
    // The upper bits of a product depend on all of its bits.
    let slot = (source.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % OVERTAKING_SLOTS;
    let Some(overtaking) = tables.overtaking(slot) else {
        return false;
    };
    if overtaking.stretch != stretch {
        overtaking.stretch = stretch;
        overtaking.count = 0;
    }
    overtaking.count += 1;
    overtaking.count <= SHARE
}

/// Hands a fragment to the stack.
#[inline(always)]
fn hand_over<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    if matches!(work.hook(), Some(Hook::FromContainer)) {
        work.exit = Exit::ToStack;
    } else if work.receiver == OUTSIDE {
        let prefix = match tables.node() {
            Some(node) => A::prefix(node),
            None => return Some(DropReason::NotReady),
        };
        if !send_to(packet, work, prefix) {
            return Some(DropReason::WriteError);
        }
    }
    work.receiver = 0;
    None
}

/// Has the other fragments of a datagram follow the first one, if that enters the stack: there it
/// waits for them.
#[inline(never)]
pub fn keep_together<A: Address, T: Tables<A>>(tables: &mut T, work: &Work<A>) {
    let is_first = work.header.part == Part::First && !work.is_error();
    if is_first && work.exit == Exit::ToStack && work.moment.reassembles != 0 {
        let datagram = Datagram::new([0; 2], 0, Order::Overtaken, work.moment.now_ns);
        tables.insert_datagram(&fragment::key(&work.header), &datagram);
    }
}

/// Sends what the stack has put in order back to the device by which it came; returns the reason to
/// drop it, if there is one.
#[inline(never)]
pub fn enter_again<A: Address, P: Packet, T: Tables<A>>(
    packet: &mut P,
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let ingress = packet.ingress_ifindex();
    let node = tables.node()?;
    if !matches!(work.hook(), Some(Hook::FromHost)) || work.header.dst != A::prefix(node) {
        return None;
    }
    let device = tables.device(ingress)?;
    let (mac, address) = (device.mac, A::masquerade(device)?);
    let Some(macs) = packet.load::<MacPair>(0) else {
        return Some(DropReason::InvalidPacket);
    };
    let is_sent =
        send_to(packet, work, address) && packet.store(0, MacPair::new(mac, macs.source()));
    if !is_sent {
        return Some(DropReason::WriteError);
    }
    if work.header.part == Part::First {
        work.header.dst = address;
        let key = fragment::key(&work.header);
        let datagram = Datagram::new([0; 2], 0, Order::Restored, tables.now_ns());
        tables.insert_datagram(&key, &datagram);
    }
    work.device = ingress;
    work.exit = Exit::EnterAgain;
    None
}

/// Gives a packet another destination, whatever its transport header says.
#[inline(always)]
fn send_to<A: Address, P: Packet>(packet: &mut P, work: &Work<A>, dst: A) -> bool {
    let header = &work.header;
    let change = checksum::sum_difference(header.dst.word_sum(), dst.word_sum());
    if A::IS_IPV6 {
        packet.adjust_sum(change.into());
    }
    A::set_ends(packet, [header.src, dst], change)
}
