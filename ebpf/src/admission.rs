//! How a flow becomes known: pending at first, then in the table with its twin.
//!
//! ```text
//! first packet ──► PENDING (slice of the sender) ──► reply, or 4th packet ──► FLOWS, both halves
//! ```
//!
//! A flood or a scan of single packets therefore evicts only pending flows of the flooder. A packet that finds
//! neither its flow nor its own pending entry looks for its twin first: an evicted half comes
//! back from the other one. A packet that passes several hooks is entered at the first of them only.

use crate::abi::{Flow, FlowKey, OUTSIDE, Stage, Timeouts};
use crate::binding;
use crate::decision::decide;
use crate::family::{Address, Part};
use crate::flow::{
    FRESH_NS, KeyHash, PENDING_LIMIT, is_fresh, is_live, is_waiting, next_stage, opens_anew,
    pending_index,
};
use crate::hook::Hook;
use crate::permit;
use crate::policy;
use crate::rewrite;
use crate::tables::Tables;
use crate::ticket;
use crate::transport::TCP_RST;
use crate::verdict::DropReason;
use crate::work::Work;

/// Enters a packet into its flow, which `work.decided` describes, and refreshes both halves.
///
/// Returns `InvalidSourceIp` if the packet must belong to a known flow and does not.
#[inline(always)]
pub fn admit<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    work.standing = standing(tables, work) as u8;
    settle(tables, work)
}

/// Enters a packet as its flow's standing asks for.
#[inline(never)]
fn settle<A: Address + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let is_new = work.standing == Standing::New as u8;
    let begins_here = begins_behind_stack(tables, work);
    let is_checked = !work.through_stack() || work.sender == OUTSIDE || begins_here;
    if is_new && !is_checked && !ticket::is_issued(tables, work) {
        return Some(DropReason::InvalidSourceIp);
    }
    let stage = Standing::from_number(work.standing).stage();
    work.decided.set_stage(stage);
    if work.is_reply() {
        work.decided.set_reply();
    }
    let is_entered = work.is_entered() && !begins_here;
    // What comes from outside may have got past the hook of its device.
    if !is_entered || work.sender == OUTSIDE {
        let refusal = policy::ask(tables, work);
        if refusal.is_some() {
            return refusal;
        }
    }
    if is_entered {
        remember_inside(tables, work);
        return None;
    }
    if work.is_bound() {
        binding::renew(tables, work);
        if work.sender != OUTSIDE {
            permit::grant(tables, work);
        }
    }
    if work.is_hairpin() {
        binding::renew_receiver(tables, work);
    }
    // The node is no flooder, and an answer that is late should find its flow.
    let is_of_node = work.sender == work.moment.host && work.receiver == OUTSIDE;
    let enters = is_of_node || is_new && work.is_policed() && is_crowded_out(tables, work);
    if !enters && (is_new || work.standing == Standing::Pending as u8) {
        wait(tables, work);
        if work.decided.is_for_stack() {
            ticket::issue(tables, work);
        }
    } else {
        enter(tables, work);
    }
    None
}

/// Flows that may enter the table unanswered in one stretch of 2³³ ns, which is 8.6 s, from each slot.
const SHARE: u32 = 1024;
const STRETCH_NS: u64 = 1 << 33;

/// Tells whether a new flow would push another one out that waits for its answer, which policy would
/// not know for one then. Such a flow enters the table at once, as long as the sender has a share of
/// it left.
#[inline(never)]
fn is_crowded_out<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
    let Some(slot) = tables.party(work.sender).map(|party| party.slot) else {
        return false;
    };
    let index = pending_index(slot, &work.key, work.moment.pending_mask);
    let is_there = tables.pending(index, &mut work.pending);
    let other = work.pending.key;
    let (timeouts, now_ns) = (work.moment.timeouts, work.moment.now_ns);
    let waits = is_there && is_waiting(&work.pending, &other, &timeouts, now_ns);
    // Nothing was counted of the flow in hand.
    work.pending.packets = 0;
    if !waits || other == work.key || tables.flow(&other).is_some() {
        return false;
    }
    let stretch = (now_ns / STRETCH_NS) as u32;
    let Some(share) = tables.share(slot) else {
        return false;
    };
    if share.stretch != stretch {
        (share.stretch, share.count) = (stretch, 0);
    }
    share.count += 1;
    share.count <= SHARE
}

/// Tells whether no hook has seen the ports of an endpoint's datagram before the node's stack put its
/// fragments in order, or not lately; see [`crate::reassembly`].
#[inline(always)]
fn begins_behind_stack<A: Address, T: Tables<A>>(tables: &mut T, work: &Work<A>) -> bool {
    let is_first = work.header.part == Part::First && work.through_stack();
    if !is_first || work.sender == OUTSIDE {
        return false;
    }
    match tables.flow(&work.key) {
        Some(flow) => !is_fresh(flow, work.moment.generation, work.moment.now_ns),
        None => true,
    }
}

/// Remembers what the stack forwards to an endpoint behind a translation, which no other hook sees
/// under this key, if the stack forwards everything.
#[inline(never)]
fn remember_inside<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let is_at_link = matches!(work.hook(), Some(Hook::FromHost)) || work.is_direct();
    let is_inside = work.sender == OUTSIDE && is_at_link;
    let is_new = work.standing == Standing::New as u8;
    if !is_inside || !work.moment.is_legacy() || is_new {
        return;
    }
    if let Some(flow) = tables.flow(&work.key) {
        work.decided.terms = flow.terms;
    }
    write_half(tables, &work.key, &mut work.decided, 0, true);
}

/// Tells what is remembered of a flow; one of the last three if its connection stands in the
/// table, or enters it with this packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Standing {
    New = 0,
    /// It still waits for an answer.
    Pending = 1,
    Opening = 2,
    Established = 3,
    Closing = 4,
    Ended = 5,
    PeerEnded = 6,
}

impl Standing {
    #[inline(always)]
    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::New,
            1 => Self::Pending,
            2 => Self::Opening,
            3 => Self::Established,
            5 => Self::Ended,
            6 => Self::PeerEnded,
            _ => Self::Closing,
        }
    }

    #[inline(always)]
    const fn stage(self) -> Stage {
        match self {
            Self::New | Self::Pending | Self::Opening => Stage::Opening,
            Self::Established => Stage::Established,
            Self::Closing => Stage::Closing,
            Self::Ended => Stage::Ended,
            Self::PeerEnded => Stage::PeerEnded,
        }
    }

    /// Returns the standing of a connection after a packet with these TCP flags.
    #[inline(always)]
    const fn known(stage: Stage, tcp_flags: u8, is_from_outside: bool) -> Self {
        match next_stage(stage, tcp_flags, is_from_outside) {
            Stage::Opening => Self::Opening,
            Stage::Established => Self::Established,
            Stage::Closing => Self::Closing,
            Stage::Ended => Self::Ended,
            Stage::PeerEnded => Self::PeerEnded,
        }
    }
}

#[inline(never)]
fn standing<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Standing {
    let (zone, receiver, tcp_flags) = (work.sender, work.receiver, work.tcp_flags);
    let is_from_outside = zone == OUTSIDE;
    let reply = work.out.reversed();
    let (timeouts, now_ns) = (work.moment.timeouts, work.moment.now_ns);
    // What an earlier packet left behind says nothing about this one.
    work.pending.packets = 0;
    work.set_before(Stage::Opening);
    work.set_reply(false);
    let own = live_stage(tables, &work.key, (zone, receiver), &timeouts, now_ns);
    if matches!(own, Some(stage) if opens_anew(stage, tcp_flags, is_from_outside)) {
        work.set_before(Stage::Closing);
        tables.remove_flow(&reply);
        tables.remove_flow(&work.key);
        return Standing::New;
    }
    let twin = match own {
        Some(_) => own,
        None => {
            live_stage(tables, &reply, (receiver, zone), &timeouts, now_ns).map(Stage::mirrored)
        }
    };
    if let Some(stage) = twin {
        let is_reply = opened_by_receiver(tables, work, &reply, own.is_some());
        work.set_reply(is_reply);
        work.set_before(stage);
        let stage = if is_refusal(tcp_flags, is_from_outside) {
            stage
        } else {
            after_answer(tables, &reply, stage)
        };
        return Standing::known(stage, tcp_flags, is_from_outside);
    }
    let key = work.key;
    if waits(tables, work, &key, zone) {
        work.decided.packets = work.pending.packets;
        work.decided.bytes = work.pending.bytes;
        work.decided.created_ns = work.pending.created_ns;
        return if work.pending.packets + 1 < PENDING_LIMIT {
            Standing::Pending
        } else {
            Standing::known(Stage::Opening, tcp_flags, is_from_outside)
        };
    }
    if waits(tables, work, &reply, receiver) {
        work.set_reply(true);
        work.decided.created_ns = work.pending.created_ns;
        let stage = if is_refusal(tcp_flags, is_from_outside) {
            Stage::Opening
        } else {
            Stage::Established
        };
        return Standing::known(stage, tcp_flags, is_from_outside);
    }
    Standing::New
}

/// Tells whether the receiver of the packet in `work` opened its connection: its own half says so, or
/// else the other side's.
#[inline(always)]
fn opened_by_receiver<A: Copy, T: Tables<A>>(
    tables: &mut T,
    work: &Work<A>,
    reply: &FlowKey<A>,
    has_own: bool,
) -> bool {
    let key = if has_own { &work.key } else { reply };
    match tables.flow(key) {
        Some(flow) => flow.is_reply() == has_own,
        None => false,
    }
}

/// Tells whether a segment from outside refuses a connection, so that it does not establish one.
#[inline(always)]
const fn is_refusal(tcp_flags: u8, is_from_outside: bool) -> bool {
    is_from_outside && tcp_flags & TCP_RST != 0
}

/// Returns the stage of the connection of a flow between these two parties, if it stands.
#[inline(always)]
fn live_stage<A: Copy, T: Tables<A>>(
    tables: &mut T,
    key: &FlowKey<A>,
    (zone, receiver): (u32, u32),
    timeouts: &Timeouts,
    now_ns: u64,
) -> Option<Stage> {
    let flow = tables.flow(key)?;
    let is_same = flow.zone == zone && flow.receiver == receiver;
    (is_same && is_live(flow, key, timeouts, now_ns)).then(|| flow.stage())
}

/// Returns the stage of a connection on a packet of one side; `reply` is the other side's flow.
///
/// A connection that got into the table without an answer leaves its first stage with the answer.
#[inline(always)]
fn after_answer<A: Copy, T: Tables<A>>(tables: &mut T, reply: &FlowKey<A>, stage: Stage) -> Stage {
    if !matches!(stage, Stage::Opening) {
        return stage;
    }
    match tables.flow(reply) {
        Some(flow) if flow.packets != 0 => Stage::Established,
        Some(_) | None => stage,
    }
}

/// Tells whether a flow of the party behind link `zone` waits for an answer, and leaves a copy
/// of its entry in `work.pending`.
#[inline(never)]
pub fn waits<A: Copy + Eq + KeyHash, T: Tables<A>>(
    tables: &T,
    work: &mut Work<A>,
    key: &FlowKey<A>,
    zone: u32,
) -> bool {
    let Some(slot) = tables.party(zone).map(|party| party.slot) else {
        return false;
    };
    let index = pending_index(slot, key, work.moment.pending_mask);
    tables.pending(index, &mut work.pending)
        && is_waiting(
            &work.pending,
            key,
            &work.moment.timeouts,
            work.moment.now_ns,
        )
        && work.pending.zone == zone
}

/// Writes both halves of a connection.
#[inline(never)]
fn enter<A: Address + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let keeps = !is_new(work);
    write_half(
        tables,
        &work.key,
        &mut work.decided,
        u64::from(work.len),
        keeps,
    );
    let twin_key = work.out.reversed();
    let stage = work.decided.stage().mirrored();
    if keeps && work.sender == OUTSIDE && renew_twin(tables, &twin_key, work, stage) {
        return;
    }
    let (from, to) = (work.receiver, work.sender);
    // A party that is gone gets no half: the next packet towards it finds it gone as well.
    if decide(tables, from, to, &work.moment, &mut work.twin) {
        complete_twin(work, stage);
        bring_counts(work);
        write_half(tables, &twin_key, &mut work.twin, 0, keeps);
    }
}

/// Fills in what the twin takes from the packet's own half. The way to the outside is found by
/// the first packet that goes there.
#[inline(always)]
fn complete_twin<A: Address>(work: &mut Work<A>, stage: Stage) {
    let (is_hairpin, is_from_outside) = (work.is_hairpin(), work.sender == OUTSIDE);
    let is_reply = work.is_reply();
    let twin = &mut work.twin;
    twin.terms = work.decided.terms;
    if !is_reply {
        twin.set_reply();
    }
    twin.created_ns = work.decided.created_ns;
    twin.set_stage(stage);
    twin.source_identity = work.decided.target_identity;
    twin.target_identity = work.decided.source_identity;
    let (key, out) = (work.out.reversed(), work.key.reversed());
    twin.out = out;
    if key != out {
        twin.set_translation(out, rewrite::sums(&key, &out));
    }
    if is_hairpin {
        twin.set_past_stack();
    }
    if is_from_outside {
        twin.decided_ns = work.moment.now_ns.saturating_sub(FRESH_NS);
    }
}

/// Tells the half of a connection that goes outside how far it has come, if it is there; its way
/// it finds itself.
#[inline(always)]
fn renew_twin<A: Address, T: Tables<A>>(
    tables: &mut T,
    key: &FlowKey<A>,
    work: &Work<A>,
    stage: Stage,
) -> bool {
    let Some(flow) = tables.flow(key) else {
        return false;
    };
    if flow.zone != work.receiver || flow.receiver != work.sender {
        return false;
    }
    let oldest = work.moment.now_ns.saturating_sub(FRESH_NS);
    flow.decided_ns = flow.decided_ns.max(oldest);
    flow.set_stage(stage);
    true
}

/// Gives the twin the counts of its time as a pending flow.
#[inline(always)]
fn bring_counts<A: Copy + Eq>(work: &mut Work<A>) {
    let is_twin = work.pending.key == work.out.reversed() && work.pending.zone == work.twin.zone;
    if is_new(work) && is_twin {
        work.twin.packets = work.pending.packets;
        work.twin.bytes = work.pending.bytes;
        work.twin.credited = work.twin.passed();
    }
}

/// Tells whether a connection that is entered was a pending flow a moment ago; whatever the table
/// holds of it then belongs to one that has ended, or to somebody else.
#[inline(always)]
const fn is_new<A>(work: &Work<A>) -> bool {
    work.pending.packets != 0
}

/// Writes one half, and counts a packet of `bytes` unless that is 0; `keeps` what was counted
/// before.
#[inline(never)]
fn write_half<A: Copy + Eq + KeyHash, T: Tables<A>>(
    tables: &mut T,
    key: &FlowKey<A>,
    decided: &mut Flow<A>,
    bytes: u64,
    keeps: bool,
) {
    let packets = u64::from(bytes != 0);
    let terms = decided.terms;
    if keeps && let Some(flow) = tables.flow(key) {
        let (passed, credited, created_ns) = (flow.passed(), flow.credited, flow.created_ns);
        *flow = *decided;
        (flow.packets, flow.bytes) = (passed.packets + packets, passed.bytes + bytes);
        flow.created_ns = created_ns;
        flow.credited = flow.passed();
        let more = flow.credited.since(&credited);
        policy::credit(tables, terms, more.packets, more.bytes);
        return;
    }
    decided.packets += packets;
    decided.bytes += bytes;
    decided.credited = decided.passed();
    policy::credit(tables, terms, packets, bytes);
    tables.insert_flow(key, decided);
}

/// Notes a packet of a flow that waits for its other side.
///
/// `work.decided` holds what was counted so far, and when the first packet came.
#[inline(never)]
fn wait<A: Copy + Eq + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let Some(slot) = tables.party(work.decided.zone).map(|party| party.slot) else {
        return;
    };
    let index = pending_index(slot, &work.key, work.moment.pending_mask);
    let pending = &mut work.pending;
    pending.key = work.key;
    pending.zone = work.decided.zone;
    pending.generation = work.moment.generation;
    pending.is_translated = u32::from(work.out != work.key);
    pending.created_ns = work.decided.created_ns;
    pending.seen_ns = work.moment.now_ns;
    pending.packets = work.decided.packets + 1;
    pending.bytes = work.decided.bytes + u64::from(work.len);
    tables.set_pending(index, pending);
    policy::credit(tables, work.decided.terms, 1, u64::from(work.len));
}

/// Returns where a known flow comes from and goes to.
///
/// A pending flow's receiver is whoever has its destination address. `work.pending` is used.
#[inline(always)]
pub fn known<A: Copy + Eq + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    key: &FlowKey<A>,
) -> Option<(u32, u32)> {
    let (now_ns, host) = (work.moment.now_ns, work.moment.host);
    let timeouts = work.moment.timeouts;
    if let Some(flow) = tables.flow(key)
        && is_live(flow, key, &timeouts, now_ns)
    {
        return Some((flow.zone, flow.receiver));
    }
    let [to, from] = [key.dst(), key.src()].map(|end| match tables.local(&end) {
        0 => host,
        ifindex => ifindex,
    });
    if waits(tables, work, key, from) {
        return Some((from, to));
    }
    // Who has no address here is the node, or outside.
    (from == host && waits(tables, work, key, OUTSIDE)).then_some((OUTSIDE, to))
}
