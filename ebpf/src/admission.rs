//! How a flow becomes known: pending at first, then in the table with its twin.
//!
//! ```text
//! first packet ──► PENDING (slice of the sender) ──► reply, or 4th packet ──► FLOWS, both halves
//! ```
//!
//! A flood or a scan of single packets therefore evicts only pending flows of the flooder. A packet that finds
//! neither its flow nor its own pending entry looks for its twin first: an evicted half comes
//! back from the other one. A packet that passes several hooks is entered at the first of them only.

use crate::abi::{Flow, FlowKey, Stage};
use crate::decision::decide;
use crate::flow::{
    KeyHash, PENDING_LIMIT, is_live, is_waiting, next_stage, opens_anew, pending_index,
};
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::work::{Moment, Work};

/// Enters a packet into its flow, which `work.decided` describes, and refreshes both halves.
///
/// Returns `InvalidSourceIp` if the packet must belong to a known flow and does not.
#[inline(always)]
pub fn admit<A: Copy + Eq + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let stage = match standing(tables, work) {
        Standing::New if work.through_stack() => return Some(DropReason::InvalidSourceIp),
        _ if work.is_entered() => return None,
        Standing::New | Standing::Pending => {
            wait(tables, work);
            return None;
        }
        Standing::Opening => Stage::Opening,
        Standing::Established => Stage::Established,
        Standing::Closing => Stage::Closing,
    };
    work.decided.set_stage(stage);
    enter(tables, work);
    None
}

/// Tells what is remembered of a flow; one of the last three if its connection stands in the
/// table, or enters it with this packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Standing {
    New,
    /// It still waits for an answer.
    Pending,
    Opening,
    Established,
    Closing,
}

impl Standing {
    /// Returns the standing of a connection after a packet with these TCP flags.
    #[inline(always)]
    const fn known(stage: Stage, tcp_flags: u8) -> Self {
        match next_stage(stage, tcp_flags) {
            Stage::Opening => Self::Opening,
            Stage::Established => Self::Established,
            Stage::Closing => Self::Closing,
        }
    }
}

#[inline(never)]
fn standing<A: Copy + Eq + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Standing {
    let (zone, target, tcp_flags) = (work.decided.zone, work.decided.target, work.tcp_flags);
    let reply = work.key.reversed();
    // What an earlier packet left behind says nothing about this one.
    work.pending.packets = 0;
    let own = live_stage(tables, &work.key, (zone, target), work.moment.now_ns);
    if matches!(own, Some(stage) if opens_anew(stage, tcp_flags)) {
        tables.remove_flow(&reply);
        tables.remove_flow(&work.key);
        return Standing::New;
    }
    if let Some(stage) =
        own.or_else(|| live_stage(tables, &reply, (target, zone), work.moment.now_ns))
    {
        return Standing::known(after_answer(tables, &reply, stage), tcp_flags);
    }
    let key = work.key;
    if waits(tables, work, &key, zone) {
        work.decided.packets = work.pending.packets;
        work.decided.bytes = work.pending.bytes;
        work.decided.created_ns = work.pending.created_ns;
        return if work.pending.packets + 1 < PENDING_LIMIT {
            Standing::Pending
        } else {
            Standing::known(Stage::Opening, tcp_flags)
        };
    }
    if waits(tables, work, &reply, target) {
        work.decided.created_ns = work.pending.created_ns;
        return Standing::known(Stage::Established, tcp_flags);
    }
    Standing::New
}

/// Returns the stage of the connection of a flow between these two links, if it stands.
#[inline(always)]
fn live_stage<A: Copy, T: Tables<A>>(
    tables: &mut T,
    key: &FlowKey<A>,
    (zone, target): (u32, u32),
    now_ns: u64,
) -> Option<Stage> {
    let flow = tables.flow(key)?;
    let is_same = flow.zone == zone && flow.target == target;
    (is_same && is_live(flow, key, now_ns)).then(|| flow.stage())
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
fn waits<A: Copy + Eq + KeyHash, T: Tables<A>>(
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
        && is_waiting(&work.pending, key, work.moment.now_ns)
        && work.pending.zone == zone
}

/// Writes both halves of a connection.
#[inline(never)]
fn enter<A: Copy + Eq + KeyHash, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let keeps = !is_new(work);
    write_half(
        tables,
        &work.key,
        &mut work.decided,
        u64::from(work.len),
        keeps,
    );
    let (from, to) = (work.decided.target, work.decided.zone);
    // A party that is gone gets no half: the next packet towards it finds it gone as well.
    if decide(tables, from, to, &work.moment, &mut work.twin) {
        work.twin.created_ns = work.decided.created_ns;
        work.twin.set_stage(work.decided.stage());
        bring_counts(work);
        let twin_key = work.key.reversed();
        write_half(tables, &twin_key, &mut work.twin, 0, keeps);
    }
}

/// Gives the twin the counts of its time as a pending flow.
#[inline(always)]
fn bring_counts<A: Copy + Eq>(work: &mut Work<A>) {
    let is_twin = work.pending.key == work.key.reversed() && work.pending.zone == work.twin.zone;
    if is_new(work) && is_twin {
        work.twin.packets = work.pending.packets;
        work.twin.bytes = work.pending.bytes;
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
#[inline(always)]
fn write_half<A: Copy + Eq + KeyHash, T: Tables<A>>(
    tables: &mut T,
    key: &FlowKey<A>,
    decided: &mut Flow,
    bytes: u64,
    keeps: bool,
) {
    let packets = u64::from(bytes != 0);
    if keeps && let Some(flow) = tables.flow(key) {
        let (counted, counted_bytes, created_ns) = (flow.packets, flow.bytes, flow.created_ns);
        *flow = *decided;
        (flow.packets, flow.bytes) = (counted + packets, counted_bytes + bytes);
        flow.created_ns = created_ns;
        return;
    }
    decided.packets += packets;
    decided.bytes += bytes;
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
    pending.created_ns = work.decided.created_ns;
    pending.seen_ns = work.moment.now_ns;
    pending.packets = work.decided.packets + 1;
    pending.bytes = work.decided.bytes + u64::from(work.len);
    tables.set_pending(index, pending);
}

/// Returns the links that a known flow comes from and goes to.
///
/// A pending flow's receiver is whoever has its destination address. `work.pending` is used.
#[inline(always)]
pub fn known<A: Copy + Eq + KeyHash, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    key: &FlowKey<A>,
) -> Option<(u32, u32)> {
    let Moment { now_ns, host, .. } = work.moment;
    if let Some(flow) = tables.flow(key)
        && is_live(flow, key, now_ns)
    {
        return Some((flow.zone, flow.target));
    }
    let from = tables.local(&key.src()).unwrap_or(host);
    if !waits(tables, work, key, from) {
        return None;
    }
    Some((from, tables.local(&key.dst()).unwrap_or(host)))
}
