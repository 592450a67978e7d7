//! What the files of a node said when they were applied, in `<state-dir>/<node>/edition.json`.
//!
//! The files themselves may have been edited since, as an operator does before `ciliate try`. So
//! a rollback, and an agent that keeps what somebody else applied, read this copy and not the
//! files.
//!
//! It is replaced as a whole, and only if it changed; only root reads it. It need not survive the
//! machine: what it speaks of does not either.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::FileError;

const NAME: &str = "edition.json";

/// Who may read what files of the operator say, which only root may read, perhaps.
const MODE: u32 = 0o600;

/// Holds the files of a node as they were at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    /// The file that was named, by a path that leads to it from every folder.
    pub file: PathBuf,
    /// What it said, then what each file said that belongs to it, in the order of merging.
    pub texts: Vec<Text>,
}

/// Is what one file said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The path as messages show it.
    pub path: String,
    pub text: String,
}

impl Edition {
    /// Reads what was applied last, if that is recorded; a damaged record counts as none.
    ///
    /// # Errors
    /// If the record is there and cannot be read.
    pub fn load(directory: &Path) -> Result<Option<Self>, FileError> {
        load(&directory.join(NAME))
    }

    /// Records this as what was applied last, unless it is recorded already.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), FileError> {
        if Self::load(directory)?.as_ref() == Some(self) {
            return Ok(());
        }
        save(&directory.join(NAME), self)
    }

    /// Removes the record, if there is one.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(directory: &Path) -> Result<(), FileError> {
        remove(&directory.join(NAME))
    }
}

/// Reads a record; one that is damaged counts as none.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => {
            let bytes = other.map_err(FileError::at("read", path))?;
            Ok(serde_json::from_slice(&bytes).ok())
        }
    }
}

/// Replaces a record: a reader sees the old or the new content.
pub(super) fn save(path: &Path, record: &impl Serialize) -> Result<(), FileError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(FileError::at("create directory", directory))?;
    }
    let text = serde_json::to_vec(record).expect("a record is plain data");
    let temporary = temporary(path);
    let options = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&temporary);
    options
        .and_then(|mut file| file.write_all(&text))
        .map_err(FileError::at("write", &temporary))?;
    fs::rename(&temporary, path).map_err(FileError::at("replace", path))
}

/// Removes a record, and what a killed run left beside it.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    for path in [&temporary(path), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(FileError::at("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns where a new content is written first; a killed run leaves it there.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("json.tmp")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn edition(text: &str) -> Edition {
        Edition {
            file: PathBuf::from("/etc/ciliate/ciliate.toml"),
            texts: vec![Text {
                path: "ciliate.toml".to_owned(),
                text: text.to_owned(),
            }],
        }
    }

    #[test]
    fn what_was_applied_is_found_again_by_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Edition::load(folder.path()).unwrap(), None);

        edition("one").save(folder.path()).unwrap();
        edition("two").save(folder.path()).unwrap();

        let found = Edition::load(folder.path()).unwrap();
        assert_eq!(found, Some(edition("two")));
        let mode = fs::metadata(folder.path().join(NAME)).unwrap().mode();
        assert_eq!(mode & 0o777, MODE);
        Edition::remove(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_written_when_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        edition("one").save(folder.path()).unwrap();
        let before = fs::metadata(folder.path().join(NAME)).unwrap().ino();

        edition("one").save(folder.path()).unwrap();

        let after = fs::metadata(folder.path().join(NAME)).unwrap().ino();
        assert_eq!(before, after, "it should not be replaced");
    }

    #[test]
    fn damaged_record_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "{").unwrap();

        assert_eq!(Edition::load(folder.path()).unwrap(), None);
    }
}
