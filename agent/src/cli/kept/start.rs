//! How the resident agent begins: it waits for devices, and sets the node up.

use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;

use super::Kept;
use crate::cli::apply::{Missing, Start, bring_up};
use crate::cli::args::Common;
use crate::cli::failure::Failure;
use crate::cli::instance;
use crate::daemon::{Sources, service, warning};
use crate::plan::Plan;
use crate::reconcile::Cause;
use crate::reconcile::trial::Standing;
use crate::uplink::Wanted;

/// Tells what came of waiting for devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Present,
    Missing,
    /// The agent shall end.
    Stopped,
}

/// How long an agent that starts waits for the devices that the file requires.
const DEVICE_PATIENCE: Duration = Duration::from_secs(30);

impl Kept<'_> {
    /// Waits for devices that are required, but not for ever: the node is set up without them then,
    /// and they are joined when they come.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn await_devices(&self, sources: &mut Sources) -> Result<Awaited, Cause> {
        let required = self
            .topology
            .devices
            .iter()
            .filter(|device| device.required);
        let names: Vec<&str> = required.map(|device| device.name.as_str()).collect();
        let deadline = Instant::now() + DEVICE_PATIENCE;
        let mut told = None;
        loop {
            let missing = |name: &&str| if_nametoindex(*name).is_err();
            let Some(name) = names.iter().copied().find(missing) else {
                return Ok(Awaited::Present);
            };
            if told != Some(name) {
                told = Some(name);
                service::progress(&format!("waits for device {name}"));
                log::info!("device {name} is missing: waiting for it up to {DEVICE_PATIENCE:?}");
            }
            if Instant::now() >= deadline {
                return Ok(Awaited::Missing);
            }
            if sources.stops_before(deadline)? {
                return Ok(Awaited::Stopped);
            }
        }
    }

    /// Sets the node up as the given file says. One that is on trial is kept as it is, and one
    /// that was taken back from this very file as it was before. Returns what was done.
    ///
    /// # Errors
    /// If it cannot be set up: what was done is undone then.
    pub fn begin(&mut self, common: &Common) -> Result<Plan, Failure> {
        if self.instance.trial()?.is_some() {
            let lock = self.instance.lock()?;
            match self.instance.trial()? {
                Some((trial, Standing::Guarded)) if trial.before.is_some() => {
                    log::info!(
                        "a trial by process {} runs: the node is kept as it is, and what becomes of \
                         the trial is followed",
                        trial.pid
                    );
                    let applied = self.last_applied()?;
                    return self.take(applied, Missing::Spared, &lock);
                }
                // Else it is refused below, or is over.
                _ => drop(self.instance.settle_trial(&lock)?),
            }
        }
        let mut system = self.instance.system_to_look()?;
        if system.state().rejected() == Some(&instance::fingerprint(&self.topology)) {
            log::warn!(
                "{}: {} was tried and taken back; what was applied before holds, until it is \
                 changed, applied or read anew",
                warning::REJECTED,
                self.file.display()
            );
            (self.topology, self.edition) = self.last_applied()?;
        }
        self.note_absent();
        let absent = self.absent_links();
        let start = Start::Without(&absent);
        let report = bring_up(common, &self.topology, &self.edition, start, |_| Ok(()))?;
        self.notes.clone_from(&report.plan.notes);
        self.privileges.keep(&self.topology)?;
        self.uplinks.follow(Wanted::of(&self.topology));
        Ok(report.plan)
    }
}
