//! Rules and terms on a line, for people and in JSON.

use serde::Serialize;

use crate::config::Config;
use crate::plan::policy::Direction;
use crate::topology::policy::TermInfo;

/// Shows a rule.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RuleLine {
    pub(super) place: String,
    pub(super) description: Option<String>,
}

/// Shows a term.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TermLine {
    /// Its number in the tables.
    pub(super) number: u16,
    pub(super) effect: &'static str,
    pub(super) peers: String,
    pub(super) ports: String,
    #[serde(flatten)]
    pub(super) rule: RuleLine,
}

impl RuleLine {
    /// Shows the rule at a place of the file.
    pub(super) fn at(config: &Config, idx: usize) -> Option<Self> {
        let rule = config.policy.rules.get(idx)?;
        Some(Self {
            place: rule.place.clone(),
            description: rule.description.clone(),
        })
    }

    pub(super) fn text(&self) -> String {
        match &self.description {
            Some(description) => format!("{} ({description})", self.place),
            None => self.place.clone(),
        }
    }
}

impl TermLine {
    pub(super) fn new(number: u16, term: &TermInfo) -> Self {
        Self {
            number,
            effect: match (term.denies, term.rejects) {
                (false, _) => "allow",
                (true, false) => "deny",
                (true, true) => "reject",
            },
            peers: term.peers.clone(),
            ports: term.ports.clone(),
            rule: RuleLine {
                place: term.place.clone(),
                description: term.description.clone(),
            },
        }
    }

    /// Returns what it says in words, without its place.
    pub(super) fn says(&self) -> String {
        format!("{} {} at {}", self.effect, self.peers, self.ports)
    }
}

/// Returns the word for a direction.
pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}
