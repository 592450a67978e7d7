//! What the agent remembers of itself, for `status` and for the log.

use std::path::Path;
use std::process;
use std::time::Duration;

use super::protocol::{AgentStatus, ConfigState, ConfigStatus, Reload, ReloadResult, Spared};
use crate::host::clock::Wall;
use crate::reconcile::drift::Drift;

/// Is the memory of an agent.
#[derive(Clone, Debug)]
pub struct Record {
    since: String,
    config: ConfigStatus,
    last_reload: Option<Reload>,
}

impl Record {
    /// Begins with a file that was applied.
    pub fn new(file: &Path) -> Self {
        Self {
            since: Wall::now().to_string(),
            config: applied(file),
            last_reload: None,
        }
    }

    /// Notes that the node is what a file says. Tells whether it was refused before.
    pub fn applied(&mut self, file: &Path) -> bool {
        let was_refused = self.config.state == ConfigState::Refused;
        if was_refused || self.config.file != file {
            self.config = applied(file);
        }
        was_refused
    }

    /// Tells whether the file that is there was refused.
    pub fn is_refused(&self) -> bool {
        self.config.state == ConfigState::Refused
    }

    /// Notes that a file was not taken. Tells whether the reason is a new one.
    pub fn refused(&mut self, file: &Path, error: &str) -> bool {
        if self.config.error.as_deref() == Some(error) {
            return false;
        }
        self.config = ConfigStatus {
            file: file.to_owned(),
            state: ConfigState::Refused,
            error: Some(error.to_owned()),
            since: Some(Wall::now().to_string()),
        };
        true
    }

    /// Notes how a file was read anew.
    pub fn reloaded(
        &mut self,
        result: ReloadResult,
        steps: usize,
        took: Duration,
        error: Option<String>,
    ) -> Reload {
        let reload = Reload {
            result,
            steps,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            time: Wall::now().to_string(),
            error,
        };
        self.last_reload = Some(reload.clone());
        reload
    }

    /// Describes the agent.
    pub fn status(&self, spared: Vec<Spared>, drift: Drift) -> AgentStatus {
        AgentStatus {
            pid: process::id(),
            since: self.since.clone(),
            config: self.config.clone(),
            last_reload: self.last_reload.clone(),
            spared,
            drift,
        }
    }
}

fn applied(file: &Path) -> ConfigStatus {
    ConfigStatus {
        since: Some(Wall::now().to_string()),
        ..ConfigStatus::applied(file.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_new_once_and_lasts_until_a_file_is_applied() {
        let file = Path::new("/etc/a.toml");
        let mut record = Record::new(file);
        let state = |record: &Record| record.status(Vec::new(), Drift::default()).config.state;

        assert!(!record.applied(file), "nothing was refused");
        assert!(record.refused(file, "no"));
        assert!(!record.refused(file, "no"), "the same again");
        assert!(record.refused(file, "never"), "another reason");
        assert_eq!(state(&record), ConfigState::Refused);

        assert!(record.applied(file), "it was refused");
        assert_eq!(state(&record), ConfigState::Applied);
        assert!(record.refused(file, "never"), "it was good meanwhile");
    }
}
