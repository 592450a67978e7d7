//! The resident agent: it follows what the kernel announces, checks what is not announced, and
//! repairs what differs from the file.
//!
//! One thread, one `poll` loop. What a repair is made of is the business of a [`Node`], which
//! `cli` provides; what moves packets is in the kernel and does not need the agent.
//!
//! # Layout
//! - [`watch`]: the loop
//! - [`announcement`]: what the kernel announces about its network objects
//! - [`folder`]: folders in which files come and go
//! - [`signal`]: signals, as a descriptor
//! - [`schedule`]: when to look; pure
//! - [`back_off`]: how long to leave alone what is undone again and again; pure
//! - [`consequence`]: which objects go with others; pure
//! - [`sparing`]: a kernel without the objects that are left alone
//! - [`chore`]: what is done every few seconds
//! - [`service`]: what the service manager is told
//! - [`warning`]: codes of warnings

pub mod announcement;
pub mod back_off;
pub mod chore;
pub mod consequence;
pub mod folder;
pub mod schedule;
pub mod service;
pub mod signal;
pub mod sparing;
pub mod warning;
pub mod watch;

pub use chore::Chore;
pub use folder::Files;
pub use sparing::Sparing;
pub use watch::{Sources, Watch};

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::plan::Plan;
use crate::plan::object::Key;
use crate::reconcile::Cause;

/// Is the node that the loop keeps as it shall be.
pub trait Node {
    /// Looks, and repairs what differs; leaves these objects, and what goes with them, alone.
    ///
    /// # Errors
    /// If the kernel refuses; what was done is undone then.
    fn repair(&mut self, spared: &BTreeSet<Key>) -> Result<Round, Trouble>;

    /// Returns what else wakes the loop.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// Returns after how long the node wants attention, whatever wakes the loop before.
    fn idle(&self) -> Option<Duration> {
        None
    }

    /// Attends to what woke the loop, or is due; called after each sleep. Tells whether the node
    /// shall be another one since, and is to be looked at.
    fn attend(&mut self) -> bool {
        false
    }

    /// Returns the files whose coming and going the node depends on.
    fn files(&self) -> Files;

    /// Reads the file anew and makes the node what it says. Returns what that took.
    ///
    /// # Errors
    /// If the file is wrong or the kernel refuses: the node stays what it was.
    fn reload(&mut self) -> Result<Plan, Cause>;
}

/// Says why a node could not be looked at or repaired.
#[derive(Debug)]
pub struct Trouble {
    pub cause: Cause,
    /// The object that could not be repaired, if it was one.
    pub object: Option<Key>,
    /// Whether something was changed and changed back.
    pub was_undone: bool,
}

impl<E: Into<Cause>> From<E> for Trouble {
    fn from(cause: E) -> Self {
        Self {
            cause: cause.into(),
            object: None,
            was_undone: false,
        }
    }
}

/// Tells what came of a look at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Round {
    /// These steps repaired the node; none if nothing differed.
    Repaired(Plan),
    /// Somebody applied a file: the node is kept as that says from here on. These steps were
    /// left to do.
    Renewed(Plan),
    /// Another process works on the node.
    Busy,
}
