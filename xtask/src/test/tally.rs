//! Counting of tests, read from the closing line of Rust's test runner.
//!
//! The runner's output passes through unchanged while it is read. What it does not count, such as a
//! formatter, adds nothing.

use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines give nothing.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
                .unwrap_or(0)
        };
        Some(Self {
            passed: count("passed"),
            failed: count("failed"),
            ignored: count("ignored"),
        })
    }

    /// Runs a command that runs tests, passes its output on, and adds its counts.
    ///
    /// # Errors
    /// The command ends with another status than 0, as a test runner does when a test failed.
    pub(super) fn count(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run `{}`", process::describe(command)))?;
        let stdout = child.stdout.take().expect("standard output is piped");
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            *self += Self::from_line(&line).unwrap_or_default();
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("run `{}`: {status}", process::describe(command));
        }
        Ok(())
    }

    pub(super) fn require_no_failure(self) -> Result<()> {
        if self.failed > 0 {
            bail!("{} failed", self.failed);
        }
        Ok(())
    }

    /// Returns the counts for a line of a table; nothing when nothing was counted.
    pub(super) fn brief(self) -> String {
        if self == Self::default() {
            return String::new();
        }
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_line_of_the_test_runner_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";

        assert_eq!(
            Tally::from_line(line),
            Some(Tally {
                passed: 12,
                failed: 3,
                ignored: 1
            })
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Tally::from_line("test config::empty ... ok"), None);
    }
}
