//! What goes wrong with the files of a node's state directory.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Says which file could not be read or written, and why.
#[derive(Debug, Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// Returns a conversion for `map_err`.
    pub(super) fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            operation,
            path,
            source,
        }
    }
}
