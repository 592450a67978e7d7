//! Trials of a node, as every verb meets them: whether one runs, and what takes one back.
//!
//! Taking back is the one mechanism again: what was applied before is desired, the difference to
//! the kernel is carried out, and the kernel is asked afterwards. Everything here is called with
//! the lock of the node, except what only looks. It may be killed anywhere: the record of the
//! trial goes last, so that whoever comes next takes the same trial back again.

use std::collections::BTreeSet;
use std::path::Path;

use super::apply::{Missing, converge};
use super::failure::Failure;
use super::instance::{self, Instance};
use crate::daemon::{consequence, warning};
use crate::host::clock::{self, Moment};
use crate::host::lock::Lock;
use crate::host::netns;
use crate::observe::status;
use crate::plan::object::{Key, State};
use crate::plan::{Desired, Plan};
use crate::reconcile::trial::Standing;
use crate::reconcile::{self, Edition, Trial};
use crate::topology::Topology;

impl Instance {
    /// Returns the trial of the node, if there is one, and what it means to others than its
    /// guard.
    ///
    /// # Errors
    /// If its record cannot be read.
    pub fn trial(&self) -> Result<Option<(Trial, Standing)>, Failure> {
        let directory = self.directory();
        let Some(trial) = Trial::load(directory)? else {
            return Ok(None);
        };
        let is_guarded = Lock::is_held(&Trial::folder(directory))?;
        let standing = trial.standing(is_guarded, Moment::now()?, &clock::boot());
        Ok(Some((trial, standing)))
    }

    /// Returns the trial of the node as `status` shows it.
    ///
    /// # Errors
    /// If its record or the clock cannot be read.
    pub fn trial_status(&self) -> Result<Option<status::Trial>, Failure> {
        let now = Moment::now()?;
        let running = self.trial()?;
        let running = running.filter(|(_, standing)| *standing != Standing::Over);
        Ok(running.map(|(trial, standing)| status::Trial {
            deadline: trial.deadline.on_the_wall(now).to_string(),
            pid: trial.pid,
            left_secs: trial.deadline.since(now).as_secs(),
            is_abandoned: standing == Standing::Abandoned,
        }))
    }

    /// Refuses to work on a node that is on trial.
    ///
    /// # Errors
    /// If it is.
    pub fn expect_no_trial(&self) -> Result<(), Failure> {
        match self.trial()? {
            Some((trial, Standing::Guarded)) => Err(self.trial_runs(&trial)?),
            _ => Ok(()),
        }
    }

    /// Takes back a trial that nobody guards any more, so that the node is in a known state.
    ///
    /// # Errors
    /// If one is guarded, or cannot be taken back.
    pub fn settle_trial(&self, lock: &Lock) -> Result<Option<Plan>, Failure> {
        match self.trial()? {
            None => {
                // A guard that was killed at its very end leaves its lock.
                let folder = Trial::folder(self.directory());
                if folder.is_dir() && !Lock::is_held(&folder)? {
                    Trial::remove_folder(self.directory());
                }
                Ok(None)
            }
            Some((trial, Standing::Guarded)) => Err(self.trial_runs(&trial)?),
            Some((_, Standing::Over)) => {
                Trial::remove_folder(self.directory());
                Ok(None)
            }
            Some((trial, Standing::Abandoned)) => {
                let (code, pid) = (warning::ABANDONED, trial.pid);
                log::warn!(
                    "{code}: process {pid}, which guarded a trial, is gone: taking the trial back"
                );
                let plan = self.take_back(&trial, lock)?;
                Trial::remove_folder(self.directory());
                Ok(Some(plan))
            }
        }
    }

    /// Makes the node again what it was before a trial, and removes the record. What is missing
    /// meanwhile, devices or namespaces, hinders only itself. Returns what was done.
    ///
    /// # Errors
    /// If a step fails: the trial is then as it was.
    pub fn take_back(&self, trial: &Trial, _: &Lock) -> Result<Plan, Failure> {
        let plan = if let Some(before) = &trial.before {
            let topology = instance::reread(before, &self.node)?;
            let plan = self.bring_back(&topology, before)?;
            self.system_to_change()?
                .state()
                .set_rejected(&trial.tried)?;
            plan
        } else {
            self.bring_nothing_back()?
        };
        Trial::remove(self.directory())?;
        Ok(plan)
    }

    /// Returns what the node is made again if a trial that begins is taken back: nothing if it
    /// is not set up.
    ///
    /// # Errors
    /// If it is set up, and what it was made from is not known any more.
    pub fn before_trial(&self) -> Result<Option<Edition>, Failure> {
        if let Some(edition) = Edition::load(self.directory())? {
            return Ok(Some(edition));
        }
        let mut system = self.system_to_look()?;
        let state = system.state();
        match (state.applied(), state.config()) {
            (None, _) if self.is_half_done() || !self.has_pins() => Ok(None),
            (Some(applied), Some(file)) => self.edition_of(file, applied).map(Some),
            _ => Err(Failure::Unrecorded(self.node.clone())),
        }
    }

    /// Returns what a file says if that is what was applied.
    fn edition_of(&self, file: &Path, applied: &str) -> Result<Edition, Failure> {
        let read = instance::read(file, Some(&self.node)).ok();
        let same = read.filter(|(topology, _)| instance::fingerprint(topology) == applied);
        let edition = same.map(|(_, edition)| edition);
        edition.ok_or_else(|| Failure::Unrecorded(self.node.clone()))
    }

    fn bring_back(&self, topology: &Topology, before: &Edition) -> Result<Plan, Failure> {
        let endpoints = topology.endpoints.iter();
        let absent: BTreeSet<Key> = endpoints
            .filter(|endpoint| netns::open(&endpoint.netns).is_err())
            .map(|endpoint| Key::EndpointLink(endpoint.name.clone()))
            .collect();
        let adapt = |desired: &mut Desired| {
            let state = std::mem::take(&mut desired.state);
            desired.state = consequence::without(state, &absent);
            Ok(())
        };
        let report = converge(self, topology, before, &absent, Missing::Spared, adapt)?;
        Ok(report.plan)
    }

    fn bring_nothing_back(&self) -> Result<Plan, Failure> {
        self.expect_not_elsewhere()?;
        let mut system = self.system_to_change()?;
        let report = reconcile::apply(&mut system, &State::new(), &mut self.journal())?;
        Edition::remove(self.directory())?;
        system.into_state().remove()?;
        Ok(report.plan)
    }

    /// Says that a trial is in the way.
    ///
    /// # Errors
    /// If the clock cannot be read.
    pub fn trial_runs(&self, trial: &Trial) -> Result<Failure, Failure> {
        Ok(Failure::TrialRuns {
            node: self.node.clone(),
            pid: trial.pid,
            until: trial.deadline.on_the_wall(Moment::now()?).time_of_day(),
        })
    }
}
