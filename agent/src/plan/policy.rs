//! The policy of a node as the kernel's tables hold it: disjoint.
//!
//! ```text
//! subject, direction, identity of the other side ──► Entry: a row, and what holds besides
//!                                   row, protocol, port ──► Verdict
//! ```
//!
//! For each packet one entry holds: the one of the other side's identity, else the one of identity
//! 0. In its row no two ranges overlap, and what none of them covers has the entry's own verdict.
//! So there is no precedence that anybody could get wrong; `topology` has settled it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::object::Mac;
use crate::topology::Prefix;
use crate::topology::prefix::WORLD;

/// Holds the policy of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The node itself (slot 0) and its endpoints, by their slots.
    pub subjects: BTreeMap<u16, Subject>,
    /// Who is behind an address: the longest prefix counts, none is there without need.
    pub prefixes: BTreeMap<IpNet, Prefix>,
    pub entries: BTreeMap<EntryKey, Entry>,
    /// Ranges of rows. They never overlap within one row.
    pub ranges: BTreeMap<Range, Verdict>,
}

impl Policy {
    /// Returns the identity behind an address, as the tables know it: not that of an endpoint of
    /// the node.
    pub fn identity_of(&self, address: IpAddr) -> u32 {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefixes = (0..=longest).rev();
        let mut known = prefixes.filter_map(|bits| {
            let prefix = IpNet::new(address, bits).ok()?.trunc();
            self.prefixes.get(&prefix)
        });
        known.next().map_or(WORLD, |known| known.identity)
    }

    /// Returns what becomes of a connection between a subject and an identity; the port is the
    /// one that is spoken to, as in [`Range::port`].
    pub fn verdict(
        &self,
        slot: u16,
        direction: Direction,
        identity: u32,
        (protocol, port): (u8, u16),
    ) -> Verdict {
        let by_default = |decision| Verdict { decision, term: 0 };
        let subject = match self.subjects.get(&slot) {
            Some(subject) if subject.policy != 0 => subject.policy,
            _ => return by_default(Decision::Allow),
        };
        let entry = |identity| {
            self.entries.get(&EntryKey {
                subject,
                direction,
                identity,
            })
        };
        let Some(entry) = entry(identity).or_else(|| entry(0)) else {
            return by_default(Decision::Deny);
        };
        let range = self.range(entry.row, protocol, port);
        range.unwrap_or(entry.verdict)
    }

    /// Returns the verdict of the range of a row that covers a port.
    fn range(&self, row: u32, protocol: u8, port: u16) -> Option<Verdict> {
        let place = u32::from(protocol) << 16 | u32::from(port);
        (0..=Range::BITS).find_map(|bits| {
            let hidden = Range::BITS - bits;
            let [_, protocol, high, low] = (place >> hidden << hidden).to_be_bytes();
            let range = Range {
                row,
                protocol,
                port: u16::from_be_bytes([high, low]),
                bits,
            };
            self.ranges.get(&range).copied()
        })
    }
}

/// Describes a party that has a policy, or at least an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Address of an endpoint's own link, by which the kernel knows it; zeros for the node.
    pub mac: Mac,
    pub identity: u32,
    /// Number of the policy in [`EntryKey::subject`]: endpoints to which the same rules apply share
    /// one. 0 if everything is allowed in both directions.
    pub policy: u32,
    /// Whether what would be denied is let through and counted.
    pub audit: bool,
}

/// Is the direction of a connection, as seen by its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Others connect to the subject.
    Ingress,
    /// The subject connects to others.
    Egress,
}

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    pub subject: u32,
    pub direction: Direction,
    /// Identity of the other side; 0 for all that have no entry of their own.
    pub identity: u32,
}

/// Is what holds between a subject and an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the row whose ranges have verdicts of their own; 0 if there is none.
    pub row: u32,
    /// Verdict for everything else.
    pub verdict: Verdict,
}

/// Is what becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verdict {
    pub decision: Decision,
    /// Number of the term that says so (at least 1, below [`TERMS_MAX`]); 0 if no term does: by
    /// default.
    pub term: u16,
}

/// Tells what becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Allow,
    Deny,
    /// Denied, and the sender is told so.
    Reject,
}

/// Is a set of protocols and ports within a row: all whose first bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub row: u32,
    pub protocol: u8,
    /// The port that is spoken to; of ICMP the type in the upper byte, the code in the lower; of
    /// protocols without ports 0.
    pub port: u16,
    /// How many bits of protocol and port, 24 together, count.
    pub bits: u8,
}

impl Range {
    /// Bits of protocol and port together.
    pub const BITS: u8 = 24;
}

/// End of the numbers of terms.
pub const TERMS_MAX: u16 = 4096;

/// Most differences of one kind that are told one by one.
const TOLD_MAX: usize = 4;

impl Policy {
    /// Says how another policy differs from this one, one phrase for each kind of thing.
    pub(super) fn differences(&self, after: &Self) -> Vec<String> {
        [
            told(
                "subject",
                &self.subjects,
                &after.subjects,
                |slot, subject| format!("slot {slot} is identity {}", subject.identity),
            ),
            told("prefix", &self.prefixes, &after.prefixes, |net, prefix| {
                let translated = if prefix.excluded {
                    ", never translated"
                } else {
                    ""
                };
                format!("{net} is identity {}{translated}", prefix.identity)
            }),
            counted("entry", "entries", &self.entries, &after.entries),
            counted("range", "ranges", &self.ranges, &after.ranges),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Tells each difference, if there are few.
fn told<K: Ord + Display, V: PartialEq>(
    noun: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    say: impl Fn(&K, &V) -> String,
) -> Option<String> {
    let new = || {
        after
            .iter()
            .filter(|(key, value)| before.get(key) != Some(value))
    };
    let gone = || before.keys().filter(|key| !after.contains_key(key));
    if new().count() + gone().count() > TOLD_MAX {
        let plural = if noun == "prefix" {
            "prefixes"
        } else {
            "subjects"
        };
        return counted(noun, plural, before, after);
    }
    let said = new().map(|(key, value)| say(key, value));
    let said: Vec<_> = said
        .chain(gone().map(|key| format!("{noun} {key} goes")))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// Tells how many things differ.
fn counted<K: Ord, V: PartialEq>(
    noun: &str,
    plural: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> Option<String> {
    let count = |number: usize, what: &str| {
        let noun = if number == 1 { noun } else { plural };
        (number != 0).then(|| format!("{number} {noun} {what}"))
    };
    let is_new = |key: &&K| !before.contains_key(key);
    let new = after.keys().filter(is_new).count();
    let gone = before.keys().filter(|key| !after.contains_key(key)).count();
    let changed = after
        .iter()
        .filter(|(key, value)| before.get(key).is_some_and(|before| before != *value));
    let parts = [
        count(new, "more"),
        count(changed.count(), "changed"),
        count(gone, "less"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Is what a journal or a plan in JSON says of a policy: how much there is of it.
#[derive(Serialize, Deserialize)]
struct Summary {
    subjects: usize,
    prefixes: usize,
    entries: usize,
    ranges: usize,
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let summary = Summary {
            subjects: self.subjects.len(),
            prefixes: self.prefixes.len(),
            entries: self.entries.len(),
            ranges: self.ranges.len(),
        };
        summary.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    /// Reads no more than what was written: that there was a policy. Whoever reads a journal counts
    /// its steps, and never takes one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Summary::deserialize(deserializer).map(|_| Self::default())
    }
}
