//! The resident agent: it follows what the kernel announces, checks what is not announced, and
//! repairs what differs from the file.
//!
//! One thread, one `poll` loop. What a repair is made of is the business of a [`Node`], which
//! `cli` provides; what moves packets is in the kernel and does not need the agent.
//!
//! # Layout
//! - [`watch`]: the loop
//! - [`source`]: what wakes it
//! - [`reload`]: a file that is taken anew, or not
//! - [`control`], `caller`, [`protocol`]: the control socket, who is connected, what is said there
//! - [`client`]: asks at that socket
//! - [`edit`]: edits of the file, however an editor makes them
//! - [`calm`]: when to read an edited file; pure
//! - [`record`], [`dump`]: what the agent knows of itself, for `status` and for the log
//! - [`announcement`]: what the kernel announces about its network objects
//! - [`sender`]: who made it so
//! - [`folder`]: folders in which files come and go
//! - [`signal`]: signals, as a descriptor
//! - [`schedule`]: when to look; pure
//! - [`back_off`]: how long to leave alone what is undone again and again; pure
//! - [`consequence`]: which objects go with others; pure
//! - [`sparing`]: a kernel without the objects that are left alone
//! - [`chore`]: what is done every few seconds
//! - [`privilege`]: what the agent may still do after its start; pure
//! - [`service`]: what the service manager is told
//! - [`warning`]: codes of warnings

pub mod announcement;
pub mod back_off;
mod caller;
pub mod calm;
pub mod chore;
pub mod client;
pub mod consequence;
pub mod control;
pub mod dump;
pub mod edit;
pub mod folder;
pub mod privilege;
pub mod protocol;
pub mod record;
pub mod reload;
pub mod schedule;
pub mod sender;
pub mod service;
pub mod signal;
pub mod source;
pub mod sparing;
pub mod warning;
pub mod watch;

pub use chore::{Chore, Pace};
pub use control::Control;
pub use edit::Edits;
pub use folder::Files;
pub use source::Sources;
pub use sparing::Sparing;
pub use watch::Watch;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use crate::datapath::table::MapStatus;
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

    /// Returns a number that changes with what nobody announces; `None` if only a look can tell.
    fn glance(&self) -> Option<u64>;

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

    /// Returns the file that the node is kept by.
    fn file(&self) -> &Path;

    /// Reads the file anew and makes the node what it says. Returns what that took; `None` if it
    /// was read for an edit that changed nothing.
    ///
    /// # Errors
    /// If the file is wrong or the kernel refuses: the node stays what it was.
    fn reload(&mut self, why: Why) -> Result<Option<Plan>, Rejection>;

    /// Keeps what is on trial. Tells whether something was.
    fn confirm(&mut self) -> bool;

    /// Returns what differs from the file; changes nothing.
    ///
    /// # Errors
    /// If the kernel cannot be read.
    fn differences(&mut self, spared: &BTreeSet<Key>) -> Result<Plan, Cause>;

    /// Says in a few words what is kept, and what of it waits for something.
    fn summary(&self) -> String;

    /// Describes the maps.
    fn maps(&self) -> Vec<MapStatus>;
}

/// Says why a file is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Somebody asked for it: the node is looked at too.
    Asked,
    /// It was edited, or could not be taken before.
    Edited,
}

/// Says why a file was not taken; what was applied before holds.
#[derive(Debug)]
pub enum Rejection {
    /// It is wrong.
    Wrong(Cause),
    /// It is good; something else hinders, and nothing was changed.
    Hindered(Cause),
    /// It is good; the kernel refused a step, and what was done is undone.
    Undone(Cause),
}

impl Rejection {
    /// Returns what was said.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Wrong(cause) | Self::Hindered(cause) | Self::Undone(cause) => cause,
        }
    }
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
    /// These steps were done, and while they were, others changed something of it again.
    Unsettled(Plan),
    /// Somebody applied a file: the node is kept as that says from here on. These steps were
    /// left to do.
    Renewed(Plan),
    /// Another process works on the node.
    Busy,
}
