//! `ciliate run`: sets the node up as `apply` does, and keeps it so.
//!
//! Who else works on the node meanwhile: `apply` may (the agent keeps the node as what was applied
//! last says), `down` and a second agent are refused. A lock that the agent holds all the time
//! tells them; the node's own lock is taken for each repair only, so that `status` and `apply` do
//! not wait for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apply::{Missing, bring_up, converge};
use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance};
use crate::daemon::{
    Chore, Control, Edits, Files, Node, Rejection, Round, Sources, Sparing, Trouble, Watch, Why,
    consequence, warning,
};
use crate::datapath::pin::Pins;
use crate::datapath::sweep::Sweep;
use crate::datapath::table::{self, MapStatus};
use crate::host::lock::Lock;
use crate::host::netns;
use crate::plan::object::Key;
use crate::plan::{Desired, Plan};
use crate::reconcile::drift::DriftFile;
use crate::reconcile::{self, ApplyError, Cause};
use crate::topology::Topology;

/// How often a piece of the tables of bindings is swept: a full one of 32,768 entries takes eight
/// seconds.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);

/// Sets the node up and keeps it until TERM or INT. Returns the exit code.
///
/// # Errors
/// If the file is wrong, another agent keeps the node, or it cannot be set up: what was done is
/// undone then.
pub fn run(common: &Common, file: &Path) -> Result<u8, Failure> {
    let file = instance::absolute(file)?;
    // Before it is read, so that no edit is missed.
    let edits = Edits::watch(&file)?;
    let topology = instance::trusted_topology(&file, common.node.as_deref())?;
    let instance = Instance::new(common, &topology.node);
    instance.enter(|| {
        let lock = instance.agent_lock()?;
        let kept = keep(common, &instance, topology, (file, edits));
        if kept.is_err() && !instance.exists() {
            // The node did not come to be: nothing is left of it.
            drop(lock.remove());
            instance.remove_agent_folder();
            instance.remove_folders();
        }
        kept
    })?;
    Ok(exit::OK)
}

fn keep(
    common: &Common,
    instance: &Instance,
    topology: Topology,
    (file, edits): (PathBuf, Edits),
) -> Result<(), Failure> {
    let mut sources = Sources::open(edits)?;
    let report = bring_up(common, &topology, &file, |_| Ok(()))?;
    match Control::open(&instance.control_socket()) {
        Ok(control) => sources.serve(control),
        Err(error) => {
            let code = warning::NO_SOCKET;
            log::warn!("{code}: {error}; the node is kept, and nobody can ask the agent");
        }
    }
    log::info!(
        "node {} is set up: {}",
        instance.node,
        report.plan.summary()
    );
    let drift = DriftFile::load(&instance.agent_folder())?;
    let mut kept = Kept {
        instance,
        topology,
        file,
        absent: BTreeSet::new(),
    };
    Ok(Watch::new(&mut kept, sources, drift, chores(instance)).run()?)
}

/// Lists what is done every few seconds beside keeping the node.
fn chores(instance: &Instance) -> Vec<Chore> {
    let mut sweep = Sweep::new(Pins::new(instance.bpffs(), &instance.node));
    vec![Chore::new("sweep bindings", SWEEP_PERIOD, move || {
        Ok(sweep.turn()?)
    })]
}

/// Names the object that could not be repaired.
fn trouble(failure: Failure) -> Trouble {
    let object = if let Failure::Apply(ApplyError::Step(step)) = &failure {
        Some(step.key.clone())
    } else {
        None
    };
    Trouble {
        cause: failure.into(),
        object,
        was_undone: true,
    }
}

/// Is the node, as the loop sees it.
struct Kept<'a> {
    instance: &'a Instance,
    /// What the node is made of, and the file that says so.
    topology: Topology,
    file: PathBuf,
    /// Endpoints whose network namespace is missing.
    absent: BTreeSet<String>,
}

impl Node for Kept<'_> {
    fn repair(&mut self, spared: &BTreeSet<Key>) -> Result<Round, Trouble> {
        self.note_absent();
        // Where somebody removed the state, a whole run writes it again.
        if let Some(applied) = self.applied()? {
            if self.is_other(&applied) {
                return Ok(self.follow()?);
            }
            if self.preview(spared)?.is_empty() {
                return Ok(Round::Repaired(Plan::default()));
            }
        }
        let Some(lock) = self.instance.try_lock()? else {
            return Ok(Round::Busy);
        };
        let applied = self.applied()?;
        if applied.is_some_and(|applied| self.is_other(&applied)) {
            // It was applied between our look and our lock.
            return Ok(Round::Busy);
        }
        let converged = self.converge(&self.file, spared, Missing::Spared, &lock);
        converged.map(Round::Repaired).map_err(trouble)
    }

    fn files(&self) -> Files {
        let pins = Pins::new(self.instance.bpffs(), &self.instance.node);
        let namespaces = self.topology.endpoints.iter();
        Files {
            folders: BTreeSet::from([
                pins.root().to_owned(),
                pins.maps(),
                pins.programs(),
                pins.links(),
            ]),
            single: namespaces.map(|endpoint| endpoint.netns.path()).collect(),
        }
    }

    fn file(&self) -> &Path {
        &self.file
    }

    fn reload(&mut self, why: Why) -> Result<Option<Plan>, Rejection> {
        let file = self.file.clone();
        let topology = self.read(&file).map_err(rejection)?;
        let is_new = instance::fingerprint(&topology) != instance::fingerprint(&self.topology);
        if why == Why::Edited && !is_new {
            return Ok(None);
        }
        let taken = self.take(file, topology);
        taken.map(Some).map_err(rejection)
    }

    fn confirm(&mut self) -> bool {
        // Nothing is on trial.
        false
    }

    fn differences(&mut self, spared: &BTreeSet<Key>) -> Result<Plan, Cause> {
        Ok(self.preview(spared)?)
    }

    fn maps(&self) -> Vec<MapStatus> {
        table::status(&Pins::new(self.instance.bpffs(), &self.instance.node))
    }
}

/// Tells whether the file was wrong, or what else kept the node from being what it says.
fn rejection(failure: Failure) -> Rejection {
    let is_begun = matches!(failure, Failure::Apply(_));
    match failure.code() {
        exit::BAD_FILE => Rejection::Wrong(failure.into()),
        _ if is_begun => Rejection::Undone(failure.into()),
        _ => Rejection::Hindered(failure.into()),
    }
}

impl Kept<'_> {
    /// Returns the file that was applied last, and what tells topologies apart.
    fn applied(&self) -> Result<Option<(Option<PathBuf>, String)>, Failure> {
        let mut system = self.instance.system_to_look()?;
        let state = system.state();
        let file = state.config().map(ToOwned::to_owned);
        Ok(state.applied().map(|applied| (file, applied.to_owned())))
    }

    /// Tells whether somebody else applied another file, or what this one says now.
    fn is_other(&self, (file, applied): &(Option<PathBuf>, String)) -> bool {
        file.as_ref().is_some_and(|file| *file != self.file)
            || *applied != instance::fingerprint(&self.topology)
    }

    /// Returns what differs; reads only.
    fn preview(&self, spared: &BTreeSet<Key>) -> Result<Plan, Failure> {
        let spared = self.all_spared(spared);
        let mut system = self.instance.system_to_look()?;
        let desired = super::apply::desired(
            &system,
            &self.topology,
            self.instance.bpffs(),
            Missing::Spared,
        )?;
        let desired = consequence::without(desired.state, &self.absent_links());
        let mut system = Sparing::new(&mut system, &spared);
        let journal = self.instance.journal();
        Ok(reconcile::preview(&mut system, &desired, &journal)?)
    }

    /// Keeps the node as the file says that somebody else applied.
    fn follow(&mut self) -> Result<Round, Failure> {
        let mut system = self.instance.system_to_look()?;
        let file = system.state().config().unwrap_or(&self.file).to_owned();
        let topology = self.read(&file)?;
        let plan = self.take(file, topology)?;
        log::info!("{} was applied", self.file.display());
        Ok(Round::Renewed(plan))
    }

    fn read(&self, file: &Path) -> Result<Topology, Failure> {
        instance::trusted_topology(file, Some(&self.instance.node))
    }

    /// Makes the node what a file says; it stays what it was if that fails.
    fn take(&mut self, file: PathBuf, topology: Topology) -> Result<Plan, Failure> {
        let lock = self.instance.lock()?;
        let old = std::mem::replace(&mut self.topology, topology);
        self.note_absent();
        match self.converge(&file, &BTreeSet::new(), Missing::Refused, &lock) {
            Ok(plan) => {
                self.file = file;
                Ok(plan)
            }
            Err(failure) => {
                self.topology = old;
                self.note_absent();
                Err(failure)
            }
        }
    }

    /// Makes the node what its topology says, less what is spared. Returns what was done.
    fn converge(
        &self,
        file: &Path,
        spared: &BTreeSet<Key>,
        missing: Missing,
        _: &Lock,
    ) -> Result<Plan, Failure> {
        let spared = self.all_spared(spared);
        let adapt = |desired: &mut Desired| {
            let state = std::mem::take(&mut desired.state);
            desired.state = consequence::without(state, &self.absent_links());
            Ok(())
        };
        let report = converge(self.instance, &self.topology, file, &spared, missing, adapt)?;
        Ok(report.plan)
    }

    /// Finds the endpoints whose namespaces are missing. The node is kept without them: what is
    /// left of their links is not touched, and they are joined again when their namespaces come.
    fn note_absent(&mut self) {
        let mut absent = BTreeSet::new();
        for endpoint in &self.topology.endpoints {
            let name = &endpoint.name;
            if let Err(error) = netns::open(&endpoint.netns) {
                if !self.absent.contains(name) {
                    let code = warning::NO_NAMESPACE;
                    log::warn!(
                        "{code}: endpoint {name}: {error}; it is connected when it is there"
                    );
                }
                absent.insert(name.clone());
            } else if self.absent.contains(name) {
                log::info!("endpoint {name}: its network namespace is there again");
            }
        }
        self.absent = absent;
    }

    fn absent_links(&self) -> BTreeSet<Key> {
        let names = self.absent.iter().cloned();
        names.map(Key::EndpointLink).collect()
    }

    fn all_spared(&self, spared: &BTreeSet<Key>) -> BTreeSet<Key> {
        spared.union(&self.absent_links()).cloned().collect()
    }
}
