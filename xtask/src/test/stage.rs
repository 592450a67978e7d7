//! What each stage runs.
//!
//! Every stage takes the tally that it adds its tests to and fails at its first error. Tests are
//! built as the caller; those that need root are named here and run through sudo, one program at a
//! time, so that a failure names the program.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Tally;
use crate::build::Executable;
use crate::compliance as sheet;
use crate::privilege::privileged_with;
use crate::setup::{CARGO_DENY, CARGO_FUZZ};
use crate::{bench as benchmark, build as builds, demo as demonstration, process, vm, workspace};

const EXAMPLES: &str = "config-examples";
const FUZZ_FOLDER: &str = "tests/fuzz";
const FUZZ_SECS: u32 = 60;

/// The folder of the package whose tests all need root, and tests elsewhere that do.
const PRIVILEGED_FOLDER: &str = "tests";
const PRIVILEGED_TESTS: [(&str, &str); 1] = [("agent", "host")];

/// Is a test that can run for long, or judge by stricter figures, and what makes it.
struct LongRun {
    /// Its package and its name.
    test: (&'static str, &'static str),
    /// A variable and its value.
    variable: (&'static str, &'static str),
}

const fn long_run(
    test: (&'static str, &'static str),
    variable: (&'static str, &'static str),
) -> LongRun {
    LongRun { test, variable }
}

const LONG_RUNS: [LongRun; 11] = [
    long_run(("agent", "policy"), ("CILIATE_POLICY_PAIRS", "1000000")),
    long_run(
        ("tests", "differential"),
        ("CILIATE_DIFFERENTIAL", "1000000"),
    ),
    long_run(("tests", "policy"), ("CILIATE_GROWTH", "100000")),
    long_run(("tests", "coexist"), ("CILIATE_LAB_ROUNDS", "200")),
    long_run(("tests", "daemon"), ("CILIATE_QUIET_MACHINE", "1")),
    long_run(("tests", "daemon"), ("CILIATE_HOSTILE_SECS", "600")),
    long_run(("tests", "daemon"), ("CILIATE_RELOADS", "10000")),
    long_run(("tests", "lifecycle"), ("CILIATE_KILL_EVERYWHERE", "1")),
    long_run(("tests", "pressure"), ("CILIATE_FLOOD", "1000000")),
    long_run(("tests", "pressure"), ("CILIATE_CROWD", "100000")),
    long_run(("tests", "timing"), ("CILIATE_QUIET_MACHINE", "1")),
];

/// Tells test programs where the agent's static binary is.
const BINARY_VARIABLE: &str = "CILIATE_BINARY";

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(builds::cargo().args(arguments))
}

pub(super) fn format(_: &mut Tally) -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

pub(super) fn lints(_: &mut Tally) -> Result<()> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])
}

/// The programs exist on their own target only, where the stage above does not see them.
pub(super) fn bpf_lints(_: &mut Tally) -> Result<()> {
    process::run(
        builds::cargo()
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3")
            .args([
                "clippy",
                "--release",
                "-Z",
                "build-std=core",
                "--target",
                "bpfel-unknown-none",
            ])
            .args([
                "--package",
                "ciliate-ebpf",
                "--lib",
                "--bin",
                "ciliate-bpf",
                "--target-dir",
            ])
            .arg(workspace::target().join("bpf"))
            .args(["--", "--deny", "warnings"]),
    )?;
    Ok(())
}

pub(super) fn build(_: &mut Tally) -> Result<()> {
    builds::variants()?;
    cargo(&["build", "--workspace"])?;
    builds::static_binary().map(|_| ())
}

pub(super) fn unit(tally: &mut Tally) -> Result<()> {
    for test in builds::tests()?.iter().filter(|test| !needs_root(test)) {
        run_unprivileged(tally, test, iter::empty())?;
    }
    tally.count(builds::cargo().args(["test", "--doc", "--workspace", "--exclude", "xtask"]))
}

/// Runs a test as cargo would: in its package's folder.
fn run_unprivileged(
    tally: &mut Tally,
    test: &Executable,
    variables: impl Iterator<Item = (&'static str, &'static str)>,
) -> Result<()> {
    println!("-- {} ({})", test.name, package(test));
    tally.count(
        Command::new(&test.path)
            .env("CARGO_MANIFEST_DIR", &test.folder)
            .envs(variables)
            .current_dir(&test.folder),
    )
}

pub(super) fn privileged(tally: &mut Tally) -> Result<()> {
    sheet::empty_folder()?;
    run_privileged(tally, false)
}

/// Compares the sheet with what the privileged tests have seen.
pub(super) fn compliance(tally: &mut Tally) -> Result<()> {
    sheet::check()?;
    tally.passed += 1;
    Ok(())
}

/// Runs tests as root, each as cargo would: in its package's folder. For long only those are run
/// that can.
fn run_privileged(tally: &mut Tally, is_long: bool) -> Result<()> {
    let binary = builds::static_binary()?;
    for test in builds::tests()?
        .iter()
        .filter(|test| needs_root(test) && (!is_long || can_run_long(test)))
    {
        println!("-- {} ({})", test.name, package(test));
        let mut variables = vec![
            (BINARY_VARIABLE, binary.display().to_string()),
            ("CARGO_MANIFEST_DIR", test.folder.display().to_string()),
            ("PATH", env::var("PATH").context("read $PATH")?),
            ("RUST_BACKTRACE", "1".to_owned()),
        ];
        if test.name == sheet::TESTS {
            variables.push((sheet::VARIABLE, sheet::folder().display().to_string()));
            variables.push((sheet::THREADS.0, sheet::THREADS.1.to_owned()));
        }
        if is_long {
            let longer = longer(test).map(|(variable, value)| (variable, value.to_owned()));
            variables.extend(longer);
        }
        tally.count(privileged_with(&variables, &test.path).current_dir(&test.folder))?;
    }
    Ok(())
}

/// Returns the variables that make a test run for long.
fn longer(test: &Executable) -> impl Iterator<Item = (&'static str, &'static str)> {
    let runs = LONG_RUNS.iter();
    let of_test = runs.filter(|run| run.test == (&*package(test), &*test.name));
    of_test.map(|run| run.variable)
}

fn can_run_long(test: &Executable) -> bool {
    longer(test).next().is_some()
}

fn needs_root(test: &Executable) -> bool {
    package(test) == PRIVILEGED_FOLDER || PRIVILEGED_TESTS.contains(&(&*package(test), &*test.name))
}

fn package(test: &Executable) -> Cow<'_, str> {
    test.folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
}

/// Checks every file of `config-examples`.
pub(super) fn examples(tally: &mut Tally) -> Result<()> {
    let binary = builds::static_binary()?;
    for file in files_with_suffix(&workspace::root().join(EXAMPLES), "toml")? {
        println!("$ ciliate check {}", file.display());
        process::run(Command::new(&binary).arg("check").arg(&file))?;
        tally.passed += 1;
    }
    if tally.passed == 0 {
        bail!("list {EXAMPLES}: it has no file");
    }
    Ok(())
}

pub(super) fn demo(tally: &mut Tally) -> Result<()> {
    demonstration::show(
        &builds::static_binary()?,
        Path::new(demonstration::LAB_FILE),
    )?;
    tally.passed += 1;
    Ok(())
}

pub(super) fn guest(tally: &mut Tally) -> Result<()> {
    *tally += vm::test("6.1")?;
    Ok(())
}

/// Runs again, for long or more strictly, what other stages run for a moment.
pub(super) fn long_runs(tally: &mut Tally) -> Result<()> {
    let can_run_long = |test: &&Executable| !needs_root(test) && can_run_long(test);
    for test in builds::tests()?.iter().filter(can_run_long) {
        run_unprivileged(tally, test, longer(test))?;
    }
    run_privileged(tally, true)
}

pub(super) fn bench(tally: &mut Tally) -> Result<()> {
    benchmark::measure(true)?;
    tally.passed += 1;
    Ok(())
}

/// Advisories are left out: their database is no package of a registry.
pub(super) fn licences(tally: &mut Tally) -> Result<()> {
    let mut command = CARGO_DENY.command();
    command.current_dir(workspace::root());
    process::run(command.args(["check", "licenses", "bans", "sources"]))?;
    tally.passed += 1;
    Ok(())
}

/// Runs every fuzz target for a minute; the pinned toolchain serves, with its unstable features unlocked.
pub(super) fn fuzz(tally: &mut Tally) -> Result<()> {
    let folder = workspace::root().join(FUZZ_FOLDER);
    for file in files_with_suffix(&folder.join("fuzz_targets"), "rs")? {
        let name = file.file_stem().map(OsString::from).unwrap_or_default();
        process::run(
            CARGO_FUZZ
                .command()
                .current_dir(workspace::root())
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["run", "--fuzz-dir"])
                .arg(&folder)
                .arg(name)
                .arg("--")
                .arg(format!("-max_total_time={FUZZ_SECS}")),
        )?;
        tally.passed += 1;
    }
    Ok(())
}

/// Returns the folder's files of that kind, sorted.
fn files_with_suffix(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == suffix)
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
