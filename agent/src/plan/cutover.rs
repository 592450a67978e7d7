//! Which changes of the datapath exchange its tables, and what that means for a plan.
//!
//! Tables of another size or layout are made beside those that packets are decided by. So everything
//! that the agent writes into tables is written anew, the programs are replaced once it is all there,
//! and then the new tables are put in charge and take over what the old ones remember: that is
//! the removal of [`Key::Former`].

use std::borrow::Cow;

use super::object::{Key, State, Value};

/// Tells whether a change of the datapath exchanges its tables.
pub fn exchanges(before: &Value, after: &Value) -> bool {
    tables(before) != tables(after)
}

/// Returns what tells the tables of one datapath from those of another.
fn tables(value: &Value) -> Option<(u32, Option<u32>, u32)> {
    let Value::Datapath {
        endpoint_slots,
        flows,
        bindings,
        ..
    } = value
    else {
        return None;
    };
    Some((*endpoint_slots, *flows, *bindings))
}

/// Tells whether tables are exchanged on the way from one state to the other, or being exchanged.
pub(super) fn is_under_way(desired: &State, observed: &State) -> bool {
    begins(desired, observed)
        || desired.contains_key(&Key::Datapath) && observed.contains_key(&Key::Former)
}

fn begins(desired: &State, observed: &State) -> bool {
    match (observed.get(&Key::Datapath), desired.get(&Key::Datapath)) {
        (Some(before), Some(after)) => exchanges(before, after),
        _ => false,
    }
}

/// Returns what there is once the tables have been exchanged: new ones have no entries.
pub(super) fn with_fresh_tables<'a>(desired: &State, observed: &'a State) -> Cow<'a, State> {
    if !begins(desired, observed) {
        return Cow::Borrowed(observed);
    }
    let stays = |(key, _): &(&Key, &Value)| !is_entry(key);
    let kept = observed.iter().filter(stays);
    Cow::Owned(
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    )
}

/// Tells whether an object is in the tables.
fn is_entry(key: &Key) -> bool {
    matches!(
        key,
        Key::NodeEntry
            | Key::EndpointEntry(_)
            | Key::DeviceEntry(_)
            | Key::Policy
            | Key::Generation
    )
}
