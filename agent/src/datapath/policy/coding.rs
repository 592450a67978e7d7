//! What the kernel's tables of policy hold, and what of the plan's it stands for.
//!
//! ```text
//! Policy.prefixes ◄─► PREFIXES4, PREFIXES6     Policy.entries  ◄─► POLICY
//! Policy.ranges   ◄─► RANGES                   Policy.subjects ◄─► SUBJECTS
//! ```
//!
//! Keys of prefixes are numbers here, whose first bit is the highest; the tables have them as bytes in
//! network order. Nothing here touches a map.

use datapath::abi::{
    self, Addr4, Addr6, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPort, Ruling, SLOT_OUTSIDE,
};
use ipnet::IpNet;

use super::overlay::{Bits, Set};
use crate::plan::policy::{Decision, Direction, Entry, EntryKey, Policy, Subject, Verdict};
use crate::topology::prefix::WORLD;

/// Length of a row in bits.
pub(super) const ROW_BITS: u8 = 32;
const _: () = assert!(ROW_BITS as u32 == PolicyPort::ROW_BITS);

/// Splits the prefixes by their families.
pub(super) fn prefixes(policy: &Policy) -> [Set<abi::Prefix>; 2] {
    let mut sets = [Set::new(), Set::new()];
    for (net, prefix) in &policy.prefixes {
        let (set, key) = match net {
            IpNet::V4(net) => {
                let address = Addr4::new(net.network().octets());
                (&mut sets[0], bits(address, net.prefix_len()))
            }
            IpNet::V6(net) => {
                let address = Addr6::new(net.network().octets());
                (&mut sets[1], bits(address, net.prefix_len()))
            }
        };
        // Networks of one family have the order of their bits.
        set.push((key, abi::Prefix::new(prefix.identity, prefix.excluded)));
    }
    sets
}

/// Returns the ranges of a policy in the order of their bits.
pub(super) fn ranges(policy: &Policy) -> Set<Ruling> {
    let ranges = policy.ranges.iter().map(|(range, verdict)| {
        let port = PolicyPort::new(range.row, range.protocol, range.port);
        (bits(port, ROW_BITS + range.bits), ruling(*verdict))
    });
    let mut ranges: Set<_> = ranges.collect();
    ranges.sort_by_key(|(bits, _)| *bits);
    ranges
}

/// Returns a subject as the kernel has it, and its key: see [`abi::Party::subject`].
pub(super) fn subject((slot, subject): (&u16, &Subject)) -> (u64, abi::Subject) {
    let mut key = [0; 8];
    key[2..].copy_from_slice(&subject.mac.0);
    let known = abi::Subject {
        identity: subject.identity,
        policy: subject.policy,
        audit: u16::from(subject.audit),
        slot: *slot,
    };
    (u64::from_be_bytes(key), known)
}

/// Returns the world, for which nothing is decided.
pub(super) fn outside() -> (u64, abi::Subject) {
    let known = abi::Subject {
        identity: WORLD,
        slot: SLOT_OUTSIDE,
        ..abi::Subject::default()
    };
    (u64::from(SLOT_OUTSIDE), known)
}

pub(super) fn policy_key(key: EntryKey) -> PolicyKey {
    PolicyKey {
        policy: key.subject,
        direction: match key.direction {
            Direction::Ingress => INGRESS,
            Direction::Egress => EGRESS,
        },
        identity: key.identity,
    }
}

pub(super) fn policy_entry(entry: Entry) -> PolicyEntry {
    PolicyEntry {
        row: entry.row,
        ruling: ruling(entry.verdict),
    }
}

pub(super) fn entry_key(key: PolicyKey) -> Option<EntryKey> {
    let direction = match key.direction {
        INGRESS => Direction::Ingress,
        EGRESS => Direction::Egress,
        _ => return None,
    };
    Some(EntryKey {
        subject: key.policy,
        direction,
        identity: key.identity,
    })
}

pub(super) fn ruling(verdict: Verdict) -> Ruling {
    let decision = match verdict.decision {
        Decision::Allow => abi::Decision::Allow,
        Decision::Deny => abi::Decision::Deny,
        Decision::Reject => abi::Decision::Reject,
    };
    Ruling::new(decision, verdict.term)
}

pub(super) fn verdict(ruling: Ruling) -> Option<Verdict> {
    let decision = match ruling.decision()? {
        abi::Decision::Allow => Decision::Allow,
        abi::Decision::Deny => Decision::Deny,
        abi::Decision::Reject => Decision::Reject,
    };
    Some(Verdict {
        decision,
        term: ruling.term,
    })
}

/// Returns the first bits of a key.
pub(super) fn bits<K: Word>(key: K, len: u8) -> Bits {
    Bits {
        value: key.word(),
        len,
    }
}

/// Is a key of prefixes as a number, its first bit the highest.
pub(super) trait Word: Copy {
    /// Place of its family among the lengths of prefixes.
    const FAMILY: u32;

    fn word(self) -> u128;
    fn from_word(word: u128) -> Self;
}

impl Word for Addr4 {
    const FAMILY: u32 = 0;

    fn word(self) -> u128 {
        u128::from(u32::from_be_bytes(self.octets())) << 96
    }

    fn from_word(word: u128) -> Self {
        let [a, b, c, d, ..] = word.to_be_bytes();
        Self::new([a, b, c, d])
    }
}

impl Word for Addr6 {
    const FAMILY: u32 = 1;

    fn word(self) -> u128 {
        u128::from_be_bytes(self.octets())
    }

    fn from_word(word: u128) -> Self {
        Self::new(word.to_be_bytes())
    }
}

impl Word for PolicyPort {
    const FAMILY: u32 = 2;

    fn word(self) -> u128 {
        let port = u128::from(self.protocol()) << 16 | u128::from(self.port());
        (u128::from(self.row()) << 24 | port) << 72
    }

    fn from_word(word: u128) -> Self {
        let [row @ .., protocol, high, low] = (word >> 72).to_be_bytes();
        let [.., a, b, c, d] = row;
        let port = u16::from_be_bytes([high, low]);
        Self::new(u32::from_be_bytes([a, b, c, d]), protocol, port)
    }
}
