//! What a person should know beside the steps of a plan: the mode that was chosen, and warnings.

use std::fmt;

use serde::Serialize;

use super::host_routing::Choice;
use super::warning::Warning;

/// Holds what is said beside the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// How packets get from one device to the other; `None` if nothing is desired.
    pub host_routing: Option<Choice>,
    pub warnings: Vec<Warning>,
    /// What the maps take; empty if they are not asked for.
    pub maps: Vec<MapMemory>,
}

/// Is the memory of one map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapMemory {
    pub name: String,
    /// How many entries it has room for.
    pub entries: u32,
    pub bytes: u64,
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
            log::warn!("{warning}");
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
