//! `ciliate run`: sets the node up as `apply` does, and keeps it so.
//!
//! Who else works on the node meanwhile: `apply` may (the agent keeps the node as what was applied
//! last says), `down` and a second agent are refused. A lock that the agent holds all the time
//! tells them; the node's own lock is taken for each repair only, so that `status` and `apply` do
//! not wait for it.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apply::{Missing, bring_up, converge, is_renewal};
use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance};
use crate::daemon::{
    Chore, Files, Node, Round, Sources, Sparing, Trouble, Watch, consequence, warning,
};
use crate::datapath::pin::Pins;
use crate::datapath::sweep::Sweep;
use crate::host::lock::Lock;
use crate::host::{clock, netns};
use crate::plan::object::{Key, Link};
use crate::plan::{Desired, Plan};
use crate::reconcile::drift::DriftFile;
use crate::reconcile::{self, ApplyError, Cause, LeaseFile};
use crate::topology::Topology;
use crate::uplink::{Uplinks, Wanted};

/// How often a piece of the tables of bindings is swept: a full one of 32,768 entries takes eight
/// seconds.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);

/// Sets the node up and keeps it until TERM or INT. Returns the exit code.
///
/// # Errors
/// If the file is wrong, another agent keeps the node, or it cannot be set up: what was done is
/// undone then.
pub fn run(common: &Common, file: &Path) -> Result<u8, Failure> {
    let topology = instance::topology(file, common.node.as_deref())?;
    let instance = Instance::new(common, &topology.node);
    instance.enter(|| {
        let lock = instance.agent_lock()?;
        let kept = keep(common, &instance, topology, file);
        if kept.is_err() && !instance.exists() {
            // The node did not come to be: nothing is left of it.
            drop(lock.remove());
            LeaseFile::remove(instance.directory());
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
    file: &Path,
) -> Result<(), Failure> {
    let sources = Sources::open()?;
    let report = bring_up(common, &topology, file, |_| Ok(()))?;
    log::info!(
        "node {} is set up: {}",
        instance.node,
        report.plan.summary()
    );
    let drift = DriftFile::load(&instance.agent_folder())?;
    let mut kept = Kept {
        instance,
        topology,
        file: instance::absolute(file)?,
        absent: BTreeSet::new(),
        uplinks: Uplinks::new(instance.directory().to_owned()),
        trouble: None,
    };
    kept.uplinks.follow(Wanted::of(&kept.topology));
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

/// Tells whether an object follows from the lease of one of these devices.
fn is_leased(key: &Key, devices: &BTreeSet<String>) -> bool {
    let (Key::Address(Link::Device(name), _)
    | Key::Route(Link::Device(name), _)
    | Key::DeviceMtu(name)
    | Key::DeviceEntry(name)) = key
    else {
        // Flows are decided again when an entry changes.
        return matches!(key, Key::NameServers(_) | Key::Generation);
    };
    devices.contains(name)
}

/// Is the node, as the loop sees it.
struct Kept<'a> {
    instance: &'a Instance,
    /// What the node is made of, and the file that says so.
    topology: Topology,
    file: PathBuf,
    /// Endpoints whose network namespace is missing.
    absent: BTreeSet<String>,
    /// What asks DHCP servers.
    uplinks: Uplinks,
    /// What is wrong with the file of leases, which is not told again.
    trouble: Option<String>,
}

impl Node for Kept<'_> {
    fn repair(&mut self, spared: &BTreeSet<Key>) -> Result<Round, Trouble> {
        self.note_absent();
        // Where somebody removed the state, a whole run writes it again.
        if let Some(applied) = self.applied()? {
            if applied != instance::fingerprint(&self.topology) {
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
        if applied.is_some_and(|applied| applied != instance::fingerprint(&self.topology)) {
            // It was applied between our look and our lock.
            return Ok(Round::Busy);
        }
        let converged = self.converge(&self.file, spared, Missing::Spared, &lock);
        let plan = converged.map_err(trouble)?;
        Ok(Round::Repaired(self.without_leased(plan)))
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.uplinks.descriptors()
    }

    fn idle(&self) -> Option<Duration> {
        self.uplinks.idle(clock::now())
    }

    fn attend(&mut self) -> bool {
        let attended = self.uplinks.attend(clock::now());
        let trouble = attended.as_ref().err().map(ToString::to_string);
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            log::warn!("{}: {trouble}", warning::FAILED);
        }
        self.trouble = trouble;
        attended.unwrap_or(false)
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

    fn reload(&mut self) -> Result<Plan, Cause> {
        Ok(self.take(self.file.clone())?)
    }
}

impl Kept<'_> {
    /// Returns what tells the topologies apart that were applied.
    fn applied(&self) -> Result<Option<String>, Failure> {
        let mut system = self.instance.system_to_look()?;
        Ok(system.state().applied().map(ToOwned::to_owned))
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
        let plan = self.take(file)?;
        log::info!("{} was applied", self.file.display());
        Ok(Round::Renewed(plan))
    }

    /// Makes the node what a file says; it stays what it was if that fails.
    fn take(&mut self, file: PathBuf) -> Result<Plan, Failure> {
        let topology = instance::topology(&file, Some(&self.instance.node))?;
        let lock = self.instance.lock()?;
        let old = std::mem::replace(&mut self.topology, topology);
        self.note_absent();
        match self.converge(&file, &BTreeSet::new(), Missing::Refused, &lock) {
            Ok(plan) => {
                self.file = file;
                self.uplinks.follow(Wanted::of(&self.topology));
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

    /// Takes from a plan what follows from other leases: that repairs nothing, and is told as what it
    /// is.
    fn without_leased(&mut self, mut plan: Plan) -> Plan {
        let changed = self.uplinks.take_changed();
        if changed.is_empty() {
            return plan;
        }
        let (leased, others) = plan
            .steps
            .into_iter()
            .partition(|step| is_leased(&step.key, &changed));
        plan.steps = leased;
        for step in &plan.steps {
            let sign = step.action().sign();
            let level = if is_renewal(step) {
                log::Level::Debug
            } else {
                log::Level::Info
            };
            log::log!(level, "{sign} {} ({})", plan.command(step), step.reason);
        }
        plan.steps = others;
        plan
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
