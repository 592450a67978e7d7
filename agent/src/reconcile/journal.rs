//! What a run is about to do, in `<state-dir>/<node>/journal`.
//!
//! One JSON record for each line: first the steps of the plan, then `begin` and `done` with the
//! number of a step, or `undo` with a cause, each handed to the kernel before the run goes on. A
//! run that ends in a known state removes the file, so one that is there tells of an
//! interruption. It informs; the next run converges from what it observes, not from what is
//! written here.
//!
//! It survives a kill, and need not survive the machine: what it speaks of does not either. So
//! nothing is forced to a disk, which would double the time of a run.
//!
//! The file is made by the first step of a run: a run without steps writes nothing.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FileError;
use crate::plan::{Plan, Step};

/// Writes the journal of one node.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
}

/// Tells how far an interrupted run came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOver {
    /// How many steps it had.
    pub steps: usize,
    /// How many of them were done.
    pub done: usize,
    /// Whether a step had failed and the others were being undone.
    pub undoing: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Plan(Vec<Step>),
    Begin(usize),
    Done(usize),
    Undo(String),
}

impl Journal {
    /// Names the journal in a node's state directory; nothing is read or made.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("journal"),
            file: None,
        }
    }

    /// Returns how far an earlier run came that was interrupted, if one was.
    ///
    /// A line that was cut short or damaged counts as not written.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn left_over(&self) -> Result<Option<LeftOver>, FileError> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(FileError::at("read journal", &self.path))?,
        };
        let mut left_over = LeftOver::default();
        let lines = bytes.split(|byte| *byte == b'\n');
        for record in lines.filter_map(|line| serde_json::from_slice(line).ok()) {
            match record {
                Record::Plan(steps) => left_over.steps = steps.len(),
                Record::Begin(_) => {}
                Record::Done(_) => left_over.done += 1,
                Record::Undo(_) => left_over.undoing = true,
            }
        }
        Ok(Some(left_over))
    }

    /// Writes all steps of a run before the first of them, and again when there are more.
    pub(super) fn plan(&mut self, plan: &Plan) -> Result<(), FileError> {
        if self.file.is_none() {
            self.start()?;
        }
        self.append(&Record::Plan(plan.steps.clone()))
    }

    fn start(&mut self) -> Result<(), FileError> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(FileError::at("create directory", directory))?;
        }
        let file = File::create(&self.path);
        self.file = Some(file.map_err(FileError::at("create journal", &self.path))?);
        Ok(())
    }

    pub(super) fn begin(&mut self, step: usize) -> Result<(), FileError> {
        self.append(&Record::Begin(step))
    }

    pub(super) fn done(&mut self, step: usize) -> Result<(), FileError> {
        self.append(&Record::Done(step))
    }

    pub(super) fn undo(&mut self, cause: &str) -> Result<(), FileError> {
        self.append(&Record::Undo(cause.to_owned()))
    }

    /// Removes the file: the node is in a known state.
    pub(super) fn finish(&mut self) -> Result<(), FileError> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(FileError::at("remove journal", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, record: &Record) -> Result<(), FileError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(record).expect("steps are plain data");
        line.push(b'\n');
        file.write_all(&line)
            .map_err(FileError::at("write journal", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn journal_that_was_never_started_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("edge-1");

        let mut journal = Journal::new(&node);
        journal.finish().unwrap();

        assert_eq!(journal.left_over().unwrap(), None);
        assert!(
            !node.exists(),
            "naming a journal should not make its directory"
        );
    }

    #[test]
    fn interrupted_run_tells_how_far_it_came() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(&directory.path().join("edge-1"));

        journal.plan(&Plan::default()).unwrap();
        journal.begin(0).unwrap();
        journal.done(0).unwrap();
        journal.begin(1).unwrap();
        drop(journal);

        let journal = Journal::new(&directory.path().join("edge-1"));
        let expected = LeftOver {
            steps: 0,
            done: 1,
            undoing: false,
        };
        assert_eq!(journal.left_over().unwrap(), Some(expected));
    }

    #[test]
    fn damaged_journal_tells_of_an_interruption_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());

        for damaged in [&b""[..], b"\xff\xfe\n{\"done\":0}\n", b"[]\n\n{\"done\":0}"] {
            fs::write(&journal.path, damaged).unwrap();
            let done = usize::from(!damaged.is_empty());
            assert_eq!(journal.left_over().unwrap().map(|run| run.done), Some(done));
        }
    }

    #[test]
    fn line_that_was_cut_short_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path());
        journal.plan(&Plan::default()).unwrap();
        let mut file = OpenOptions::new().append(true).open(&journal.path).unwrap();
        file.write_all(b"{\"done\":").unwrap();

        let left_over = journal.left_over().unwrap();

        assert_eq!(left_over, Some(LeftOver::default()));
    }
}
