//! Brings back what was there before a run whose step failed.
//!
//! This is the same mechanism as everything else: what was observed before the run is desired
//! now. So what vanished with a removed link comes back with it, in an order that works, and a
//! step that failed half-way is undone by what it left and not by what it should have done.
//! Only objects that the run was about are touched. Failures are collected.

use std::collections::BTreeSet;

use super::Kernel;
use crate::plan::object::{Key, State, Value};
use crate::plan::{self, Plan};

/// Says what was undone, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Undo {
    pub(super) undone: Vec<String>,
    pub(super) failed: Vec<String>,
}

/// Brings back what `plan` changed or was going to change.
pub(super) fn undo(kernel: &mut impl Kernel, desired: &State, before: &State, plan: &Plan) -> Undo {
    let mut outcome = Undo::default();
    // Both tell where to look; where an endpoint has moved, where it was before counts.
    let mut places = desired.clone();
    places.extend(before.clone());
    // A namespace that vanished during the run hinders the first look; a look at nothing in
    // particular enters no namespace, and finds all links all the same.
    let looked = kernel.observe(&places).or_else(|error| {
        log::warn!("observe the node: {error}: undoing what can be seen from outside");
        kernel.observe(&State::new())
    });
    let now = match looked {
        Ok(observed) => observed.objects,
        Err(error) => {
            outcome.failed.push(format!("observe the node: {error}"));
            return outcome;
        }
    };
    let plan = plan::restore(&target(before, &now, plan), &now);
    for step in &plan.steps {
        let command = plan.command(step);
        log::debug!("undo: {} {command}", step.action().sign());
        match kernel.execute(step) {
            Ok(()) => outcome.undone.push(command),
            Err(error) => outcome.failed.push(format!("{command}: {error}")),
        }
    }
    outcome
}

/// Returns the present state with the run's objects, and what they own, as they were before.
fn target(before: &State, now: &State, plan: &Plan) -> State {
    let keys: BTreeSet<&Key> = plan.steps.iter().map(|step| &step.key).collect();
    let concerned =
        |key: &Key| keys.contains(key) || key.owners().iter().any(|owner| keys.contains(owner));
    let others = now.iter().filter(|(key, _)| !concerned(key));
    let ours = before.iter().filter(|(key, _)| concerned(key));
    let pairs = others.chain(ours);
    let mut target = pairs
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    pin_programs(&mut target, now);
    target
}

/// Puts the pinned program in the place of one that is not pinned: nothing can bring that back.
/// Where none is pinned, the present one stays.
fn pin_programs(target: &mut State, now: &State) {
    let pinned = match target.get(&Key::Datapath) {
        Some(Value::Datapath { digest, .. }) => Some(digest.clone()),
        _ => None,
    };
    for (key, value) in target {
        let Value::Attachment { digest, .. } = value else {
            continue;
        };
        if let Some(pinned) = &pinned {
            digest.get_or_insert_with(|| pinned.clone());
        } else if let (None, Some(present)) = (digest, now.get(key)) {
            *value = present.clone();
        }
    }
}
