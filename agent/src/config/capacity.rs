//! `[maps]`: how many entries the tables have.

use super::diagnostic::Diagnostic;
use super::table::{Entry, Field, Keys, inner};
use super::value;

static MAPS: Keys = Keys {
    table: "[maps]",
    known: &["flows", "bindings"],
    later: &[],
};

/// Fewest and most entries of a table of one family.
const ENTRIES: (u32, u32) = (1024, 1 << 22);

/// Gives the sizes that a file wants; `None` leaves them to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Flows of each family.
    pub flows: Option<u32>,
    /// Entries of bindings of each family: two for each binding.
    pub bindings: Option<u32>,
}

#[derive(Default)]
pub(super) struct CapacityDraft {
    flows: Field<u32>,
    bindings: Field<u32>,
}

pub(super) fn read(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> CapacityDraft {
    let Some(mut table) = inner(entry, &MAPS, errors) else {
        return CapacityDraft::default();
    };
    let draft = CapacityDraft {
        flows: table.read("flows", entries, errors),
        bindings: table.read("bindings", entries, errors),
    };
    table.finish(errors);
    draft
}

impl CapacityDraft {
    /// Completes a draft without errors.
    pub(super) fn complete(self) -> Capacity {
        Capacity {
            flows: self.flows.into_value(),
            bindings: self.bindings.into_value(),
        }
    }
}

fn entries(entry: &Entry<'_>) -> Result<u32, Diagnostic> {
    value::integer(entry, ENTRIES.0, ENTRIES.1)
}
