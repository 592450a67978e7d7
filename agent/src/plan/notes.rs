//! What a person should know beside the steps of a plan: the mode that was chosen, and warnings.

use std::fmt;

use super::host_routing::Choice;
use super::warning::Warning;

/// Holds what is said beside the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// How packets get from one device to the other; `None` if nothing is desired.
    pub host_routing: Option<Choice>,
    pub warnings: Vec<Warning>,
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
        Ok(())
    }
}
