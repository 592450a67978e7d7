//! Who may open a connection to whom.
//!
//! Policy is asked about connections, not about packets: in the direction in which a connection was
//! opened, whoever sent the packet in hand, when the connection begins and each time its decision
//! is made again. So replies need no rule, and what a new policy forbids stops with its next packet.
//!
//! ```text
//! opener ── egress ──► policy of the opener       both on one node: both are asked here
//!        ── ingress ─► policy of the opened
//! ```
//!
//! The tables are disjoint, see [`crate::abi::PolicyEntry`]. A subject that has a policy, and no
//! entry for what is asked, lets nothing through: tables that could not be filled do not open.

use crate::abi::{Decision, EGRESS, Flow, INGRESS, PolicyKey, PolicyPort, Ruling, SLOT_OUTSIDE};
use crate::family::Address;
use crate::flow::SECOND_NS;
use crate::hook::Hook;
use crate::packet::proto;
use crate::tables::{Step, Tables};
use crate::transport::{TCP_ACK, TCP_RST, TCP_SYN};
use crate::verdict::DropReason;
use crate::work::Work;

/// Asks the policies of both ends about the connection of the packet in `work`, and notes in
/// `work.decided` which terms allow it; returns the reason to drop the packet, if there is one.
///
/// Where the opener may not go on, the other end may begin after a pause: its packet is then the first
/// of a connection of its own, between the same ports.
#[inline(never)]
pub fn ask<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    work.set_policed(false);
    work.asking = Asking::default();
    // verifier (6.18): without a loop of the kernel's, it follows both questions each time.
    tables.repeat::<Question>(work, 2);
    let refusal = work.asking.refusal();
    if refusal.is_some() {
        let [first, second] = work.decided.terms;
        let term = if first == 0 { second } else { first };
        tables.count_term(term, 1, u64::from(work.len));
    }
    refusal
}

/// Is what came of asking so far.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Asking {
    /// What the first question was answered with.
    terms: [u16; 2],
    /// Number of the reason; 0 for none.
    refusal: u8,
    /// Not 0 once the other end is asked about.
    is_turned: u8,
    pad: [u8; 2],
}

impl Asking {
    #[inline(always)]
    const fn refusal(self) -> Option<DropReason> {
        const DENIED: u8 = DropReason::PolicyDenied as u8;
        const DENY_LIST: u8 = DropReason::PolicyDenyList as u8;
        match self.refusal {
            0 => None,
            DENIED => Some(DropReason::PolicyDenied),
            DENY_LIST => Some(DropReason::PolicyDenyList),
            _ => Some(DropReason::NotReady),
        }
    }
}

/// Asks whether the opener may go on, and then, if it may not, whether the other end may begin.
struct Question;

impl<A: Address> Step<A> for Question {
    #[inline(always)]
    fn step<T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
        let refusal = of_both(tables, work);
        if work.asking.is_turned != 0 {
            if refusal.is_none() {
                work.asking.refusal = 0;
            } else {
                work.set_reply(true);
                work.decided.terms = work.asking.terms;
            }
            return true;
        }
        let Some(reason) = refusal else {
            return true;
        };
        work.asking.refusal = reason as u8;
        work.asking.terms = work.decided.terms;
        if !work.is_reply() || !may_begin(tables, work) {
            return true;
        }
        work.asking.is_turned = 1;
        work.set_reply(false);
        false
    }
}

/// How long a connection must have been silenced before the other end may begin one like it.
const PAUSE_NS: u64 = 5 * SECOND_NS;

/// Tells whether the packet in `work`, an answer in a connection that its opener may not go on with,
/// could be the first of another one.
#[inline(never)]
fn may_begin<A: Address, T: Tables<A>>(tables: &mut T, work: &Work<A>) -> bool {
    if work.key.proto() == proto::TCP {
        return work.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN;
    }
    let since_ns = work.moment.now_ns.saturating_sub(PAUSE_NS);
    let is_recent =
        |flow: Option<&mut Flow<A>>| flow.is_some_and(|flow| flow.decided_ns > since_ns);
    !is_recent(tables.flow(&work.key)) && !is_recent(tables.flow(&work.out.reversed()))
}

#[inline(never)]
fn of_both<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> Option<DropReason> {
    let ends = [work.sender, work.receiver];
    let identities = [work.decided.source_identity, work.decided.target_identity];
    let opener = usize::from(work.is_reply());
    work.decided.terms = [0; 2];
    set_port(work);
    let egress = of_end(tables, work, ends[opener], EGRESS, identities[1 - opener]);
    if egress.is_some() {
        return egress;
    }
    // What the opener may is not what is denied.
    let allowed = work.decided.terms[0];
    let ingress = of_end(tables, work, ends[1 - opener], INGRESS, identities[opener]);
    if ingress.is_some() {
        work.decided.terms[0] = 0;
    } else {
        work.decided.terms[0] = allowed;
    }
    ingress
}

/// Asks the policy of an endpoint about a new connection to somebody outside, before it gets a
/// port; returns the reason to drop the packet, if there is one.
#[inline(never)]
pub fn ask_outward<A: Address, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
) -> Option<DropReason> {
    let identity = outside_identity(tables, work);
    work.set_reply(false);
    set_port(work);
    let sender = work.sender;
    work.decided.terms = [0; 2];
    let refusal = of_end(tables, work, sender, EGRESS, identity);
    if refusal.is_some() {
        let [term, _] = work.decided.terms;
        tables.count_term(term, 1, u64::from(work.len));
    }
    refusal
}

/// Tells whether policy is asked about what comes to the node from outside.
#[inline(always)]
pub fn guards_inward<A: Address>(work: &Work<A>) -> bool {
    let is_at_device = matches!(work.hook(), Some(Hook::FromNetdev));
    is_at_device && work.moment.guards_host != 0 && !is_spared(work)
}

/// Tells whether policy is asked about what the node sends out of a device.
#[inline(always)]
pub fn guards_outward<A: Address>(work: &Work<A>) -> bool {
    let is_of_node = work.sender == work.moment.host;
    is_of_node && work.moment.guards_host != 0 && !is_spared(work)
}

/// Tells whether a packet is one without which the node has no address and no neighbours, so that
/// no rule can forbid it: neighbour discovery and group membership of IPv6, and DHCP.
#[inline(always)]
fn is_spared<A: Address>(work: &Work<A>) -> bool {
    let key = &work.key;
    match key.proto() {
        proto::ICMP6 => matches!(key.tag(), 130..=137 | 143),
        proto::UDP => matches!(
            (key.src_port(), key.dst_port()),
            (67 | 68, 67 | 68) | (546 | 547, 546 | 547)
        ),
        _ => key.dst().is_multicast(),
    }
}

/// Returns the identity of whoever is outside.
#[inline(always)]
pub fn outside_identity<A: Address, T: Tables<A>>(tables: &T, work: &Work<A>) -> u32 {
    match work.beyond.prefix.identity() {
        0 => {
            tables
                .subject(u64::from(SLOT_OUTSIDE), work.moment.side())
                .identity
        }
        identity => identity,
    }
}

/// Notes at which port the connection of the packet in `work` was opened, of ICMP with which type
/// and code.
#[inline(always)]
fn set_port<A: Address>(work: &mut Work<A>) {
    let opening = if work.is_reply() {
        work.key.reversed()
    } else {
        work.out
    };
    let port = match opening.proto() {
        proto::ICMP | proto::ICMP6 => u16::from_be_bytes([opening.tag(), work.code]),
        proto::TCP | proto::UDP | proto::SCTP => opening.dst_port(),
        _ => 0,
    };
    work.asked = PolicyPort::new(0, opening.proto(), port);
}

/// Asks the policy of one end of a connection, which lies behind the link `ifindex`; `identity` is
/// that of the other end.
#[inline(never)]
fn of_end<A: Address, T: Tables<A>>(
    tables: &mut T,
    work: &mut Work<A>,
    ifindex: u32,
    direction: u32,
    identity: u32,
) -> Option<DropReason> {
    let Some(party) = tables.party(ifindex) else {
        return Some(DropReason::NotReady);
    };
    let (slot, subject) = (party.slot, party.subject());
    let subject = tables.subject(subject, work.moment.side());
    // Whoever policy does not know yet neither sends nor receives.
    if subject.identity == 0 {
        return Some(DropReason::NotReady);
    }
    if subject.policy == 0 {
        return None;
    }
    work.set_policed(true);
    let key = PolicyKey {
        policy: subject.policy,
        direction,
        identity,
    };
    let ruling = rule(tables, work, &key);
    work.decided.terms[usize::from(direction == INGRESS)] = ruling.term;
    let decision = ruling.decision();
    if matches!(decision, Some(Decision::Allow)) {
        return None;
    }
    if subject.audit != 0 {
        tables.count_audit(slot, u64::from(work.len));
        return None;
    }
    work.set_rejected(matches!(decision, Some(Decision::Reject)));
    Some(match ruling.term {
        0 => DropReason::PolicyDenied,
        _ => DropReason::PolicyDenyList,
    })
}

/// Finds what a policy says about a connection.
#[inline(always)]
fn rule<A: Address, T: Tables<A>>(tables: &T, work: &Work<A>, key: &PolicyKey) -> Ruling {
    let side = work.moment.side();
    let mut entry = tables.policy(key, side);
    if entry.ruling.decision().is_none() {
        let everybody = PolicyKey {
            identity: 0,
            ..*key
        };
        entry = tables.policy(&everybody, side);
    }
    if entry.row == 0 {
        return entry.ruling;
    }
    let port = PolicyPort::new(entry.row, work.asked.protocol(), work.asked.port());
    let ruling = tables.range(&port, side);
    if ruling.decision().is_some() {
        ruling
    } else {
        entry.ruling
    }
}

/// Counts packets for the terms that allow them.
#[inline(never)]
pub fn credit<A, T: Tables<A>>(tables: &mut T, terms: [u16; 2], packets: u64, bytes: u64) {
    for term in terms {
        tables.count_term(term, packets, bytes);
    }
}
