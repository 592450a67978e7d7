//! A configuration on trial, in `<state-dir>/<node>/trial/record.json`.
//!
//! `ciliate try` writes the record before it changes anything, and removes it when the trial is
//! over. As long as its guard lives, that process holds the lock beside the record. So a record
//! without a holder tells that the guard was killed: whoever comes next takes the trial back.
//!
//! Who changes the record holds the lock of the node. Deadlines are told by the clock that runs
//! since the machine started, which nobody sets; a record of an earlier start has none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FileError;
use super::edition::{self, Edition};
use crate::host::clock::Moment;

const FOLDER: &str = "trial";
const NAME: &str = "record.json";

/// How long after its deadline a guard that lives may take to act on it; then others do.
const GRACE: Duration = Duration::from_secs(10);

/// Describes a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The process that guards it.
    pub pid: u32,
    /// The start of the machine that it belongs to.
    pub boot: String,
    pub deadline: Moment,
    pub phase: Phase,
    /// Tells the topology that is tried from others.
    pub tried: String,
    /// What the node is made again unless the trial is confirmed; nothing at all if it was not
    /// set up.
    pub before: Option<Edition>,
}

/// Tells how far a trial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What is tried is being applied.
    Begun,
    /// It is applied, and waits for an answer.
    Waiting,
    /// Somebody has confirmed it, and the guard has not noticed yet.
    Confirmed,
}

/// Tells what a record means to those who are not its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The guard is at work.
    Guarded,
    /// Nobody takes it back in time: who comes next does.
    Abandoned,
    /// It was confirmed: the record means nothing.
    Over,
}

impl Trial {
    /// Returns the folder of the record and of the lock that its guard holds.
    pub fn folder(directory: &Path) -> PathBuf {
        directory.join(FOLDER)
    }

    /// Returns where the record is.
    pub fn path(directory: &Path) -> PathBuf {
        Self::folder(directory).join(NAME)
    }

    /// Reads the record of a node, if there is one.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn load(directory: &Path) -> Result<Option<Self>, FileError> {
        edition::load(&Self::path(directory))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), FileError> {
        edition::save(&Self::path(directory), self)
    }

    /// Removes the record, if there is one.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(directory: &Path) -> Result<(), FileError> {
        edition::remove(&Self::path(directory))
    }

    /// Removes the record, the lock and their folder, which nobody needs any more.
    pub fn remove_folder(directory: &Path) {
        let folder = Self::folder(directory);
        drop(Self::remove(directory));
        drop(fs::remove_file(folder.join("lock")));
        // What somebody else put there keeps the folder.
        drop(fs::remove_dir(folder));
    }

    /// Tells what the record means at a moment of a start of the machine, if its guard lives or
    /// does not.
    pub fn standing(&self, is_guarded: bool, now: Moment, boot: &str) -> Standing {
        let is_in_time = now < self.deadline + GRACE;
        match self.phase {
            Phase::Confirmed => Standing::Over,
            Phase::Begun | Phase::Waiting if is_guarded && is_in_time && self.boot == boot => {
                Standing::Guarded
            }
            Phase::Begun | Phase::Waiting => Standing::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(phase: Phase) -> Trial {
        Trial {
            pid: 714,
            boot: "this".to_owned(),
            deadline: Moment::from_secs(100),
            phase,
            tried: "1".to_owned(),
            before: None,
        }
    }

    #[test]
    fn record_is_found_again_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let trial = trial(Phase::Waiting);

        trial.save(folder.path()).unwrap();
        assert_eq!(Trial::load(folder.path()).unwrap(), Some(trial));

        Trial::remove_folder(folder.path());
        assert_eq!(Trial::load(folder.path()).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn trial_is_abandoned_with_its_guard_its_machine_or_its_time() {
        let at = Moment::from_secs;
        for (phase, is_guarded, now, boot, expected) in [
            (Phase::Begun, true, 50, "this", Standing::Guarded),
            (Phase::Waiting, true, 109, "this", Standing::Guarded),
            (Phase::Waiting, true, 110, "this", Standing::Abandoned),
            (Phase::Waiting, false, 50, "this", Standing::Abandoned),
            (Phase::Begun, false, 50, "this", Standing::Abandoned),
            (Phase::Waiting, true, 50, "other", Standing::Abandoned),
            (Phase::Confirmed, false, 500, "other", Standing::Over),
        ] {
            let found = trial(phase).standing(is_guarded, at(now), boot);
            assert_eq!(found, expected, "{phase:?} {is_guarded} {now} {boot}");
        }
    }
}
