//! The machine's own network namespace as text, to be compared before and after.
//!
//! Clocks and counters (lifetimes of leases, tracked connections) change by themselves and are left
//! out. What another program changes in the meantime shows up as a difference.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::privilege::privileged;
use crate::process;

/// What `ip` is asked for.
const QUESTIONS: [&[&str]; 7] = [
    &["link"],
    &["address"],
    &["-4", "route", "show", "table", "all"],
    &["-6", "route", "show", "table", "all"],
    &["-4", "rule"],
    &["-6", "rule"],
    &["netconf"],
];

/// Keys of `ip`'s answers that count down.
const CLOCKS: [&str; 3] = ["valid_life_time", "preferred_life_time", "expires"];

/// Files below `/proc/sys/net` that count.
const COUNTERS: [&str; 2] = ["nf_conntrack_count", "nr_sockets"];

/// A set of lines, each with its subject in front.
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Says for people what is compared; the firewall only where there is `nft` to ask.
    pub(super) fn subjects() -> String {
        let firewall = if has_nft() { "firewall, " } else { "" };
        format!(
            "links, addresses, routes, rules, sysctls, {firewall}namespaces, mounts, BPF pins, /run/ciliate"
        )
    }

    pub(super) fn take() -> Result<Self> {
        let mut lines = BTreeSet::new();
        for question in QUESTIONS {
            lines.extend(ask_ip(question)?);
        }
        // First, for asking may load nf_tables, which brings sysctls.
        lines.extend(label("nft", &ruleset()?));
        read_sysctls(Path::new("/proc/sys/net"), &mut lines);
        lines.extend(label(
            "mount",
            &fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?,
        ));
        for folder in ["/run/netns", "/run/ciliate", "/sys/fs/bpf"] {
            lines.extend(label("file", &listing(folder)?));
        }
        Ok(Self(lines))
    }

    /// Returns lines of either snapshot that the other lacks, marked `-` and `+`.
    pub(super) fn differences(&self, later: &Self) -> Vec<String> {
        let gone = self.0.difference(&later.0).map(|line| format!("- {line}"));
        let new = later.0.difference(&self.0).map(|line| format!("+ {line}"));
        gone.chain(new).collect()
    }
}

fn label(subject: &str, text: &str) -> Vec<String> {
    text.lines()
        .map(|line| format!("{subject}: {line}"))
        .collect()
}

/// Asks `ip` in JSON and returns one line per object.
fn ask_ip(question: &[&str]) -> Result<Vec<String>> {
    let text = process::capture(Command::new("ip").arg("-json").args(question))?;
    let subject = question.join(" ");
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let answer: Value = serde_json::from_str(&text)
        .with_context(|| format!("read the JSON of `ip -json {subject}`"))?;
    let objects = answer.as_array().cloned().unwrap_or_default();
    Ok(objects
        .into_iter()
        .map(|object| format!("{subject}: {}", without_clocks(object)))
        .collect())
}

fn without_clocks(value: Value) -> Value {
    if let Value::Object(map) = value {
        return map
            .into_iter()
            .filter(|(key, _)| !CLOCKS.contains(&key.as_str()))
            .map(|(key, value)| (key, without_clocks(value)))
            .collect();
    }
    if let Value::Array(array) = value {
        return array.into_iter().map(without_clocks).collect();
    }
    value
}

/// Reads all sysctls that the caller may read; the others are the same before and after.
fn read_sysctls(folder: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_sysctls(&path, lines);
        } else if !COUNTERS.iter().any(|counter| path.ends_with(counter))
            && let Ok(value) = fs::read_to_string(&path)
        {
            lines.insert(format!("sysctl: {} = {}", path.display(), value.trim()));
        }
    }
}

fn has_nft() -> bool {
    ["/usr/sbin/nft", "/sbin/nft"]
        .iter()
        .any(|nft| Path::new(nft).exists())
}

/// Returns the nftables ruleset without its counters, or nothing where there is no nft.
fn ruleset() -> Result<String> {
    if !has_nft() {
        return Ok(String::new());
    }
    process::capture(privileged("nft").args(["--stateless", "list", "ruleset"]))
}

/// Lists all files below a folder; one that does not exist has none.
fn listing(folder: &str) -> Result<String> {
    if !Path::new(folder).exists() {
        return Ok(String::new());
    }
    process::capture(privileged("find").args([folder, "-mindepth", "1"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_do_not_count_as_a_difference() {
        let address = serde_json::json!([{"local": "192.0.2.1", "valid_life_time": 3600}]);

        assert_eq!(
            without_clocks(address).to_string(),
            r#"[{"local":"192.0.2.1"}]"#
        );
    }

    #[test]
    fn differences_name_what_went_and_what_came() {
        let before = Snapshot(BTreeSet::from(["link: a".to_owned(), "link: b".to_owned()]));
        let after = Snapshot(BTreeSet::from(["link: b".to_owned(), "link: c".to_owned()]));

        assert_eq!(before.differences(&after), ["- link: a", "+ link: c"]);
    }
}
