//! Cargo builds, always as the caller, and the executables they give.
//!
//! Executables are taken from cargo's own messages, never guessed from folder names: the target folder may lie elsewhere.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{process, workspace};

/// One executable that cargo made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The target's name: of the binary, the test file or the bench
    pub(crate) name: String,
    /// cargo's word for what it is: `bin`, `lib`, `test`, `bench`
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
    /// The package's folder, in which cargo runs tests
    pub(crate) folder: PathBuf,
}

/// Returns a cargo of the toolchain that runs this program, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

/// Builds the shipped, static `ciliate` and returns its path.
pub(crate) fn static_binary() -> Result<PathBuf> {
    let target = workspace::static_target();
    let made = executables(cargo().args([
        "build",
        "--release",
        "--package",
        "ciliate",
        "--target",
        &target,
    ]))?;
    made.into_iter()
        .find(|executable| executable.name == "ciliate" && executable.kind == "bin")
        .map(|executable| executable.path)
        .context("build ciliate: cargo named no executable")
}

/// Builds the test programs of package `tests` without running them.
pub(crate) fn privileged_tests() -> Result<Vec<Executable>> {
    executables(cargo().args(["test", "--no-run", "--package", "tests"]))
}

/// Builds the test programs of package `tests` as static ones, without debug information: they go into a guest's memory.
pub(crate) fn static_tests() -> Result<Vec<Executable>> {
    executables(
        cargo()
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["test", "--no-run", "--package", "tests", "--target"])
            .arg(workspace::static_target()),
    )
}

/// Builds the benches of package `tests` without running them.
pub(crate) fn benches() -> Result<Vec<Executable>> {
    let mut made = executables(cargo().args(["bench", "--no-run", "--package", "tests"]))?;
    made.retain(|executable| executable.kind == "bench");
    Ok(made)
}

fn executables(command: &mut Command) -> Result<Vec<Executable>> {
    command.arg("--message-format=json-render-diagnostics");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run `{}`", process::describe(command)))?;
    if !output.status.success() {
        bail!("run `{}`: {}", process::describe(command), output.status);
    }
    let messages = String::from_utf8(output.stdout).context("read cargo's messages")?;
    Ok(messages.lines().filter_map(executable).collect())
}

/// Reads one of cargo's messages; most of them name no executable.
fn executable(message: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(message).ok()?;
    let folder = PathBuf::from(message["manifest_path"].as_str()?);
    Some(Executable {
        name: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
        folder: folder.parent()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_is_read_from_cargos_message() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml",
            "target":{"kind":["test"],"name":"lab"},"executable":"/w/target/debug/deps/lab-1"}"#;

        let read = executable(message).expect("the message names an executable");

        assert_eq!(read.name, "lab");
        assert_eq!(read.kind, "test");
        assert_eq!(read.folder, PathBuf::from("/w/tests"));
    }

    #[test]
    fn library_is_no_executable() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/ebpf/Cargo.toml",
            "target":{"kind":["lib"],"name":"datapath"},"executable":null}"#;

        assert_eq!(executable(message), None);
    }
}
