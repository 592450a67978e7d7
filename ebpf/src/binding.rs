//! Which outside address and port stands for which of an endpoint: found, made, renewed, ended.
//!
//! A binding is made in two steps: its outside half is claimed, which fails if somebody else has
//! it, then its inside half is added; the loser of a race for the inside half gives its claim back
//! and uses the winner's. An expired half is taken over by whoever probes its port; who finds no
//! room has all expired ones removed, so that the table recovers with no agent running. Only
//! packets from inside renew a binding (RFC 4787 REQ-6).

use crate::abi::{FlowKey, OUTSIDE, Stage, TAKEN_NS, WITH_OTHER_NS};
use crate::family::Address;
use crate::flow::{SECOND_NS, timeout_ns};
use crate::packet::proto;
use crate::rewrite::has_free_ports;
use crate::tables::{Insertion, Step, Tables, Visit};
use crate::transport::{TCP_RST, TCP_SYN};
use crate::verdict::DropReason;
use crate::work::Work;

/// Ports that are tried for one packet; a smaller range is tried whole.
const PROBES: u32 = 512;

/// Returns the key of the binding that a flow from inside, or its translation, goes by.
#[inline(always)]
pub fn key_of<A: Address>(flow: &FlowKey<A>, endpoint_independent: u8) -> FlowKey<A> {
    let is_shared = has_free_ports(flow.proto()) || flow.is_echo();
    if endpoint_independent != 0 && is_shared {
        let [port, _] = flow.ports();
        FlowKey::new(
            flow.src(),
            A::default(),
            flow.proto(),
            [port, 0],
            flow.tag(),
        )
    } else {
        *flow
    }
}

/// Finds the binding of a flow from inside (`work.key`) and leaves its keys in `work.inside` and
/// `work.outside`.
#[inline(never)]
pub fn find<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    work.inside = key_of(&work.key, work.moment.masquerade.endpoint_independent);
    let Some(binding) = tables.binding(&work.inside) else {
        return false;
    };
    work.outside = binding.other;
    let Some(binding) = tables.binding(&work.outside) else {
        return false;
    };
    if binding.other != work.inside || binding.expires_ns <= work.moment.now_ns {
        return false;
    }
    let zone = binding.zone;
    if tables.local(&work.key.src()) == zone {
        return true;
    }
    // Whoever has the address by now is not who it was made for.
    end(tables, work);
    false
}

/// Finds the binding that a packet from outside belongs to by the key of the packets that it
/// answers, `work.out`, and leaves its keys in `work.outside` and `work.inside`.
///
/// Returns the index of the endpoint's link; 0 if the packet belongs to nobody.
#[inline(never)]
pub fn find_outside<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> u32 {
    work.outside = key_of(&work.out, work.moment.masquerade.endpoint_independent);
    let Some(binding) = tables.binding(&work.outside) else {
        return 0;
    };
    if binding.expires_ns <= work.moment.now_ns {
        return 0;
    }
    let zone = binding.zone;
    work.inside = binding.other;
    // An address that has changed hands takes none of the old one's packets along.
    if tables.local(&work.inside.src()) == zone {
        zone
    } else {
        0
    }
}

/// Makes a binding for a flow from inside (`work.key`) with `work.address`, and leaves its keys in
/// `work.inside` and `work.outside`; returns the reason why there is none.
#[inline(always)]
pub fn make<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    let refusal = try_make(tables, work);
    let lacks_room = matches!(
        refusal,
        Some(DropReason::NatExhausted | DropReason::NatLimit)
    );
    if lacks_room && sweep(tables, work) {
        return try_make(tables, work);
    }
    refusal
}

#[inline(never)]
fn try_make<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    let slot = match tables.party(work.sender) {
        Some(party) => party.slot,
        None => return Some(DropReason::NotReady),
    };
    // What has no ports of its own to choose from, the node may use itself: tunnels, neighbour
    // messages. Nothing would tell their packets apart.
    if !has_free_ports(work.key.proto()) && !work.key.is_echo() {
        return Some(DropReason::NatUnsupported);
    }
    let masquerade = work.moment.masquerade;
    work.inside = key_of(&work.key, masquerade.endpoint_independent);
    // One below zero has lost a count, and is small.
    let count = tables.count_bindings(slot, 0).cast_signed();
    if masquerade.max_ports != 0 && count >= masquerade.max_ports.cast_signed() {
        return Some(DropReason::NatLimit);
    }
    work.binding.other = work.inside;
    work.binding.zone = work.sender;
    (work.binding.answered, work.binding.open) = (0, 0);
    work.binding.expires_ns =
        work.moment.now_ns + timeout_ns(&work.moment.timeouts, work.key.proto(), Stage::Opening);
    if !claim(tables, work) {
        return Some(DropReason::NatExhausted);
    }
    tables.count_bindings(slot, 1);
    attach(tables, work, slot)
}

/// Claims an outside half, and leaves its key in `work.outside`.
#[inline(never)]
fn claim<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let [first, last] = work.moment.masquerade.ports;
    let in_range = (first..=last).contains(&work.key.src_port());
    let span = u32::from(last.saturating_sub(first)) + 1;
    // The first one is the endpoint's own port (RFC 4787 §4.2.1).
    work.has_own_port = u8::from(in_range);
    work.is_full = 0;
    tables.repeat::<Probe>(work, PROBES.min(span) + 1) && work.is_full == 0
}

/// Tries one port.
struct Probe;

impl<A: Address> Step<A> for Probe {
    #[inline(always)]
    fn step<T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
        let [first, last] = work.moment.masquerade.ports;
        let [own, _] = work.key.ports();
        let port = if work.has_own_port != 0 {
            work.has_own_port = 0;
            own
        } else {
            let span = u32::from(last.saturating_sub(first)) + 1;
            let number = tables.next_number(work.moment.masquerade.random_ports != 0);
            ((u32::from(first) + number % span) as u16).to_be()
        };
        // Where there is no room for one port there is none for any other.
        try_port(tables, work, port) || work.is_full != 0
    }
}

/// Claims one port, given in the order of the wire.
#[inline(never)]
fn try_port<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>, port: u16) -> bool {
    work.out = work.key.with_source(work.address, port);
    work.outside = key_of(&work.out, work.moment.masquerade.endpoint_independent);
    let insertion = tables.insert_binding(&work.outside, &work.binding);
    work.is_full = u8::from(matches!(insertion, Insertion::Refused));
    if !matches!(insertion, Insertion::Done) {
        if !take_over(tables, work) {
            return false;
        }
        work.is_full = 0;
    }
    // A socket that the node opened in spite of the reservation keeps its port.
    if tables.has_socket(&work.out) {
        tables.remove_binding(&work.outside);
        return false;
    }
    true
}

/// Removes every binding that has ended; `false` if none can have ended since that was done. The
/// inside half of the flow in hand may stay, for its next binding.
#[inline(never)]
fn sweep<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    // What is made or renewed from here on lives for the shortest timeout at least.
    work.soonest_ns = work.moment.now_ns + u64::from(work.moment.timeouts.least()) * SECOND_NS;
    // Nobody else takes over what is about to be removed.
    work.binding.expires_ns = TAKEN_NS;
    tables.sweep::<Ended>(work)
}

/// Removes what has ended.
struct Ended;

impl<A: Address> Visit<A> for Ended {
    #[inline(always)]
    fn visit<T: Tables<A>>(tables: &mut T, work: &mut Work<A>, key: &FlowKey<A>, expires_ns: u64) {
        if expires_ns > work.moment.now_ns {
            work.soonest_ns = work.soonest_ns.min(expires_ns);
            return;
        }
        work.outside = *key;
        if take_over(tables, work) {
            tables.remove_binding(&work.outside);
        }
    }
}

/// Takes an expired outside half over.
#[inline(never)]
fn take_over<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let Some(old) = tables.binding(&work.outside) else {
        return false;
    };
    let (expires_ns, zone) = (old.expires_ns, old.zone);
    if expires_ns > work.moment.now_ns {
        return false;
    }
    let inside = old.other;
    if !tables.take_binding(&work.outside, expires_ns, &work.binding) {
        return false;
    }
    uncount(tables, zone);
    if inside != work.inside
        && let Some(half) = tables.binding(&inside)
        && half.other == work.outside
    {
        tables.remove_binding(&inside);
    }
    true
}

/// Adds the inside half to a claimed outside half. The loser of a race uses the winner's.
#[inline(never)]
fn attach<A: Address, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    slot: u16,
) -> Option<DropReason> {
    work.binding.other = work.outside;
    work.binding.expires_ns = WITH_OTHER_NS;
    let insertion = tables.insert_binding(&work.inside, &work.binding);
    if matches!(insertion, Insertion::Done) {
        return None;
    }
    let claimed = work.outside;
    if find(tables, work) && work.outside != claimed {
        tables.remove_binding(&claimed);
        tables.count_bindings(slot, -1);
        return None;
    }
    work.outside = claimed;
    // What is there is left over from a binding that has ended.
    if let Some(half) = tables.binding(&work.inside) {
        half.other = claimed;
        half.zone = work.sender;
        return None;
    }
    tables.remove_binding(&claimed);
    tables.count_bindings(slot, -1);
    Some(DropReason::NatExhausted)
}

/// Ends the binding whose halves are `work.inside` and `work.outside`.
#[inline(never)]
pub fn end<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let Some(half) = tables.binding(&work.outside) else {
        return;
    };
    let zone = half.zone;
    if half.other == work.inside && tables.remove_binding(&work.outside) {
        tables.remove_binding(&work.inside);
        uncount(tables, zone);
    }
}

#[inline(always)]
fn uncount<A, T: Tables<A>>(tables: &mut T, zone: u32) {
    let Some(slot) = tables.party(zone).map(|party| party.slot) else {
        return;
    };
    tables.count_bindings(slot, -1);
}

/// Notes a segment at the binding of its receiver, which another endpoint sent, if it opens the
/// connection or ends it.
#[inline(never)]
pub fn renew_receiver<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let stage = work.decided.stage();
    if work.key.proto() != proto::TCP || is_open(work.before()) == is_open(stage) {
        return;
    }
    let out = work.out;
    let [port, _] = out.ports();
    work.out = work.key.with_source(out.src(), port).reversed();
    let zone = find_outside(tables, work);
    work.out = out;
    let ends_ns = work.moment.now_ns + timeout_ns(&work.moment.timeouts, proto::TCP, stage);
    let Some(binding) = tables.binding(&work.outside) else {
        return;
    };
    if zone == 0 {
        return;
    }
    if is_open(stage) {
        binding.answered = 1;
        binding.open = binding.open.saturating_add(1);
        binding.expires_ns = binding.expires_ns.max(ends_ns);
    } else {
        binding.open = binding.open.saturating_sub(1);
        if binding.open == 0 {
            binding.expires_ns = ends_ns;
        }
    }
}

/// Notes a packet of a connection that went from the stage before it to that of `work.decided`.
#[inline(never)]
pub fn renew<A: Address, T: Tables<A>>(tables: &mut T, work: &Work<A>) {
    let before = work.before();
    let stage = work.decided.stage();
    let is_tcp = work.key.proto() == proto::TCP;
    let idle_ns = timeout_ns(&work.moment.timeouts, work.key.proto(), stage);
    let is_shared = work.moment.masquerade.endpoint_independent != 0;
    let Some(binding) = tables.binding(&work.outside) else {
        return;
    };
    if work.sender == OUTSIDE {
        binding.answered = 1;
    }
    let (was_open, is_open) = (is_open(before), is_open(stage));
    if is_tcp && is_open && !was_open {
        binding.open = binding.open.saturating_add(1);
    }
    if is_tcp && was_open && !is_open {
        binding.open = binding.open.saturating_sub(1);
    }
    if work.sender == OUTSIDE && !(is_tcp && was_open && !is_open) {
        // The first answer may lengthen a binding; later ones do not.
        if is_tcp && is_open && !was_open {
            binding.expires_ns = binding.expires_ns.max(work.moment.now_ns + idle_ns);
        }
        return;
    }
    let expires_ns = work.moment.now_ns + idle_ns;
    if is_tcp && work.tcp_flags & TCP_RST != 0 {
        // A reset answers whoever asks, and keeps nothing alive (RFC 7857 §6).
        binding.expires_ns = binding.expires_ns.min(expires_ns);
        return;
    }
    // A connection that the table of flows has forgotten is no new one.
    let is_forgotten = is_tcp
        && matches!(stage, Stage::Opening)
        && binding.answered != 0
        && work.tcp_flags & TCP_SYN == 0;
    // A port that another connection still uses ends with that one.
    binding.expires_ns = if is_forgotten || is_shared && binding.open != 0 {
        binding.expires_ns.max(expires_ns)
    } else {
        expires_ns
    };
}

#[inline(always)]
const fn is_open(stage: Stage) -> bool {
    matches!(stage, Stage::Established | Stage::Ended | Stage::PeerEnded)
}
