//! `ciliate confirm`: keeps what is on trial.
//!
//! Who holds the lock of the node decides: what is confirmed under it is kept, however late the
//! guard notices, and what the guard has begun to take back is not confirmed.

use std::io::Write;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::Instance;
use crate::reconcile::Trial;
use crate::reconcile::trial::{Phase, Standing};

/// Confirms the trial of the node that is set up here. Returns the exit code.
///
/// # Errors
/// If there is none.
pub fn confirm(common: &Common, out: &mut dyn Write) -> Result<u8, Failure> {
    let instance = Instance::find(common)?;
    let trial = instance.confirm_trial()?;
    let what = trial.before.is_none();
    let undo = if what {
        "; undo with `ciliate down`"
    } else {
        ""
    };
    writeln!(out, "Node {}: what was tried is kept{undo}.", instance.node)?;
    Ok(exit::OK)
}

impl Instance {
    /// Confirms the trial of the node. Returns it.
    ///
    /// # Errors
    /// If there is none, or it is over.
    pub fn confirm_trial(&self) -> Result<Trial, Failure> {
        let nothing = |why| Failure::NothingToConfirm(self.node.clone(), why);
        if self.trial()?.is_none() {
            return Err(nothing("no trial runs: there is nothing to confirm"));
        }
        let _lock = self.lock()?;
        match self.trial()? {
            Some((mut trial, Standing::Guarded)) => {
                trial.phase = Phase::Confirmed;
                trial.save(self.directory())?;
                Ok(trial)
            }
            Some((trial, Standing::Over)) => Ok(trial),
            Some((_, Standing::Abandoned)) => Err(nothing(
                "the guard of the trial is gone: the trial is taken back by the agent, or by the \
                 next `ciliate apply`",
            )),
            None => Err(nothing(
                "the trial was taken back: there is nothing to confirm",
            )),
        }
    }
}
