//! `ciliate plan`, `ciliate apply` and `ciliate down`: one mechanism, three desired states.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance, Whereabouts};
use crate::daemon::warning::NOT_TAKEN_BACK;
use crate::daemon::{Sparing, consequence};
use crate::host::lock::Lock;
use crate::host::{clock, netns};
use crate::plan::notes::PolicySize;
use crate::plan::object::{Key, Link, State};
use crate::plan::warning::{self, LOCKOUT, NO_LEASE};
use crate::plan::{self, Action, Desired, Notes, Plan, Step};
use crate::reconcile::{self, Edition, Journal, LeaseFile, Report, System, Trial};
use crate::topology::Topology;
use crate::uplink::{Uplinks, Wanted};

/// Is what `apply` is told beside the file.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether to print how long each kind of step took.
    pub timings: bool,
    /// Whether to begin although nothing will pass.
    pub force: bool,
    /// Whether to begin although the caller's connection will be cut.
    pub allow_lockout: bool,
}

impl Options {
    /// Stops at what the caller has not said to go on with.
    fn accept(self, notes: &Notes) -> Result<(), Failure> {
        let mut stops = notes.stops();
        stops.retain(|warning| match warning.code {
            LOCKOUT => !self.allow_lockout,
            _ => !self.force,
        });
        if stops.is_empty() {
            Ok(())
        } else {
            Err(Failure::stopped(&stops))
        }
    }
}

/// Says what becomes of a node of which a device is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: who asks for it should know.
    Refused,
    /// The rest of it, until the device is back.
    Spared,
}

/// Says what of a node has to be there when it is set up.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Everything.
    Whole,
    /// What there is: devices may be missing, and these endpoints have no namespaces.
    Without(&'a BTreeSet<Key>),
}

/// Prints what `apply` would do. Returns the exit code.
///
/// # Errors
/// If the file is wrong or the kernel cannot be read.
pub fn plan(common: &Common, file: &Path, out: &mut dyn Write) -> Result<u8, Failure> {
    let topology = instance::topology(file, common.node.as_deref())?;
    let instance = Instance::new(common, &topology.node);
    let plan = instance.enter(|| {
        let mut system = instance.system()?;
        let desired = desired(&system, &topology, instance.bpffs(), Missing::Refused)?;
        let mut plan = reconcile::preview(&mut system, &desired.state, &instance.journal())?;
        plan.notes = desired.notes;
        plan.notes.policy = PolicySize::of(&topology.policy);
        let makes_maps = plan.steps.iter().any(|step| step.key == Key::Datapath);
        if makes_maps || common.json {
            plan.notes.maps = system.map_memory(&desired.state)?;
        }
        Ok(plan)
    })?;
    print_plan(&plan, common.json, out)?;
    Ok(if plan.is_empty() {
        exit::OK
    } else {
        exit::CHANGES
    })
}

/// Makes the node what the file says.
///
/// # Errors
/// If the file is wrong, or a step fails; what was done is undone then.
pub fn apply(
    common: &Common,
    file: &Path,
    options: Options,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let (topology, edition) = instance::read(file, common.node.as_deref())?;
    let instance = Instance::new(common, &topology.node);
    let report = instance.enter(|| {
        let accept = |notes: &Notes| options.accept(notes);
        let bring_up = || bring_up(common, &topology, &edition, Start::Whole, accept);
        let mut report = bring_up()?;
        if lease(&instance, &topology, &mut report)? {
            let second = bring_up()?;
            report.plan.steps.extend(second.plan.steps);
            let without_agent = report.plan.notes.warnings.pop();
            report.plan.notes = second.plan.notes;
            report.plan.notes.warnings.extend(without_agent);
        }
        Ok(report)
    })?;
    let printed = print_report(&report, common.json, options.timings, out).and_then(|()| {
        if common.json || report.plan.is_empty() {
            return Ok(());
        }
        let node = &topology.node;
        Ok(writeln!(
            out,
            "Node {node} is set up; undo with `ciliate down`."
        )?)
    });
    Ok(done(printed))
}

/// Asks for the leases that the node lacks, unless an agent does. Tells whether there are others
/// than before, and notes that nobody will renew them.
fn lease(instance: &Instance, topology: &Topology, report: &mut Report) -> Result<bool, Failure> {
    let wanted = Wanted::of(topology);
    if wanted.is_empty() {
        return Ok(false);
    }
    let _agent = match instance.lock_out_agent() {
        Err(Failure::AgentRuns { .. }) => return Ok(false),
        other => other?,
    };
    let now = clock::now();
    let file = LeaseFile::load(instance.directory())?;
    let before = file.valid(now);
    let is_fresh = |wanted: &Wanted| {
        let lease = before.get(&wanted.device);
        lease.is_some_and(|lease| lease.term.is_none_or(|term| now < term.renew))
    };
    let missing: Vec<Wanted> = wanted.into_iter().filter(|w| !is_fresh(w)).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    let mut uplinks = Uplinks::new(instance.directory().to_owned());
    uplinks.follow(Wanted::of(topology));
    for device in uplinks.obtain(&missing)? {
        log::warn!("{NO_LEASE}: dhcp on {device}: no server has answered in time");
    }
    let after = LeaseFile::load(instance.directory())?.valid(clock::now());
    if after == before {
        return Ok(false);
    }
    let warning = warning::no_agent(&after);
    log::warn!("{warning}");
    report.plan.notes.warnings.push(warning);
    Ok(true)
}

/// Removes everything of the node that was set up here.
///
/// # Errors
/// If there is none, or the kernel refuses.
pub fn down(common: &Common, timings: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let instance = Instance::find(common).map_err(|failure| {
        if let Failure::NotSetUp(what) = failure {
            Failure::NothingToRemove(what)
        } else {
            failure
        }
    })?;
    let report = match instance.whereabouts()? {
        // Links went with their namespace; what is left is pins and state.
        Whereabouts::Gone => netns::in_new_netns(|| take_down(&instance))??,
        Whereabouts::Elsewhere(namespace) => netns::in_netns(&namespace, || take_down(&instance))??,
        Whereabouts::Here => take_down(&instance)?,
    };
    Ok(done(print_report(&report, common.json, timings, out)))
}

/// Returns the exit code of a run that succeeded, whether or not it could be told.
fn done(printed: Result<(), Failure>) -> u8 {
    if let Err(failure) = printed {
        log::warn!("the run succeeded, but: {failure}");
    }
    exit::OK
}

/// Makes a node what its topology says, in the network namespace of this thread, if `accept` has
/// nothing against what is noted of it. A trial that nobody guards any more is taken back first.
///
/// # Errors
/// If a trial runs, or a step fails; what was done is undone then.
pub fn bring_up(
    common: &Common,
    topology: &Topology,
    edition: &Edition,
    start: Start<'_>,
    accept: impl FnOnce(&Notes) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let instance = Instance::new(common, &topology.node);
    let is_new = !instance.exists();
    let lock = instance.lock()?;
    let is_trial_left = settle(&instance, &lock)?;
    let nothing = BTreeSet::new();
    let (missing, absent) = match start {
        Start::Whole => (Missing::Refused, &nothing),
        Start::Without(absent) => (Missing::Spared, absent),
    };
    let adapt = |desired: &mut Desired| {
        accept(&desired.notes)?;
        let state = std::mem::take(&mut desired.state);
        desired.state = consequence::without(state, absent);
        Ok(())
    };
    match converge(&instance, topology, edition, absent, missing, adapt) {
        Ok(report) => {
            if !report.plan.is_empty() {
                report.plan.notes.log();
            }
            if is_trial_left {
                // It means nothing any more.
                Trial::remove_folder(instance.directory());
            }
            Ok(report)
        }
        Err(failure) => {
            // A run that was undone leaves no journal, one whose outcome is not known does.
            if is_new && !instance.is_half_done() {
                // A node that did not come to be leaves nothing behind.
                drop(lock.remove());
                drop(Edition::remove(instance.directory()));
                drop(instance.system().map(|system| system.into_state().remove()));
                instance.remove_folders();
            }
            Err(failure)
        }
    }
}

/// Takes back a trial that nobody guards any more. Tells if that cannot be done: going on is the
/// way out then.
fn settle(instance: &Instance, lock: &Lock) -> Result<bool, Failure> {
    match instance.settle_trial(lock) {
        Err(failure) if !matches!(failure, Failure::TrialRuns { .. }) => {
            log::warn!("{NOT_TAKEN_BACK}: {failure}; going on");
            Ok(true)
        }
        other => other.map(|_| false),
    }
}

/// Makes a node what its topology says, in the network namespace of this thread, less what is
/// `spared`. `adapt` takes from the desired state what shall not be, or refuses it; call it with
/// the lock of the node.
///
/// # Errors
/// If a step fails; what was done is undone then.
pub fn converge(
    instance: &Instance,
    topology: &Topology,
    edition: &Edition,
    spared: &BTreeSet<Key>,
    missing: Missing,
    adapt: impl FnOnce(&mut Desired) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    // Else the state would forget where the links of the node are.
    instance.expect_not_elsewhere()?;
    let mut system = instance.system_to_change()?;
    let mut desired = desired(&system, topology, instance.bpffs(), missing)?;
    adapt(&mut desired)?;
    system
        .state()
        .set_namespace(netns::identity(netns::open_own()?)?)?;
    let places = topology.endpoints.iter();
    let places = places.map(|endpoint| (endpoint.name.clone(), endpoint.netns.clone()));
    system.state().add_netns(places.collect())?;
    let mut journal = instance.journal();
    let mut kernel = Sparing::new(&mut system, spared);
    let mut report = reconcile::apply(&mut kernel, &desired.state, &mut journal)?;
    system
        .state()
        .set_host_routing(desired.notes.host_routing.as_ref())?;
    system
        .state()
        .set_enforcement(&topology.policy.enforcement.to_string())?;
    report.plan.notes = desired.notes;
    edition.save(instance.directory())?;
    let applied = instance::fingerprint(topology);
    system.state().set_applied(&edition.file, &applied)?;
    Ok(report)
}

/// Tells whether a step only changes how long an address is lent, which is nothing to tell.
pub fn is_renewal(step: &Step) -> bool {
    matches!(step.key, Key::Address(Link::Device(_), _)) && step.action() == Action::Change
}

/// Removes everything of a node, in the network namespace of this thread.
///
/// # Errors
/// If an agent would bring it back, a trial runs, or the kernel refuses.
pub fn take_down(instance: &Instance) -> Result<Report, Failure> {
    let agent = instance.lock_out_agent()?;
    let lock = instance.lock()?;
    instance.expect_no_trial()?;
    instance.expect_not_elsewhere()?;
    let mut system = instance.system_to_change()?;
    let mut journal: Journal = instance.journal();
    let report = reconcile::apply(&mut system, &State::new(), &mut journal)?;
    Trial::remove_folder(instance.directory());
    Edition::remove(instance.directory())?;
    lock.remove()?;
    if let Some(agent) = agent {
        agent.remove()?;
        instance.remove_agent_folder();
    }
    LeaseFile::remove(instance.directory());
    system.into_state().remove()?;
    instance.remove_folders();
    Ok(report)
}

/// Returns what the node must have on this machine as it is.
///
/// # Errors
/// If the kernel cannot be read, or is too old, or the node cannot be what it shall be.
pub fn desired(
    system: &System,
    topology: &Topology,
    bpffs: &Path,
    missing: Missing,
) -> Result<Desired, Failure> {
    let mut ambient = system.ambient(topology)?;
    ambient.spares_missing = missing == Missing::Spared;
    Ok(plan::desired(topology, &ambient, bpffs)?)
}

fn print_plan(plan: &Plan, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        writeln!(out, "{:#}", plan.to_json())?;
    } else {
        write!(out, "{plan}")?;
    }
    Ok(())
}

fn print_report(
    report: &Report,
    json: bool,
    timings: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    print_plan(&report.plan, json, out)?;
    if timings {
        write!(out, "{report}")?;
    }
    Ok(())
}
