//! The figures as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::case::Group;
use crate::measure::Spread;

/// Holds everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpu_number: usize,
    /// Digest of the BPF object.
    pub(crate) object: String,
    pub(crate) runs: u32,
    pub(crate) rounds: u32,
    /// A program that returns at once, without a wrapper.
    pub(crate) empty_ns: Spread,
    pub(crate) cases: Vec<Line>,
}

/// Holds the figures of one case; nanoseconds per packet.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) group: Group,
    pub(crate) gross_ns: Spread,
    /// The wrapper in front of a program that returns at once, in the same rounds.
    pub(crate) wrapper_ns: Spread,
    /// Gross less wrapper, round by round.
    pub(crate) net_ns: Spread,
    /// Gross, as a multiple of the empty program of the same round.
    pub(crate) ratio: Spread,
}

/// Is a line that adds two cases up: what one packet costs that passes both hooks.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) group: Group,
    /// Names of the cases.
    pub(crate) parts: [String; 2],
}

impl Report {
    /// Returns the median net figure of a case.
    pub(crate) fn net_ns(&self, id: &str) -> Option<f64> {
        self.cases
            .iter()
            .find(|line| line.id == id)
            .map(|line| line.net_ns.median)
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("make JSON")?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Returns the report as a table.
    ///
    /// # Errors
    /// Never; writing to a string does not fail.
    pub(crate) fn table(&self) -> Result<String> {
        let mut text = String::new();
        let Self {
            kernel,
            cpu,
            cpu_number,
            object,
            runs,
            rounds,
            empty_ns,
            ..
        } = self;
        writeln!(
            text,
            "kernel {kernel}, {cpu}, pinned to CPU {cpu_number}; object {object}"
        )?;
        writeln!(
            text,
            "{rounds} rounds of {runs} runs of each case, the cases taking turns"
        )?;
        writeln!(
            text,
            "net = gross - wrapper of the same round; ratio = gross / empty program"
        )?;
        let Spread { min, median, max } = empty_ns;
        writeln!(
            text,
            "empty program, no wrapper: {median:.1} ns ({min:.1} to {max:.1})"
        )?;
        let groups = [
            (Group::Reference, "reference"),
            (Group::FastPath, "fast path, one hot flow"),
            (Group::Masquerade, "masquerade, one hot flow"),
            (Group::SlowPath, "slow path, on every packet"),
            (Group::Cold, "cold: 100,000 flows in random order"),
            (
                Group::Parts,
                "what it is spent on (from_container to endpoint, TCP, v4, by hand)",
            ),
        ];
        for (group, title) in groups {
            self.group(&mut text, group, title)?;
        }
        text.push_str(NOTES);
        Ok(text)
    }

    fn group(&self, text: &mut String, group: Group, title: &str) -> Result<()> {
        let lines: Vec<&Line> = self
            .cases
            .iter()
            .filter(|line| line.group == group)
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let heads = ["net ns", "min", "max", "gross ns", "ratio"];
        write!(text, "\n{title:<66}")?;
        for head in heads {
            write!(text, "{head:>9}")?;
        }
        writeln!(text)?;
        let mut before: Option<f64> = None;
        for line in lines {
            let Line {
                title,
                net_ns,
                gross_ns,
                ratio,
                ..
            } = line;
            let delta = match before {
                Some(before) if title.starts_with('+') => {
                    format!(" ({:+.1})", net_ns.median - before)
                }
                _ => String::new(),
            };
            write!(text, "  {:<64}", format!("{title}{delta}"))?;
            for figure in [net_ns.median, net_ns.min, net_ns.max, gross_ns.median] {
                write!(text, "{figure:>9.1}")?;
            }
            writeln!(text, "{:>9.2}", ratio.median)?;
            before = Some(net_ns.median);
        }
        Ok(())
    }
}

const NOTES: &str = "
A decision holds for a second: about one run per second takes the slow path, and is part of the
hot figures. A redirect is noted, not carried out, by a test run. \"decided again\" is that slow
path on every packet: what each flow costs once a second.
";
