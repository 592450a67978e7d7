//! The life of a flow: when a decision is fresh, when a connection has ended.
//!
//! A decision is fresh for a second ([`FRESH_NS`]); after that the next packet takes the slow
//! path and both directions are decided again, so that changes around the node are followed
//! without an agent. A connection that was idle for longer than its timeout is unknown again.

use crate::abi::{Flow, FlowKey, Pending, Stage, Timeouts};
use crate::packet::proto;
use crate::transport::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// How long a decision holds before it is made again.
pub const FRESH_NS: u64 = SECOND_NS;

/// Packets from one side after which a flow counts as wanted although nobody answered.
pub const PENDING_LIMIT: u64 = 4;

/// Returns how long a connection may be idle, in nanoseconds.
///
/// One that a side has ended may go on in the other direction for as long as it likes.
#[inline(always)]
pub const fn timeout_ns(timeouts: &Timeouts, protocol: u8, stage: Stage) -> u64 {
    let seconds = match (protocol, stage) {
        (proto::TCP, Stage::Opening | Stage::Closing) => timeouts.tcp_transitory,
        (proto::TCP, Stage::Established | Stage::Ended | Stage::PeerEnded) => {
            timeouts.tcp_established
        }
        (proto::UDP, _) => timeouts.udp,
        (proto::ICMP | proto::ICMP6, _) => timeouts.icmp,
        (_, _) => timeouts.other,
    };
    seconds as u64 * SECOND_NS
}

/// Tells whether the connection that a flow belongs to still stands.
#[inline(always)]
pub fn is_live<A: Copy>(
    flow: &Flow<A>,
    key: &FlowKey<A>,
    timeouts: &Timeouts,
    now_ns: u64,
) -> bool {
    now_ns.saturating_sub(flow.decided_ns) < timeout_ns(timeouts, key.proto(), flow.stage())
}

/// Tells whether a flow still waits for its other side.
#[inline(always)]
pub fn is_waiting<A: Copy + Eq>(
    pending: &Pending<A>,
    key: &FlowKey<A>,
    timeouts: &Timeouts,
    now_ns: u64,
) -> bool {
    pending.packets != 0
        && pending.key == *key
        && now_ns.saturating_sub(pending.seen_ns)
            < timeout_ns(timeouts, key.proto(), Stage::Opening)
}

/// Tells whether a decision may be used without another look.
#[inline(always)]
pub fn is_fresh<A>(flow: &Flow<A>, generation: u32, now_ns: u64) -> bool {
    flow.generation == generation && now_ns.wrapping_sub(flow.decided_ns) < FRESH_NS
}

/// Returns the stage that a connection is in after a segment with these flags.
///
/// From outside, where anybody may send one, a reset changes nothing: the endpoint judges it
/// (RFC 5961), and if it ends the connection, says so itself or falls silent.
#[inline(always)]
pub const fn next_stage(stage: Stage, tcp_flags: u8, is_from_outside: bool) -> Stage {
    if tcp_flags & TCP_RST != 0 {
        return if is_from_outside {
            stage
        } else {
            Stage::Closing
        };
    }
    if tcp_flags & TCP_FIN == 0 {
        return stage;
    }
    match stage {
        Stage::Closing | Stage::PeerEnded => Stage::Closing,
        Stage::Opening | Stage::Established | Stage::Ended => Stage::Ended,
    }
}

/// Tells whether a segment opens the connection anew although an old one is remembered; only one
/// from inside does.
#[inline(always)]
pub const fn opens_anew(stage: Stage, tcp_flags: u8, is_from_outside: bool) -> bool {
    matches!(stage, Stage::Closing)
        && tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN
        && !is_from_outside
}

/// Returns the entry of a slot's slice of pending flows that belongs to a key, for a table of
/// `mask + 1` entries.
#[inline(always)]
pub fn pending_index<A: Copy + KeyHash>(slot: u16, key: &FlowKey<A>, mask: u32) -> u32 {
    of_slot(slot, key_hash(key, 0) >> 32, mask)
}

/// Returns the entry of a slot's slice that belongs to a hash, for a table of `mask + 1` entries.
#[inline(always)]
pub const fn of_slot(slot: u16, hash: u64, mask: u32) -> u32 {
    let within = hash as u32 % crate::abi::PENDING_PER_SLOT;
    (slot as u32 * crate::abi::PENDING_PER_SLOT + within) & mask
}

/// Returns the hash of a key, seen from the link `zone`.
#[inline(always)]
pub fn key_hash<A: Copy + KeyHash>(key: &FlowKey<A>, zone: u32) -> u64 {
    let ports = u64::from(key.src_port()) << 16 | u64::from(key.dst_port());
    let rest = ports << 16 | u64::from(key.proto()) << 8 | u64::from(key.tag());
    let ends = mix(key.src().hash_word()) ^ mix(key.dst().hash_word().rotate_left(32));
    mix(ends ^ rest ^ mix(u64::from(zone)))
}

/// Gives an address as one word, for hashing.
pub trait KeyHash {
    /// Returns a word that differs for most different addresses.
    fn hash_word(&self) -> u64;
}

impl KeyHash for crate::abi::Addr4 {
    #[inline(always)]
    fn hash_word(&self) -> u64 {
        u64::from(u32::from_ne_bytes(self.octets()))
    }
}

impl KeyHash for crate::abi::Addr6 {
    #[inline(always)]
    fn hash_word(&self) -> u64 {
        let [high, low] = self.wire();
        mix(high) ^ low
    }
}

/// Is the finaliser of `MurmurHash3`: each bit of the input reaches each bit of the output.
#[inline(always)]
const fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^ word >> 33
}

#[cfg(test)]
mod tests {
    use super::{next_stage, opens_anew, pending_index, timeout_ns};
    use crate::abi::{Addr4, FlowKey, PENDING_PER_SLOT, Stage, Timeouts};
    use crate::packet::proto;
    use crate::transport::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

    #[test]
    fn a_connection_closes_when_both_sides_have_ended_it() {
        let fin = TCP_FIN | TCP_ACK;
        let one = next_stage(Stage::Established, fin, false);

        assert_eq!(
            next_stage(Stage::Established, TCP_ACK, false),
            Stage::Established
        );
        assert_eq!(one, Stage::Ended);
        assert_eq!(next_stage(one, fin, false), Stage::Ended, "said twice");
        assert_eq!(next_stage(one.mirrored(), fin, true), Stage::Closing);
        assert_eq!(next_stage(Stage::Closing, TCP_ACK, false), Stage::Closing);
    }

    #[test]
    fn a_reset_closes_unless_it_comes_from_outside() {
        for stage in [Stage::Opening, Stage::Established, Stage::PeerEnded] {
            assert_eq!(next_stage(stage, TCP_RST, false), Stage::Closing);
            assert_eq!(next_stage(stage, TCP_RST, true), stage);
        }
    }

    #[test]
    fn only_a_bare_syn_from_inside_on_a_closing_connection_opens_it_anew() {
        assert!(opens_anew(Stage::Closing, TCP_SYN, false));
        assert!(!opens_anew(Stage::Closing, TCP_SYN, true));
        assert!(!opens_anew(Stage::Closing, TCP_SYN | TCP_ACK, false));
        assert!(!opens_anew(Stage::Established, TCP_SYN, false));
    }

    #[test]
    fn an_established_connection_outlives_every_other() {
        let timeouts = Timeouts::default();
        let of = |protocol, stage| timeout_ns(&timeouts, protocol, stage);
        let established = of(proto::TCP, Stage::Established);

        assert_eq!(established, 7_440_000_000_000);
        assert_eq!(of(proto::TCP, Stage::Ended), established);
        assert!(of(proto::TCP, Stage::Closing) < established);
        assert!(of(proto::UDP, Stage::Established) < established);
    }

    #[test]
    fn pending_flows_stay_in_the_slice_of_their_slot() {
        for slot in 0..16_u16 {
            for port in 0..1_000_u16 {
                let address = Addr4::new([10, 0, 0, 1]);
                let key = FlowKey::new(address, address, proto::UDP, [port.to_be(), 53], 0);
                let index = pending_index(slot, &key, 16 * PENDING_PER_SLOT - 1);

                assert_eq!(
                    index / PENDING_PER_SLOT,
                    u32::from(slot),
                    "slot of port {port}"
                );
            }
        }
    }
}
