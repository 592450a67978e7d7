//! The border between what runs as the caller and what runs as root.
//!
//! Builds never cross it. A caller that is not root crosses it by sudo, one command at a time, so that the prompt of sudo and
//! its log show what is done. Nothing that runs beyond the border may write into `target/`; `refuse_foreign_files` checks it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Returns a command that runs as root.
pub(crate) fn privileged(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    command
}

/// Returns a command that runs as root with the given environment variables, which sudo would drop.
pub(crate) fn privileged_with<K, V>(variables: &[(K, V)], program: impl AsRef<OsStr>) -> Command
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    let mut command = privileged("env");
    for (key, value) in variables {
        command.arg(format!("{}={}", key.as_ref(), value.as_ref()));
    }
    command.arg(program);
    command
}

/// Fails if a folder holds a file that is not the caller's, which a later build could not overwrite.
pub(crate) fn refuse_foreign_files(folder: &Path) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let user = nix::unistd::geteuid().as_raw();
    let mut foreign = Vec::new();
    find_foreign(folder, user, &mut foreign)?;
    if let Some(first) = foreign.first() {
        bail!(
            "check owners in {}: {} files belong to somebody else, first {}",
            folder.display(),
            foreign.len(),
            first.display()
        );
    }
    Ok(())
}

fn find_foreign(folder: &Path, user: u32, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.uid() != user {
            found.push(entry.path());
        } else if metadata.is_dir() {
            find_foreign(&entry.path(), user, found)?;
        }
    }
    Ok(())
}
