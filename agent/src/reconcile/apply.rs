//! Carries a plan out: observe → plan → journal → steps → verify.
//!
//! The first step that fails ends the run, and what the run did is undone. A run that is killed
//! leaves its journal; the next one converges from what it observes. When the steps are done,
//! the kernel is asked again. What is missing then was lost while the run lasted, as the links of a
//! namespace that is torn down are: it is made good once, and if the plan is still not empty, the
//! journal stays. Nothing at all is written when the first plan is empty.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::report::{Phase, Report};
use super::undo::{Undo, undo};
use super::{Cause, FileError, Journal, Kernel};
use crate::plan::object::{Key, Observed, State};
use crate::plan::{self, Plan};

/// Says why a run ended before its end.
#[derive(Debug, Error)]
pub enum ApplyError {
    #[error("observe the node: {0}")]
    Observe(Cause),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Step(Box<Failure>),
    #[error("verify the node: {} did not stick: {}", .left.len(), .left.join("; "))]
    Verify {
        /// The commands that a second run would need.
        left: Vec<String>,
        /// What was done.
        done: Box<Report>,
    },
}

/// Describes a step that failed, and what became of the steps before it.
#[derive(Debug, Error)]
#[error("{command}: {cause}; {}", self.outcome())]
pub struct Failure {
    /// The object of the step.
    pub key: Key,
    /// The step, as a command.
    pub command: String,
    /// Why it failed.
    pub cause: Cause,
    /// How many steps were done before.
    pub done: usize,
    /// What undoing them took, as commands.
    pub undone: Vec<String>,
    /// What could not be undone, and why.
    pub not_undone: Vec<String>,
}

impl Failure {
    fn outcome(&self) -> String {
        if !self.not_undone.is_empty() {
            return format!("could not be undone: {}", self.not_undone.join("; "));
        }
        match self.done {
            0 => "nothing else was changed".to_owned(),
            1 => "the step before it was undone".to_owned(),
            done => format!("the {done} steps before it were undone"),
        }
    }
}

/// Returns the steps that [`apply`] would carry out; reads only.
///
/// # Errors
/// If the kernel or the journal cannot be read.
pub fn preview(
    kernel: &mut impl Kernel,
    desired: &State,
    journal: &Journal,
) -> Result<Plan, ApplyError> {
    let interrupted = journal.left_over()?.is_some();
    let observed = kernel.observe(desired).map_err(ApplyError::Observe)?;
    Ok(plan_from(desired, &observed, interrupted))
}

/// Makes the node what is desired.
///
/// # Errors
/// If a step fails (what the run did is undone), or if the kernel does not keep what was done.
pub fn apply(
    kernel: &mut impl Kernel,
    desired: &State,
    journal: &mut Journal,
) -> Result<Report, ApplyError> {
    let start = Instant::now();
    let left_over = journal.left_over()?;
    if let Some(run) = left_over.filter(|run| run.done < run.steps) {
        log::info!(
            "an earlier run was interrupted after {} of {} steps",
            run.done,
            run.steps
        );
    }
    let interrupted = left_over.is_some();
    let mut run = Run {
        kernel,
        desired,
        journal,
        interrupted,
        report: Report::default(),
    };
    let observed = run.observe()?;
    let plan = plan_from(desired, &observed, run.interrupted);
    if !plan.is_empty() {
        run.carry_out(plan, &observed.objects)?;
        // Until then the state of the node is not known: the next run resumes this one.
        run.verify(&observed.objects)?;
        run.journal.finish()?;
    } else if run.interrupted {
        run.journal.finish()?;
    }
    run.report.total = start.elapsed();
    Ok(run.report)
}

fn plan_from(desired: &State, observed: &Observed, interrupted: bool) -> Plan {
    if interrupted {
        plan::resume(desired, observed)
    } else {
        plan::plan(desired, observed)
    }
}

struct Run<'a, K> {
    kernel: &'a mut K,
    desired: &'a State,
    journal: &'a mut Journal,
    /// Whether an earlier run was interrupted, so that the node was in no known state before.
    interrupted: bool,
    report: Report,
}

impl<K: Kernel> Run<'_, K> {
    fn observe(&mut self) -> Result<Observed, ApplyError> {
        let (observed, took) = timed(|| self.kernel.observe(self.desired));
        self.report.note(Phase::Observe, took);
        observed.map_err(ApplyError::Observe)
    }

    /// Executes all steps, or brings `before` back: what was there when the run began.
    fn carry_out(&mut self, plan: Plan, before: &State) -> Result<(), ApplyError> {
        let first = self.report.plan.steps.len();
        self.report.plan.places.extend(plan.places);
        self.report.plan.steps.extend(plan.steps);
        let (noted, took) = timed(|| self.journal.plan(&self.report.plan));
        if let Err(error) = noted {
            if first == 0 && !self.interrupted {
                // Nothing was begun, which is what half a journal would deny.
                drop(self.journal.finish());
            }
            return Err(error.into());
        }
        self.report.note(Phase::Journal, took);
        for index in first..self.report.plan.steps.len() {
            if let Err(cause) = self.execute(index) {
                return Err(self.roll_back(before, index, cause));
            }
        }
        Ok(())
    }

    fn execute(&mut self, index: usize) -> Result<(), Cause> {
        let step = &self.report.plan.steps[index];
        log::debug!(
            "{} {}",
            step.action().sign(),
            self.report.plan.command(step)
        );
        let key = step.key.clone();
        let (begun, began) = timed(|| self.journal.begin(index));
        begun?;
        let (executed, took) = timed(|| self.kernel.execute(step));
        executed?;
        let (done, ended) = timed(|| self.journal.done(index));
        done?;
        self.report.note_step(&key, took);
        self.report.note(Phase::Journal, began + ended);
        Ok(())
    }

    fn roll_back(&mut self, before: &State, index: usize, cause: Cause) -> ApplyError {
        let plan = &self.report.plan;
        let command = plan.command(&plan.steps[index]);
        let key = plan.steps[index].key.clone();
        log::info!("{command}: {cause}; undoing {index} steps");
        let noted = self.journal.undo(&format!("{command}: {cause}"));
        let mut outcome = undo(self.kernel, self.desired, before, plan);
        outcome
            .failed
            .extend(noted.err().map(|error| error.to_string()));
        // A node in an unknown state keeps the journal for the next run.
        if outcome.failed.is_empty()
            && !self.interrupted
            && let Err(error) = self.journal.finish()
        {
            outcome.failed.push(error.to_string());
        }
        let Undo {
            undone,
            failed: not_undone,
        } = outcome;
        ApplyError::Step(Box::new(Failure {
            key,
            command,
            cause,
            done: index,
            undone,
            not_undone,
        }))
    }

    /// Asks the kernel whether everything stuck, and makes good once what did not.
    fn verify(&mut self, before: &State) -> Result<(), ApplyError> {
        let missing = self.missing()?;
        if missing.is_empty() {
            return Ok(());
        }
        log::debug!("{} did not stick", commands(&missing).join("; "));
        self.carry_out(missing, before)?;
        let missing = self.missing()?;
        if missing.is_empty() {
            return Ok(());
        }
        let left = commands(&missing);
        let done = Box::new(std::mem::take(&mut self.report));
        Err(ApplyError::Verify { left, done })
    }

    fn missing(&mut self) -> Result<Plan, ApplyError> {
        let observed = self.observe()?;
        Ok(plan::plan(self.desired, &observed))
    }
}

fn commands(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| plan.command(step)).collect()
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = call();
    (result, start.elapsed())
}
