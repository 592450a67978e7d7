//! A step, and the plan that is made of them.
//!
//! `diff` makes plans, `reconcile` carries them out, `render` and `command` print them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::notes::Notes;
use super::object::{Key, Netns, State, Value};

/// Changes one object; what vanishes with a removed object has no step of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub key: Key,
    /// What is there; `None` for an addition.
    pub before: Option<Value>,
    /// What shall be there; `None` for a removal. The same as `before` if the object is right
    /// but has to be written again.
    pub after: Option<Value>,
    /// Why the step is needed.
    pub reason: String,
    /// What it may cost, if it may cost anything.
    pub risk: Option<String>,
}

/// Tells what a step does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Add,
    Change,
    Remove,
}

impl Action {
    /// Returns the character that stands before a printed step.
    pub fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
        }
    }
}

impl Step {
    /// Returns what the step does to its object.
    pub fn action(&self) -> Action {
        match (&self.before, &self.after) {
            (None, _) => Action::Add,
            (Some(_), Some(_)) => Action::Change,
            (Some(_), None) => Action::Remove,
        }
    }
}

/// Tells how an endpoint's links are found, for printing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the host-side link.
    pub link: String,
    /// Namespace of the endpoint's own link, where it is known.
    pub netns: Option<Netns>,
}

/// Is an ordered list of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Endpoints that the steps speak of, by name.
    pub places: BTreeMap<String, Place>,
    /// What is said beside the steps; the caller that knows adds it.
    pub notes: Notes,
}

impl Plan {
    /// Tells whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns how many steps do this.
    pub fn count(&self, action: Action) -> usize {
        self.steps
            .iter()
            .filter(|step| step.action() == action)
            .count()
    }
}

/// Returns the places of all endpoints; where two states differ, the later one counts.
pub(super) fn places<'a>(states: impl IntoIterator<Item = &'a State>) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for (key, value) in states.into_iter().flatten() {
        if let (Key::EndpointLink(name), Value::EndpointLink { link, netns, .. }) = (key, value) {
            let place = Place {
                link: link.clone(),
                netns: netns.clone(),
            };
            places.insert(name.clone(), place);
        }
    }
    places
}
