//! `[policy]` → the tables of one node, and what explains them.
//!
//! # Layout
//! - [`compile`](mod@compile): all of the below in order
//! - `term`: the terms of the file, and their numbers
//! - `class`: addresses that all rules treat alike
//! - `party`: whom a term means
//! - `side`: which rules apply to a subject, and what holds besides
//! - `subject`: who has a policy, and who shares one
//! - `port`, `row`: what holds port by port
//! - `table`: the entries of one subject
//! - [`limit`]: how much is too much, and which rule it comes from
//! - `explain`: what numbers stand for
//! - [`near`](mod@near): which term almost allows what is denied
//! - [`words`]: peers and ports as the file writes them

pub(super) mod class;
pub mod compile;
mod explain;
pub mod limit;
pub mod near;
mod party;
mod port;
mod row;
mod side;
mod subject;
mod table;
pub(super) mod term;
pub mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::policy::Enforcement;
use crate::plan::policy::{self, Direction, Verdict};

pub(super) use self::compile::compile;

/// Holds the policy of a node: the tables, and what explains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// When it is enforced, as the file says.
    pub enforcement: Enforcement,
    pub tables: Arc<policy::Policy>,
    /// The terms that verdicts name, by their numbers.
    pub terms: BTreeMap<u16, TermInfo>,
    /// What applies to the node itself (slot 0) and its endpoints: ingress, then egress.
    pub sides: BTreeMap<u16, [SideInfo; 2]>,
    /// Identities of the nodes of the file, as this one sees them.
    pub nodes: BTreeMap<String, u32>,
    /// What the identities stand for that this node may meet.
    pub names: BTreeMap<u32, String>,
    /// How many entries and ranges each rule is part of, in the order of the file.
    pub rule_entries: Vec<usize>,
    /// The rules, in the order of the file.
    pub rules: Vec<RuleInfo>,
}

/// Tells what a rule is, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// `file:line:column` of the rule.
    pub place: String,
    pub description: Option<String>,
}

/// Tells what a term is, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermInfo {
    /// Place of its rule in the file, from 0.
    pub rule_idx: usize,
    /// Place among all terms of the file, rule by rule.
    pub term_idx: usize,
    /// The rule's description, if it has one.
    pub description: Option<String>,
    /// `file:line:column` of the term.
    pub place: String,
    pub direction: Direction,
    pub denies: bool,
    /// Whether those whom it denies are told so.
    pub rejects: bool,
    /// Peers and ports in words; of a long list the beginning.
    pub peers: String,
    pub ports: String,
}

/// Tells what applies to a subject in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideInfo {
    pub direction: Direction,
    /// What holds where no term says anything.
    pub default: Verdict,
    /// Numbers of the terms, in the order of the file.
    pub terms: Vec<u16>,
    /// Places of the rules in the file that close it.
    pub closed_by: Vec<usize>,
}

impl Policy {
    /// Returns what applies to a subject in a direction.
    pub fn side(&self, slot: u16, direction: Direction) -> Option<&SideInfo> {
        let sides = self.sides.get(&slot)?;
        sides.iter().find(|side| side.direction == direction)
    }
}
