//! A plan for people, and as JSON.
//!
//! `ciliate plan` prints this. A caller that knows more (bytes of each map) adds it below.
//!
//! ```text
//! + ip link add cilium_host …
//!     # the node has no cilium_host yet
//! Plan: 1 to add, 0 to change, 0 to remove.
//! ```

use std::fmt;

use serde::Serialize;

use super::object::{Key, Value};
use super::step::{Action, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{} {}", step.action().sign(), self.command(step))?;
            writeln!(f, "    # {}", step.reason)?;
            if let Some(risk) = &step.risk {
                writeln!(f, "    ! {risk}")?;
            }
        }
        write!(f, "{}", self.notes)?;
        writeln!(f, "{}", self.summary())
    }
}

impl Plan {
    /// Returns the last line of a printed plan.
    pub fn summary(&self) -> String {
        if self.is_empty() {
            return "Nothing to do.".to_owned();
        }
        let [add, change, remove] =
            [Action::Add, Action::Change, Action::Remove].map(|action| self.count(action));
        format!("Plan: {add} to add, {change} to change, {remove} to remove.")
    }

    /// Returns what `--json` prints.
    pub fn to_json(&self) -> serde_json::Value {
        let steps = self.steps.iter().map(|step| JsonStep {
            action: step.action(),
            command: self.command(step),
            key: &step.key,
            before: step.before.as_ref(),
            after: step.after.as_ref(),
            reason: &step.reason,
            risk: step.risk.as_deref(),
        });
        serde_json::json!({
            "schema": 1,
            "add": self.count(Action::Add),
            "change": self.count(Action::Change),
            "remove": self.count(Action::Remove),
            "steps": steps.collect::<Vec<_>>(),
            "host_routing": self.notes.host_routing,
            "warnings": self.notes.warnings,
            "maps": self.notes.maps,
            "policy": self.notes.policy,
        })
    }
}

#[derive(Serialize)]
struct JsonStep<'a> {
    action: Action,
    command: String,
    key: &'a Key,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    reason: &'a str,
    risk: Option<&'a str>,
}
