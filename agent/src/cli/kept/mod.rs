//! The node, as the loop of the resident agent sees it.
//!
//! # Layout
//! - `start`: how it begins

mod start;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::start::Awaited;
use super::apply::{Missing, converge, is_renewal};
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance};
use super::privilege::Privileges;
use crate::daemon::{Files, Node, Rejection, Round, Sparing, Trouble, Why, consequence, warning};
use crate::datapath::pin::Pins;
use crate::datapath::table::{self, MapStatus};
use crate::host::lock::Lock;
use crate::host::{clock, netns};
use crate::plan::object::{Key, Link, State};
use crate::plan::{Desired, Notes, Plan};
use crate::reconcile::trial::Standing;
use crate::reconcile::{self, ApplyError, Cause, Edition};
use crate::topology::Topology;
use crate::uplink::{Uplinks, Wanted};

/// Is the node, as the loop sees it.
pub struct Kept<'a> {
    instance: &'a Instance,
    privileges: Privileges,
    /// What the node is made of, and the files that said so.
    topology: Topology,
    edition: Edition,
    /// The file that is read when it shall be read anew.
    file: PathBuf,
    /// Endpoints whose network namespace is missing.
    absent: BTreeSet<String>,
    /// What was told of the node's surroundings.
    notes: Notes,
    /// Sysctls that matter, whether they are ours or were right before.
    sysctls: BTreeSet<String>,
    /// What asks DHCP servers.
    uplinks: Uplinks,
    /// What is wrong with the file of leases, which is not told again.
    trouble: Option<String>,
}

impl Node for Kept<'_> {
    fn repair(&mut self, spared: &BTreeSet<Key>) -> Result<Round, Trouble> {
        if let Some((_, Standing::Abandoned)) = self.instance.trial()? {
            let Some(lock) = self.instance.try_lock()? else {
                return Ok(Round::Busy);
            };
            self.instance.settle_trial(&lock)?;
        }
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
        match self.converge(spared, Missing::Spared, &lock) {
            Ok(plan) => Ok(Round::Repaired(self.without_leased(plan))),
            Err(Failure::Apply(ApplyError::Verify { done, .. })) => Ok(Round::Unsettled(done.plan)),
            Err(failure) => Err(trouble(failure)),
        }
    }

    fn glance(&self) -> Option<u64> {
        if self.instance.trial().ok()?.is_some() {
            // Its guard may end without a word.
            return None;
        }
        let system = self.instance.system_to_look().ok()?;
        let mut hasher = DefaultHasher::new();
        system.glance(&self.sysctls).ok()?.hash(&mut hasher);
        for endpoint in &self.topology.endpoints {
            // A namespace may be replaced without a name that comes or goes.
            let place = fs::metadata(endpoint.netns.path()).ok();
            place.map(|file| (file.dev(), file.ino())).hash(&mut hasher);
        }
        Some(hasher.finish())
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

    fn file(&self) -> &Path {
        &self.file
    }

    fn reload(&mut self, why: Why) -> Result<Option<Plan>, Rejection> {
        let node = Some(self.instance.node.as_str());
        let given = instance::read(&self.file, node).map_err(rejection)?;
        let is_new = instance::fingerprint(&given.0) != instance::fingerprint(&self.topology);
        if why == Why::Edited && !is_new {
            return Ok(None);
        }
        self.take_anew(given).map(Some).map_err(rejection)
    }

    fn confirm(&mut self) -> bool {
        match self.instance.confirm_trial() {
            Ok(_) => true,
            Err(failure) => {
                log::debug!("confirm: {failure}");
                false
            }
        }
    }

    fn differences(&mut self, spared: &BTreeSet<Key>) -> Result<Plan, Cause> {
        Ok(self.preview(spared)?)
    }

    fn maps(&self) -> Vec<MapStatus> {
        table::status(&Pins::new(self.instance.bpffs(), &self.instance.node))
    }

    fn summary(&self) -> String {
        let (node, all) = (&self.instance.node, self.topology.endpoints.len());
        let connected = all - self.absent.len();
        let mut summary = format!("node {node}: {connected} of {all} endpoints connected");
        if let Some(name) = self.absent.first() {
            let more = match self.absent.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            summary.push_str(&format!("; the namespace of {name}{more} is missing"));
        }
        summary
    }
}

impl<'a> Kept<'a> {
    /// Describes the node of an instance, before it is set up.
    pub fn new(instance: &'a Instance, (topology, edition): (Topology, Edition)) -> Self {
        Self {
            instance,
            privileges: Privileges::new(instance.agent_folder()),
            topology,
            file: edition.file.clone(),
            edition,
            absent: BTreeSet::new(),
            notes: Notes::default(),
            sysctls: BTreeSet::new(),
            uplinks: Uplinks::new(instance.directory().to_owned()),
            trouble: None,
        }
    }

    /// Returns the file that was applied last, and what tells topologies apart.
    fn applied(&self) -> Result<Option<(Option<PathBuf>, String)>, Failure> {
        let mut system = self.instance.system_to_look()?;
        let state = system.state();
        let file = state.config().map(ToOwned::to_owned);
        Ok(state.applied().map(|applied| (file, applied.to_owned())))
    }

    /// Tells whether somebody else applied another file, or what this one says now.
    fn is_other(&self, (file, applied): &(Option<PathBuf>, String)) -> bool {
        file.as_ref().is_some_and(|file| *file != self.edition.file)
            || *applied != instance::fingerprint(&self.topology)
    }

    /// Returns what differs; reads only.
    fn preview(&mut self, spared: &BTreeSet<Key>) -> Result<Plan, Failure> {
        let spared = self.all_spared(spared);
        let mut system = self.instance.system_to_look()?;
        let desired = super::apply::desired(
            &system,
            &self.topology,
            self.instance.bpffs(),
            Missing::Spared,
        )?;
        let desired = consequence::without(desired.state, &self.absent_links());
        self.sysctls = sysctls(&desired);
        let mut system = Sparing::new(&mut system, &spared);
        let journal = self.instance.journal();
        Ok(reconcile::preview(&mut system, &desired, &journal)?)
    }

    /// Keeps the node as somebody else applied it.
    fn follow(&mut self) -> Result<Round, Failure> {
        // Before it is read what was applied: it may be taken back until then.
        let lock = self.instance.lock()?;
        let applied = self.last_applied()?;
        let plan = self.take(applied, Missing::Spared, &lock)?;
        self.file.clone_from(&self.edition.file);
        log::info!("{} was applied", self.file.display());
        Ok(Round::Renewed(plan))
    }

    /// Returns what was applied last, as it was then: the file may say something else by now.
    fn last_applied(&self) -> Result<(Topology, Edition), Failure> {
        let node = &self.instance.node;
        if let Some(edition) = Edition::load(self.instance.directory())? {
            return Ok((instance::reread(&edition, node)?, edition));
        }
        let mut system = self.instance.system_to_look()?;
        let file = system.state().config().unwrap_or(&self.file);
        instance::read(file, Some(node))
    }

    /// Makes the node what its file says by now.
    fn take_anew(&mut self, given: (Topology, Edition)) -> Result<Plan, Failure> {
        let lock = self.instance.lock()?;
        // While a trial runs, this would be lost at its end.
        self.instance.settle_trial(&lock)?;
        self.take(given, Missing::Refused, &lock)
    }

    /// Makes the node what some files say; it stays what it was if that fails.
    fn take(
        &mut self,
        (topology, edition): (Topology, Edition),
        missing: Missing,
        lock: &Lock,
    ) -> Result<Plan, Failure> {
        self.privileges.expect(&topology)?;
        let old = (
            std::mem::replace(&mut self.topology, topology),
            std::mem::replace(&mut self.edition, edition),
        );
        self.note_absent();
        let plan = self
            .converge(&BTreeSet::new(), missing, lock)
            .inspect_err(|_| {
                (self.topology, self.edition) = old;
                self.note_absent();
            })?;
        self.privileges.keep(&self.topology)?;
        self.uplinks.follow(Wanted::of(&self.topology));
        Ok(plan)
    }

    /// Makes the node what its topology says, less what is spared. Returns what was done.
    fn converge(
        &mut self,
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
        let (topology, edition) = (&self.topology, &self.edition);
        let report = converge(self.instance, topology, edition, &spared, missing, adapt)?;
        if report.plan.notes != self.notes {
            report.plan.notes.log();
            self.notes = report.plan.notes.clone();
        }
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

/// Lists the sysctls of a state.
fn sysctls(state: &State) -> BTreeSet<String> {
    let path = |key: &Key| {
        if let Key::Sysctl(path) = key {
            Some(path.clone())
        } else {
            None
        }
    };
    state.keys().filter_map(path).collect()
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

/// Tells whether the file was wrong, or what else kept the node from being what it says.
fn rejection(failure: Failure) -> Rejection {
    let is_begun = matches!(failure, Failure::Apply(_));
    match failure.code() {
        exit::BAD_FILE => Rejection::Wrong(failure.into()),
        _ if is_begun => Rejection::Undone(failure.into()),
        _ => Rejection::Hindered(failure.into()),
    }
}
