//! `cargo xtask compliance`: the requirements of masquerading, row by row, from what tests saw.
//!
//! The tests of the rows leave a file each in a folder that they are told; the sheet is made of
//! these files and of nothing else. Tests run as root and give their files to the folder's owner.

mod sheet;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use self::sheet::Sheet;
use crate::privilege::privileged_with;
use crate::setup::{self, Group};
use crate::{build, process, workspace};

/// The tests of the rows.
pub(crate) const TESTS: &str = "nat";
/// Tells them where results belong.
pub(crate) const VARIABLE: &str = "CILIATE_COMPLIANCE";
const SHEET: &str = "tests/NAT-COMPLIANCE.md";

/// What each row waits for is time, not a processor: so many run at once.
pub(crate) const THREADS: (&str, &str) = ("RUST_TEST_THREADS", "8");

/// Runs the tests of the rows and writes the sheet, also when some fail.
pub(crate) fn run() -> Result<()> {
    setup::run(Group::Demo)?;
    let binary = build::static_binary()?;
    let folder = empty_folder()?;
    let tests = build::tests()?;
    let Some(test) = tests.iter().find(|test| test.name == TESTS) else {
        bail!("package tests has no test file {TESTS}");
    };
    let variables = [
        ("CILIATE_BINARY", binary.display().to_string()),
        (VARIABLE, folder.display().to_string()),
        (THREADS.0, THREADS.1.to_owned()),
    ];
    let outcome = process::run(privileged_with(&variables, &test.path).current_dir(&test.folder));
    let sheet = Sheet::read(&folder)?;
    let path = workspace::root().join(SHEET);
    fs::write(&path, sheet.text()).with_context(|| format!("write {}", path.display()))?;
    println!("{}: {}", path.display(), sheet.brief());
    outcome?;
    sheet.require_complete()
}

/// Where results belong.
pub(crate) fn folder() -> PathBuf {
    workspace::target().join("nat-compliance")
}

/// Makes the folder of results, without the results of an earlier run.
pub(crate) fn empty_folder() -> Result<PathBuf> {
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Fails unless the sheet in the repository says what the tests have just seen.
pub(crate) fn check() -> Result<()> {
    let sheet = Sheet::read(&folder())?;
    sheet.require_complete()?;
    let path = workspace::root().join(SHEET);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    if text != sheet.text() {
        bail!("{SHEET} is not what the tests saw: run `cargo xtask compliance`");
    }
    println!("{SHEET}: {}", sheet.brief());
    Ok(())
}
