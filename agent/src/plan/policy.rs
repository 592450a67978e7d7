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

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::topology::Prefix;

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

/// Describes a party that has a policy, or at least an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
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

/// End of the numbers of terms.
pub const TERMS_MAX: u16 = 4096;
