//! Desired − observed → ordered steps.
//!
//! Order: additions and changes in the order of keys, each preceded by the removals that it
//! needs; then the other removals, in reverse order; the generation last of all, because it
//! makes flows be decided again by what is then in the maps.
//!
//! What is already so without us (a bpffs, a sysctl, the address of a device) is left alone: no step, and not ours.
//! The same inputs always give the same plan.

use std::collections::BTreeSet;

use super::cutover;
use super::departure::Departures;
use super::notes::Notes;
use super::object::{Ambient, Key, Link, Observed, State, Value};
use super::reason;
use super::risk;
use super::step::{Plan, Step, places};

/// Returns the steps from what was observed to what is desired.
pub fn plan(desired: &State, observed: &Observed) -> Plan {
    let objects = cutover::with_fresh_tables(desired, &observed.objects);
    Diff::new(
        desired,
        &observed.objects,
        &objects,
        Some(&observed.ambient),
    )
    .run(false)
}

/// Returns the same as [`plan`] after an interrupted run, whose half-written maps flows may have
/// been decided by: the generation changes even if the maps are right.
pub fn resume(desired: &State, observed: &Observed) -> Plan {
    let objects = cutover::with_fresh_tables(desired, &observed.objects);
    Diff::new(
        desired,
        &observed.objects,
        &objects,
        Some(&observed.ambient),
    )
    .run(true)
}

/// Returns the steps that bring an earlier state back exactly, whoever else could have made some
/// of its objects so.
pub fn restore(before: &State, now: &State) -> Plan {
    let objects = cutover::with_fresh_tables(before, now);
    let mut plan = Diff::new(before, now, &objects, None).run(false);
    for step in &mut plan.steps {
        "it was so before".clone_into(&mut step.reason);
    }
    plan
}

struct Diff<'a> {
    desired: &'a State,
    observed: &'a State,
    /// What others made; `None` if only our own objects count.
    ambient: Option<&'a Ambient>,
    departures: Departures,
    removed: BTreeSet<Key>,
    /// Whether the tables are exchanged.
    is_cut_over: bool,
    steps: Vec<Step>,
}

impl<'a> Diff<'a> {
    /// Compares with what is observed, which is what was `found` less what vanishes with its tables.
    fn new(
        desired: &'a State,
        found: &'a State,
        observed: &'a State,
        ambient: Option<&'a Ambient>,
    ) -> Self {
        Self {
            is_cut_over: cutover::is_under_way(desired, found),
            desired,
            observed,
            ambient,
            departures: Departures::find(desired, observed, ambient.is_some()),
            removed: BTreeSet::new(),
            steps: Vec::new(),
        }
    }

    fn run(mut self, interrupted: bool) -> Plan {
        // While tables are exchanged, programs are replaced once the new tables are complete.
        let waits = |key: &Key| {
            let replaces = matches!(key, Key::Attachment(..)) && self.present(key).is_some();
            self.is_cut_over && replaces
        };
        let (late, early): (Vec<_>, Vec<_>) = self.desired.iter().partition(|(key, _)| waits(key));
        for (key, want) in early.into_iter().chain(late) {
            if *key != Key::Generation {
                self.bring_about(key, want);
            }
        }
        let leaving: Vec<Key> = self.departures.leaving.keys().rev().cloned().collect();
        for key in &leaving {
            self.remove(key);
        }
        if self.is_cut_over && !self.removed.contains(&Key::Former) {
            let reason = reason::of_exchange();
            self.push(&Key::Former, Some(&Value::Former), None, reason, None);
        }
        self.bump_generation(interrupted);
        Plan {
            steps: self.steps,
            places: places([self.observed, self.desired]),
            notes: Notes::default(),
        }
    }

    /// Adds or changes one object, unless it is as it shall be.
    fn bring_about(&mut self, key: &Key, want: &Value) {
        let before = self.present(key);
        let unchanged = match before {
            Some(before) => before == want && !self.is_outdated(key),
            None => self.is_so_without_us(key, want),
        };
        if unchanged {
            return;
        }
        for blocking in self.departures.before(self.observed, key, want) {
            self.remove(&blocking);
        }
        let why = self.departures.leaving.get(key);
        let reason = match before {
            Some(before) => reason::of_change(key, before, want),
            None => reason::of_addition(key, why),
        };
        let risk = match before {
            Some(before) => risk::of_change(key, before, want),
            None => risk::of_addition(key),
        };
        self.push(key, before, Some(want), reason, risk);
    }

    /// Removes one object, unless a step does so already.
    fn remove(&mut self, key: &Key) {
        if !self.removed.insert(key.clone()) {
            return;
        }
        let why = &self.departures.leaving[key];
        let everything = self.desired.is_empty();
        let reason = reason::of_removal(key, why, everything);
        let risk = risk::of_removal(key, why);
        let before = self.observed.get(key);
        self.push(key, before, None, reason, risk);
    }

    fn bump_generation(&mut self, interrupted: bool) {
        let Some(want) = self.desired.get(&Key::Generation) else {
            return;
        };
        let before = self.present(&Key::Generation);
        let entries_change = self.steps.iter().any(|step| step.key.decides());
        if before == Some(want) && !entries_change && !interrupted {
            return;
        }
        let reason = reason::of_generation(before.is_some(), entries_change, interrupted);
        self.push(&Key::Generation, before, Some(want), reason, None);
    }

    fn push(
        &mut self,
        key: &Key,
        before: Option<&Value>,
        after: Option<&Value>,
        reason: String,
        risk: Option<String>,
    ) {
        let (before, after) = (before.cloned(), after.cloned());
        self.steps.push(Step {
            key: key.clone(),
            before,
            after,
            reason,
            risk,
        });
    }

    /// Returns the observed object, unless it leaves or vanishes.
    fn present(&self, key: &Key) -> Option<&'a Value> {
        self.observed
            .get(key)
            .filter(|_| self.departures.stays(key))
    }

    /// Tells whether nobody has to do anything about an object that we do not have.
    fn is_so_without_us(&self, key: &Key, want: &Value) -> bool {
        let Some(ambient) = self.ambient else {
            return false;
        };
        match (key, want) {
            (Key::Bpffs, _) => ambient.bpffs,
            (Key::Sysctl(path), Value::Sysctl { value }) => {
                // A link that is made anew has other values than the one that was looked at.
                let owners = key.owners();
                let owner_stays = owners.iter().all(|owner| self.present(owner).is_some());
                owner_stays && ambient.sysctls.get(path) == Some(value)
            }
            (Key::Address(Link::Device(_), _), _) => ambient.foreign.contains_key(key),
            (Key::Route(Link::Device(_), _), Value::Route { via, .. }) => {
                // Whatever else others say of it, it leads there.
                let found = ambient.foreign.get(key);
                matches!(found, Some(Value::Route { via: other, .. }) if other == via)
            }
            (Key::DeviceMtu(_), _) => ambient.foreign.get(key) == Some(want),
            _ => false,
        }
    }

    /// Tells whether an object must be written again although its value is right.
    fn is_outdated(&self, key: &Key) -> bool {
        if matches!(key, Key::Attachment(..)) {
            // The same program, loaded again, because its tables have another size.
            let before = self.observed.get(&Key::Datapath);
            before.is_some() && before != self.desired.get(&Key::Datapath)
        } else {
            // The node's entry holds the index of cilium_host.
            *key == Key::NodeEntry && self.departures.leaving.contains_key(&Key::HostLink)
        }
    }
}
