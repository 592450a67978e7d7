//! Child processes: run, capture, and name the command when it fails.

use std::ffi::OsStr;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Returns the command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs the command with the caller's input and output.
///
/// # Errors
/// The command cannot be started or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run `{}`", describe(command)))?;
    if !status.success() {
        bail!("run `{}`: {status}", describe(command));
    }
    Ok(())
}

/// Runs the command and returns what it wrote and how it ended, whatever that was.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("run `{}`", describe(command)))
}

/// Runs the command and returns its standard output.
///
/// # Errors
/// The command cannot be started or ends with another status than 0; its standard error is part of the message.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "run `{}`: {}: {}",
            describe(command),
            output.status,
            stderr.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
