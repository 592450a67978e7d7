//! Walks between all golden states on a fake kernel: every state is reached from every other,
//! whatever fails, is killed or drifts in between.
//!
//! The walk is random with a fixed seed; `WALK_SEED` and `WALK_STEPS` choose another one.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the fake kernel names the objects that it treats in a special way"
)]
#![expect(clippy::unwrap_used, reason = "a test stops where it stands")]

use std::path::Path;

use ciliate::plan::object::{Ambient, Key, Link, State, Value};
use ciliate::plan::{Plan, plan};
use ciliate::reconcile::{ApplyError, Failure, Journal, Kernel as _, apply, preview};
use ciliate::topology::Topology;
use fake::{FakeKernel, Fault};
use lab::{DIGEST, ambient, desired_of, lab};
use tempfile::TempDir;

mod fake;
mod lab;

/// Returns what surrounds the fake kernel's node.
fn surroundings() -> Ambient {
    Ambient {
        ra_devices: vec!["eth0".to_owned()],
        ..ambient()
    }
}

fn state_of(topology: &Topology) -> State {
    desired_of(topology, &surroundings())
}

/// Returns every state that a golden plan speaks of.
fn states() -> Vec<State> {
    let ambient = surroundings();
    let newer = Ambient {
        digest: DIGEST.replace('1', "2"),
        ..ambient.clone()
    };
    let without_tcx = Ambient {
        tcx: false,
        reassembly: false,
        ..ambient.clone()
    };
    let topologies = [
        lab(),
        lab::with_endpoints(&[]),
        lab::with_endpoints(&["web"]),
        lab::with_endpoints(&["api", "db", "web"]),
        lab::renamed(),
        lab::moved(),
        lab::swapped(),
        lab::relabelled(),
        lab::replaced_namespace(),
        lab::narrow(),
        lab::v4_only(),
        lab::v6_only(),
        lab::renumbered(),
        lab::crowd(),
        // Its only endpoint has a number in the crowd that needs larger tables.
        lab::with_endpoints(&["box15"]),
        lab::outside(),
        lab::configured(),
        lab::retranslated(),
        lab::legacy(),
        lab::exchanged(),
        lab::routed(),
        Topology {
            endpoint_routes: true,
            ..lab::swapped()
        },
    ];
    let mut states: Vec<State> = topologies.iter().map(state_of).collect();
    states.push(desired_of(&lab(), &newer));
    states.push(desired_of(&lab(), &without_tcx));
    states.push(State::new());
    states
}

/// Returns a directory that costs nothing to synchronise, where there is one.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

struct Machine {
    kernel: FakeKernel,
    directory: TempDir,
}

impl Machine {
    fn new(bpffs: bool) -> Self {
        Self {
            kernel: FakeKernel::new(bpffs),
            directory: scratch(),
        }
    }

    /// Returns a machine that came to this state without trouble.
    fn at(state: &State) -> Self {
        let mut machine = Self::new(false);
        machine.reach(state);
        machine
    }

    fn journal(&self) -> Journal {
        Journal::new(self.directory.path())
    }

    fn apply(&mut self, desired: &State) -> Result<Plan, ApplyError> {
        let mut journal = self.journal();
        apply(&mut self.kernel, desired, &mut journal).map(|report| report.plan)
    }

    /// Applies without faults and asserts that the state is reached.
    fn reach(&mut self, desired: &State) {
        self.kernel.begin([]);
        self.apply(desired).unwrap();
        self.kernel.drifted = false;

        let observed = self.kernel.observe(desired).unwrap();
        assert!(
            plan(desired, &observed).is_empty(),
            "the second plan should be empty"
        );
        assert_eq!(
            self.journal().left_over().unwrap(),
            None,
            "the journal should be gone"
        );
        let may_be_without_us = |key: &Key| matches!(key, Key::Sysctl(_) | Key::Bpffs);
        for key in desired.keys().filter(|key| !may_be_without_us(key)) {
            assert_eq!(
                observed.objects.get(key),
                desired.get(key),
                "{key:?} should be there"
            );
        }
        for key in observed.objects.keys() {
            assert!(desired.contains_key(key), "{key:?} should have gone");
        }
    }

    /// Applies with a failing step and asserts that nothing changed.
    fn fail(&mut self, desired: &State, step: usize, fault: Fault) {
        let before = self.kernel.snapshot();
        self.kernel.begin([(step, fault)]);

        let failure = failure(self.apply(desired));

        assert_eq!(failure.done, step, "{failure}");
        assert!(failure.not_undone.is_empty(), "{failure}");
        let after = self.kernel.snapshot();
        assert_eq!(after.1, before.1, "step {step} ({fault:?}) left a sysctl");
        assert_eq!(
            after.2, before.2,
            "step {step} ({fault:?}) left an original"
        );
        assert_same(&after.0, &before.0);
        assert_eq!(
            self.journal().left_over().unwrap(),
            None,
            "the journal should be gone"
        );
    }

    /// Applies and is killed before a step; the last one is the verification.
    fn kill(&mut self, desired: &State, step: usize) {
        self.kernel.begin([(step, Fault::Kill)]);
        self.apply(desired).unwrap_err();
        self.kernel.begin([]);
    }

    /// Returns the steps at which a test interferes: all of them, or some of a long plan.
    fn places_to_interfere(&mut self, desired: &State) -> impl Iterator<Item = usize> + use<> {
        let steps = self.steps_to(desired);
        (0..steps).step_by(1 + steps / 50)
    }

    fn steps_to(&mut self, desired: &State) -> usize {
        self.kernel.begin([]);
        let journal = self.journal();
        preview(&mut self.kernel, desired, &journal)
            .unwrap()
            .steps
            .len()
    }
}

/// Asserts that a state is the earlier one, save for programs that could not come back.
fn assert_same(after: &State, before: &State) {
    let keys = |state: &State| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(after), keys(before));
    for (key, value) in before {
        if !matches!(value, Value::Attachment { digest: None, .. }) {
            assert_eq!(after.get(key), Some(value), "{key:?} should be as it was");
        }
    }
}

fn failure(result: Result<Plan, ApplyError>) -> Failure {
    let error = result.unwrap_err();
    let ApplyError::Step(failure) = error else {
        panic!("no step failed: {error}");
    };
    *failure
}

/// Returns all pairs of states of which one is the lab.
fn pairs() -> Vec<(State, State)> {
    let lab = states().swap_remove(0);
    let others = || states().into_iter().skip(1);
    let there = others().map(|other| (lab.clone(), other));
    there
        .chain(others().map(|other| (other, lab.clone())))
        .collect()
}

#[test]
fn every_state_is_reached_from_every_other() {
    for from in states() {
        let settled = Machine::at(&from);
        for to in states() {
            let mut machine = Machine {
                kernel: settled.kernel.clone(),
                directory: scratch(),
            };
            machine.reach(&to);
        }
    }
}

#[test]
fn run_that_is_killed_before_any_step_is_completed_by_the_next() {
    for (from, to) in pairs() {
        let mut machine = Machine::at(&from);
        let settled = machine.kernel.clone();
        for step in machine.places_to_interfere(&to) {
            machine.kernel = settled.clone();
            machine.kill(&to, step);

            machine.reach(&to);
        }
    }
}

#[test]
fn run_that_is_killed_before_any_step_can_be_taken_back() {
    for (from, to) in pairs() {
        let mut machine = Machine::at(&from);
        let settled = machine.kernel.clone();
        for step in machine.places_to_interfere(&to) {
            machine.kernel = settled.clone();
            machine.kill(&to, step);

            machine.reach(&from);

            let decided_again = machine.kernel.generation > settled.generation;
            assert!(
                step == 0 || from.is_empty() || decided_again,
                "flows that were decided meanwhile should be decided again"
            );
        }
    }
}

#[test]
fn step_that_fails_leaves_everything_as_it_was() {
    for (from, to) in pairs() {
        let mut machine = Machine::at(&from);
        for step in machine.places_to_interfere(&to) {
            machine.fail(&to, step, Fault::Refuse);
            machine.fail(&to, step, Fault::Half);
        }
    }
}

#[test]
fn random_walk_always_arrives() {
    let mut random = Random(from_environment("WALK_SEED", 0x0005_EED0_F1A6));
    let states = states();
    let mut machine = Machine::new(true);
    let untouched = machine.kernel.snapshot();
    for _ in 0..from_environment("WALK_STEPS", 3000) {
        let to = random.pick(&states).clone();
        match random.below(4) {
            0 => {
                let steps = machine.steps_to(&to);
                let known = machine.journal().left_over().unwrap().is_none();
                if steps > 0 && known {
                    machine.fail(&to, random.below(steps), Fault::Half);
                } else if steps > 0 {
                    machine.kernel.begin([(random.below(steps), Fault::Half)]);
                    machine.apply(&to).unwrap_err();
                }
                continue;
            }
            1 => {
                let steps = machine.steps_to(&to);
                if steps > 0 {
                    machine.kill(&to, random.below(steps + 1));
                }
                continue;
            }
            2 => {
                let mut present: Vec<Key> = machine.kernel.present().into_keys().collect();
                present.retain(|key| !matches!(key, Key::Sysctl(_) | Key::Bpffs));
                if random.below(4) == 0 {
                    machine.kernel.disguise_host_link();
                } else if !present.is_empty() {
                    machine.kernel.lose(random.pick(&present));
                }
            }
            _ => {}
        }
        machine.reach(&to);
    }

    machine.reach(&State::new());

    let (mut objects, sysctls, originals) = machine.kernel.snapshot();
    // A device that was switched on stays on.
    objects.retain(|key, _| !matches!(key, Key::LinkUp(Link::Device(_))));
    assert_eq!(
        (objects, sysctls, originals),
        untouched,
        "nothing of ours should stay"
    );
}

#[test]
fn run_without_steps_writes_no_file() {
    let desired = state_of(&lab());
    let mut machine = Machine::at(&desired);
    std::fs::remove_dir(machine.directory.path()).unwrap();

    machine.kernel.begin([]);
    machine.apply(&desired).unwrap();

    assert_eq!(machine.kernel.executed, 0, "no step should be due");
    assert!(
        !machine.directory.path().exists(),
        "not even a directory should be made"
    );
}

#[test]
fn step_that_does_not_stick_is_named() {
    let desired = state_of(&lab());
    let mut machine = Machine::at(&desired);
    machine
        .kernel
        .begin([(0, Fault::Ignore), (1, Fault::Ignore)]);

    let error = machine.apply(&state_of(&lab::relabelled())).unwrap_err();

    let text = error.to_string();
    let expected = "verify the node: 1 did not stick: bpftool map update POLICY subjects 3";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        machine.journal().left_over().unwrap().is_some(),
        "the journal should stay for the next run"
    );
}

#[test]
fn step_that_does_not_stick_at_first_is_repeated() {
    let mut machine = Machine::at(&state_of(&lab()));
    machine.kernel.begin([(0, Fault::Ignore)]);
    let relabelled = state_of(&lab::relabelled());

    let carried_out = machine.apply(&relabelled).unwrap();

    let commands: Vec<String> = (carried_out.steps.iter())
        .map(|step| carried_out.command(step))
        .collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert_eq!(commands[0], commands[1], "the step should be done twice");
    machine.reach(&relabelled);
}

#[test]
fn failure_of_a_repeated_step_leaves_everything_as_it_was() {
    let before = state_of(&lab());
    let mut machine = Machine::at(&before);
    let snapshot = machine.kernel.snapshot();
    machine
        .kernel
        .begin([(0, Fault::Ignore), (1, Fault::Refuse)]);

    let failure = failure(machine.apply(&state_of(&lab::relabelled())));

    assert_eq!(failure.done, 1);
    assert_same(&machine.kernel.snapshot().0, &snapshot.0);
}

#[test]
fn failed_undo_is_told_and_the_next_run_converges() {
    let lab = state_of(&lab());
    let renamed = state_of(&lab::renamed());
    let mut machine = Machine::at(&lab);
    machine
        .kernel
        .begin([(5, Fault::Refuse), (6, Fault::Refuse)]);

    let failure = failure(machine.apply(&renamed));

    assert!(!failure.not_undone.is_empty(), "{failure}");
    assert!(
        failure.to_string().contains("could not be undone: "),
        "{failure}"
    );
    assert!(
        machine.journal().left_over().unwrap().is_some(),
        "the journal should stay"
    );
    machine.kernel.drifted = true;
    machine.reach(&lab);
}

#[test]
fn failure_names_the_step_its_cause_and_what_was_undone() {
    let mut machine = Machine::new(true);
    machine.kernel.begin([(1, Fault::Refuse)]);

    let error = machine.apply(&state_of(&lab())).unwrap_err();

    assert_eq!(
        error.to_string(),
        "ip link add cilium_host address 02:00:00:00:00:01 mtu 1500 type veth peer name \
         cilium_net address 02:00:00:00:00:02: refused; the step before it was undone"
    );
}

/// Is a generator of numbers that are random enough to walk by (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}
