//! Cargo builds, always as the caller, and the executables they give.
//!
//! Executables are taken from cargo's own messages, never guessed from folder names: the target folder may lie elsewhere.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{process, workspace};

/// One executable that cargo made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The target's name: of the library, the program or the test file
    pub(crate) name: String,
    /// Whether the test runner is linked into it
    pub(crate) is_test: bool,
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
    program(
        cargo().args([
            "build",
            "--release",
            "--package",
            "ciliate",
            "--target",
            &target,
        ]),
        "ciliate",
    )
}

/// Programs that tests upgrade to: package, program, and the feature that makes it another one.
const VARIANTS: [(&str, &str, &str); 3] = [
    ("ciliate", "ciliate", "other-programs"),
    ("ciliate", "ciliate", "next-schema"),
    ("tests", "interrupted", "next-schema"),
];

/// Builds the programs that tests upgrade to, as `<program>-<feature>` beside the plain ones, and those
/// once more, for they have the same places.
pub(crate) fn variants() -> Result<()> {
    for (package, name, feature) in VARIANTS {
        let build = |features: &[&str]| {
            let mut command = cargo();
            command.args(["build", "--package", package, "--bin", name]);
            program(command.args(features), name)
        };
        let path = build(&["--features", feature])?;
        let copy = path.with_file_name(format!("{name}-{feature}"));
        fs::copy(&path, &copy).with_context(|| format!("write {}", copy.display()))?;
        build(&[])?;
    }
    Ok(())
}

/// Builds all test programs without running them.
pub(crate) fn tests() -> Result<Vec<Executable>> {
    test_programs(cargo().args(["test", "--no-run", "--workspace"]))
}

/// Builds the test programs of package `tests` as static ones, without debug information: they go
/// into a guest's memory.
pub(crate) fn static_tests() -> Result<Vec<Executable>> {
    test_programs(
        cargo()
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["test", "--no-run", "--package", "tests", "--target"])
            .arg(workspace::static_target()),
    )
}

/// Builds the program that measures and returns its path.
pub(crate) fn bench() -> Result<PathBuf> {
    program(
        cargo().args(["build", "--release", "--package", "tests", "--bin", "bench"]),
        "bench",
    )
}

/// Keeps what the test runner is linked into: integration tests bring their package's programs along.
fn test_programs(command: &mut Command) -> Result<Vec<Executable>> {
    let mut made = executables(command)?;
    made.retain(|executable| executable.is_test);
    Ok(made)
}

fn program(command: &mut Command, name: &str) -> Result<PathBuf> {
    executables(command)?
        .into_iter()
        .find(|executable| executable.name == name && !executable.is_test)
        .map(|executable| executable.path)
        .with_context(|| format!("build {name}: cargo named no executable"))
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
        is_test: message["profile"]["test"].as_bool()?,
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
            "target":{"name":"lab"},"profile":{"test":true},"executable":"/w/target/debug/deps/lab-1"}"#;

        let read = executable(message).expect("the message names an executable");

        assert_eq!(read.name, "lab");
        assert!(read.is_test, "the message is about a test");
        assert_eq!(read.folder, PathBuf::from("/w/tests"));
    }

    #[test]
    fn library_is_no_executable() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/w/ebpf/Cargo.toml",
            "target":{"name":"datapath"},"profile":{"test":false},"executable":null}"#;

        assert_eq!(executable(message), None);
    }
}
