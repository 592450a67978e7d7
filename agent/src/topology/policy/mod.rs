//! `[policy]` → the tables of one node, and what explains them.
//!
//! # Layout
//! - [`compile`](mod@compile): all of the below in order
//! - `term`: the terms of the file, and their numbers
//! - `class`: addresses that all rules treat alike
//! - `party`: whom a term means
//! - `side`: which rules apply to a subject, and what holds besides
//! - `port`, `row`: what holds port by port
//! - `table`: the entries of one subject
//! - [`limit`]: how much is too much, and which rule it comes from
//! - `words`: peers and ports as the file writes them

pub(super) mod class;
pub mod compile;
pub mod limit;
mod party;
mod port;
mod row;
mod side;
mod table;
pub(super) mod term;
pub mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::policy::Enforcement;
use crate::plan::policy::{self, Direction};

pub(super) use self::compile::compile;

/// Holds the policy of a node: the tables, and what explains them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// When it is enforced, as the file says.
    pub enforcement: Enforcement,
    pub tables: Arc<policy::Policy>,
    /// The terms that verdicts name, by their numbers.
    pub terms: BTreeMap<u16, TermInfo>,
    /// What the identities stand for that this node may meet.
    pub names: BTreeMap<u32, String>,
    /// How many entries and ranges each rule is part of, in the order of the file.
    pub rule_entries: Vec<usize>,
}

/// Tells what a term is, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermInfo {
    /// Place of its rule in the file, from 0.
    pub rule_idx: usize,
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
