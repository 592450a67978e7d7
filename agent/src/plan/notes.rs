//! What a person should know beside the steps of a plan: the mode that was chosen, warnings, and how
//! large things are.

use std::fmt;

use serde::Serialize;

use super::host_routing::Choice;
use super::warning::{NO_LEASE, Warning};
use crate::topology::policy::Policy;

/// Holds what is said beside the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// How packets get from one device to the other; `None` if nothing is desired.
    pub host_routing: Option<Choice>,
    pub warnings: Vec<Warning>,
    /// What the maps take; empty if they are not asked for.
    pub maps: Vec<MapMemory>,
    /// How large the policy is; `None` if there are no rules, or it is not asked for.
    pub policy: Option<PolicySize>,
}

/// Is the memory of one map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapMemory {
    pub name: String,
    /// How many entries it has room for.
    pub entries: u32,
    pub bytes: u64,
}

/// Is how much a policy takes of its tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicySize {
    pub entries: usize,
    pub ranges: usize,
    pub prefixes: usize,
    /// In the order of the file.
    pub rules: Vec<RuleSize>,
}

/// Is how much of it a rule has part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSize {
    /// `file:line:column`.
    pub place: String,
    pub description: Option<String>,
    /// Entries and ranges.
    pub entries: usize,
}

impl PolicySize {
    /// Measures the policy of a node, if it has rules.
    pub fn of(policy: &Policy) -> Option<Self> {
        let rules = policy.rules.iter().zip(&policy.rule_entries);
        let tables = &policy.tables;
        (!policy.rules.is_empty()).then(|| Self {
            entries: tables.entries.len(),
            ranges: tables.ranges.len(),
            prefixes: tables.prefixes.len(),
            rules: rules
                .map(|(rule, entries)| RuleSize {
                    place: rule.place.clone(),
                    description: rule.description.clone(),
                    entries: *entries,
                })
                .collect(),
        })
    }
}

impl fmt::Display for PolicySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            entries,
            ranges,
            prefixes,
            rules,
        } = self;
        writeln!(
            f,
            "Policy: {entries} entries, {ranges} ranges, {prefixes} prefixes"
        )?;
        for rule in rules {
            let (place, entries) = (&rule.place, rule.entries);
            write!(f, "    {entries:>9} entries and ranges by {place}")?;
            match &rule.description {
                Some(description) => writeln!(f, " ({description})")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl Notes {
    /// Returns what `apply` refuses to begin with, unless it is forced.
    pub fn stops(&self) -> Vec<&Warning> {
        self.warnings
            .iter()
            .filter(|warning| warning.stops)
            .collect()
    }

    /// Logs what is noted.
    pub fn log(&self) {
        if let Some(choice) = &self.host_routing {
            log::info!("host routing: {choice}");
        }
        for warning in &self.warnings {
            if warning.code == NO_LEASE {
                // Who asks for one says so when nobody answers.
                log::info!("{warning}");
            } else {
                log::warn!("{warning}");
            }
        }
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(choice) = &self.host_routing {
            writeln!(f, "Host routing: {choice}.")?;
        }
        for warning in &self.warnings {
            writeln!(f, "Warning {}: {}", warning.code, warning.text)?;
            writeln!(f, "    = help: {}", warning.remedy)?;
            for command in &warning.commands {
                writeln!(f, "        {command}")?;
            }
        }
        if let Some(policy) = &self.policy {
            write!(f, "{policy}")?;
        }
        if !self.maps.is_empty() {
            let bytes: u64 = self.maps.iter().map(|map| map.bytes).sum();
            writeln!(f, "Maps: {}, {} KiB together", self.maps.len(), kib(bytes))?;
        }
        for map in &self.maps {
            let (name, entries) = (&map.name, map.entries);
            writeln!(
                f,
                "    {name:<12} {entries:>9} entries {:>9} KiB",
                kib(map.bytes)
            )?;
        }
        Ok(())
    }
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}
