//! Observe → plan → apply → verify: the only way in which anything changes.
//!
//! # Layout
//! - [`apply`](mod@apply): carries a plan out, and undoes it if a step fails
//! - `undo`: brings back what was there before the run
//! - [`journal`]: what a run is about to do, for the case that it is interrupted
//! - [`state_file`]: what has to be remembered from one run to the next
//! - [`edition`]: what the files of the node said when they were applied
//! - [`trial`]: a configuration on trial
//! - [`lease_file`]: what DHCP servers lent
//! - [`drift`]: what the resident agent repaired
//! - [`system`]: the kernel of this machine, behind the trait
//! - [`report`]: what a run did and how long it took
//! - [`file_error`]: what goes wrong with these files

pub mod apply;
pub mod drift;
pub mod edition;
pub mod file_error;
pub mod journal;
pub mod lease_file;
pub mod report;
pub mod state_file;
pub mod system;
pub mod trial;
mod undo;

pub use apply::{ApplyError, Failure, apply, preview};
pub use edition::Edition;
pub use file_error::FileError;
pub use journal::Journal;
pub use lease_file::LeaseFile;
pub use report::{Phase, Report};
pub use state_file::StateFile;
pub use system::System;
pub use trial::Trial;

use crate::plan::Step;
use crate::plan::object::{Observed, State};

/// Says why the kernel could not be read or changed: object, operation, cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Reads and changes what a node is made of.
pub trait Kernel {
    /// Reads all objects that are ours, and what surrounds them.
    ///
    /// `desired` tells where to look: namespaces of endpoints, sysctls. Nothing is written.
    fn observe(&mut self, desired: &State) -> Result<Observed, Cause>;

    /// Carries one step out. "Already so" and "already gone" are success.
    ///
    /// A sysctl that is added has its present value recorded before it is written; one that is
    /// removed gets the recorded value back.
    fn execute(&mut self, step: &Step) -> Result<(), Cause>;
}
