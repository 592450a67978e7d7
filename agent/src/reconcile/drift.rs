//! What the resident agent repaired, in `<state-dir>/<node>/agent/drift.json`.
//!
//! The agent alone writes it, and only after a repair; `status` reads it. It counts from when the
//! node was set up, whichever agent it was.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileError;

const NAME: &str = "drift.json";
const TEMPORARY: &str = "drift.json.tmp";

/// Tells what was repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// How many objects.
    pub repairs: u64,
    /// The last one, as a command, and why it was needed.
    pub last: Option<String>,
    /// What was undone again and again, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contested: Vec<Contest>,
}

/// Is a repair that somebody keeps undoing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// The repair, as a command.
    pub what: String,
    /// How often it was made in a row.
    pub repairs: u32,
    /// Who perhaps undoes it, if that is known.
    pub by: Option<String>,
    /// When that was noticed last, in seconds since 1970.
    pub at: u64,
}

/// Most contests that are remembered.
const CONTESTS_MAX: usize = 16;

impl Drift {
    fn note(&mut self, contest: Contest) {
        self.contested.retain(|other| other.what != contest.what);
        self.contested.push(contest);
        let excess = self.contested.len().saturating_sub(CONTESTS_MAX);
        self.contested.drain(..excess);
    }
}

/// Is the file of one node.
#[derive(Debug)]
pub struct DriftFile {
    path: PathBuf,
    drift: Drift,
}

impl DriftFile {
    /// Reads the file in an agent's folder; one that is missing or damaged tells of nothing.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(NAME);
        let drift = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Drift::default(),
            other => {
                let bytes = other.map_err(FileError::at("read drift", &path))?;
                serde_json::from_slice(&bytes).unwrap_or_default()
            }
        };
        Ok(Self { path, drift })
    }

    /// Removes the file, if there is one.
    pub fn remove(folder: &Path) {
        for name in [NAME, TEMPORARY] {
            // What stays keeps its folder, which tells.
            drop(fs::remove_file(folder.join(name)));
        }
    }

    /// Returns what was repaired.
    pub fn drift(&self) -> &Drift {
        &self.drift
    }

    /// Counts repairs, the last one as the last, and notes those that were undone before.
    ///
    /// # Errors
    /// If the file cannot be written; they are counted all the same.
    pub fn count(
        &mut self,
        repairs: &[String],
        contests: impl IntoIterator<Item = Contest>,
    ) -> Result<(), FileError> {
        self.drift.repairs += repairs.len() as u64;
        contests
            .into_iter()
            .for_each(|contest| self.drift.note(contest));
        self.drift.last = repairs.last().cloned().or(self.drift.last.take());
        let failed = FileError::at("write drift", &self.path);
        let text = serde_json::to_vec(&self.drift).map_err(|error| failed(error.into()))?;
        // A reader sees the old or the new content.
        let temporary = self.path.with_file_name(TEMPORARY);
        fs::write(&temporary, text).map_err(FileError::at("write drift", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(FileError::at("write drift", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_add_up_from_one_agent_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let repairs = ["one", "two"].map(str::to_owned);

        let mut first = DriftFile::load(folder.path()).unwrap();
        assert_eq!(*first.drift(), Drift::default());
        first.count(&repairs, []).unwrap();
        let mut second = DriftFile::load(folder.path()).unwrap();
        second.count(&repairs[..1], []).unwrap();

        let last = Some("one".to_owned());
        let drift = DriftFile::load(folder.path()).unwrap().drift;
        let contested = Vec::new();
        let expected = Drift {
            repairs: 3,
            last,
            contested,
        };
        assert_eq!(drift, expected);
    }

    #[test]
    fn contest_is_remembered_once_and_not_more_than_a_few_are() {
        let folder = tempfile::tempdir().unwrap();
        let contest = |number: usize, repairs| Contest {
            what: format!("repair {number}"),
            repairs,
            by: None,
            at: 0,
        };
        let mut file = DriftFile::load(folder.path()).unwrap();

        file.count(&[], (0..20).map(|number| contest(number, 4)))
            .unwrap();
        file.count(&[], [contest(7, 5)]).unwrap();

        let contested = DriftFile::load(folder.path()).unwrap().drift.contested;
        assert_eq!(contested.len(), CONTESTS_MAX);
        assert_eq!(contested.last(), Some(&contest(7, 5)));
    }

    #[test]
    fn damaged_file_tells_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "{").unwrap();

        let file = DriftFile::load(folder.path()).unwrap();

        assert_eq!(*file.drift(), Drift::default());
    }
}
