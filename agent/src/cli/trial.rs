//! `ciliate try`: applies a file, and takes it back at the deadline unless somebody confirms it.
//!
//! ```text
//!  terminal ── front: keys, signals, output      (may be hung up, stopped, killed)
//!                │ signals        ▲ pipes
//!                ▼                │
//!              guard: in a session of its own ── record.json and the lock beside it
//! ```
//!
//! The operator may have cut the connection by which the terminal is here: that is what a trial is
//! for. So the guard waits for nobody but the clock. The record tells everybody else what to do if
//! it is killed; and it is the record that is confirmed (by `ciliate confirm`), or is gone when
//! somebody else has taken the trial back.
//!
//! The file may have been edited in place. It is the operator's and stays as it is; what the node
//! is made again comes from the copy of what was applied last.

use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::answer::{Answer, Answers, Held};
use super::apply::{Missing, converge};
use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::front;
use super::instance::{self, Instance};
use crate::daemon::folder::{Files, Folders};
use crate::daemon::warning;
use crate::host::Error;
use crate::host::clock::{self, Moment};
use crate::host::lock::Lock;
use crate::host::session::{self, Side};
use crate::plan::{Desired, Plan};
use crate::reconcile::trial::{Phase, Standing};
use crate::reconcile::{Edition, Report, Trial};
use crate::topology::Topology;

/// How long the guard sleeps at the most: a machine that was asleep is late by no more than that.
const TURN: Duration = Duration::from_secs(1);

/// How long the pauses between attempts to take a trial back are.
const PAUSES_MS: [u64; 6] = [250, 500, 1000, 2000, 4000, 8000];

/// Tries a file. Returns the exit code: that a trial was taken back is one of its own.
///
/// # Errors
/// If the file is wrong, a trial runs, or a step fails; what was done is undone then.
pub fn attempt(
    common: &Common,
    file: &Path,
    timeout: Duration,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    let (topology, edition) = instance::read(file, common.node.as_deref())?;
    let instance = Instance::new(common, &topology.node);
    let has_keys = front::is_there();
    let held = Held::back().map_err(|errno| Error::system("hold signals back", errno))?;
    let side = session::split()?;
    let answers = Answers::listen()?;
    drop(held);
    match side {
        Side::Stays(guard) => front::wait(guard, answers, out, err),
        Side::Leaves => Guard {
            is_new: !instance.exists(),
            instance,
            topology,
            edition,
            timeout,
            has_keys,
        }
        .watch(answers, out),
    }
}

/// Is the process that takes a trial back.
struct Guard {
    instance: Instance,
    /// Whether nothing of the node is here yet.
    is_new: bool,
    topology: Topology,
    edition: Edition,
    timeout: Duration,
    /// Whether somebody may confirm by a key.
    has_keys: bool,
}

/// Says how a trial ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kept,
    /// It has to be taken back, for this reason.
    Rejected(&'static str),
    /// Somebody else has taken it back.
    TakenBack,
}

impl Guard {
    fn watch(self, mut answers: Answers, out: &mut dyn Write) -> Result<u8, Failure> {
        let lock = self.lock()?;
        let begun = self.instance.enter(|| self.begin());
        let report = match begun {
            Ok(report) => report,
            Err(failure) => {
                self.leave(lock);
                return Err(failure);
            }
        };
        say(out, &report.plan.to_string());
        if report.plan.is_empty() {
            self.leave(lock);
            return Ok(exit::OK);
        }
        self.ask(out);
        let end = self.wait(&mut answers);
        let end = match end {
            Ok(End::Rejected(why)) => {
                say(out, &format!("{why}: taking it back.\n"));
                self.insist()
            }
            other => other,
        };
        // Whatever could not be done: the record tells the next one.
        let end = end?;
        self.leave(lock);
        Ok(self.tell(end, out))
    }

    /// Takes the lock that the guard holds as long as it lives.
    fn lock(&self) -> Result<Lock, Failure> {
        let directory = self.instance.directory();
        match Lock::take(&Trial::folder(directory)) {
            Err(cause @ Error::Locked { .. }) => Err(match Trial::load(directory)? {
                Some(trial) => self.instance.trial_runs(&trial)?,
                None => cause.into(),
            }),
            other => Ok(other?),
        }
    }

    /// Records the trial and applies what is tried.
    fn begin(&self) -> Result<Report, Failure> {
        let (instance, directory) = (&self.instance, self.instance.directory());
        let lock = instance.lock()?;
        if let Some((abandoned, Standing::Guarded | Standing::Abandoned)) = instance.trial()? {
            let (code, pid) = (warning::ABANDONED, abandoned.pid);
            log::warn!(
                "{code}: process {pid}, which guarded a trial, is gone: taking the trial back"
            );
            instance.take_back(&abandoned, &lock)?;
        }
        let mut trial = Trial {
            pid: process::id(),
            boot: clock::boot(),
            deadline: Moment::now()? + self.timeout,
            phase: Phase::Begun,
            tried: instance::fingerprint(&self.topology),
            before: if self.is_new {
                None
            } else {
                instance.before_trial()?
            },
        };
        trial.save(directory)?;
        match self.apply() {
            Ok(report) if report.plan.is_empty() => {
                Trial::remove(directory)?;
                Ok(report)
            }
            Ok(report) => {
                trial.phase = Phase::Waiting;
                trial.deadline = Moment::now()? + self.timeout;
                trial.save(directory)?;
                Ok(report)
            }
            Err(failure) => {
                self.give_up(&trial, lock);
                Err(failure)
            }
        }
    }

    fn apply(&self) -> Result<Report, Failure> {
        let nothing = std::collections::BTreeSet::new();
        let (instance, topology) = (&self.instance, &self.topology);
        let warn = |desired: &mut Desired| {
            // Now, and not when it is done: who is cut off would not read it any more.
            let warnings = &mut desired.notes.warnings;
            for warning in warnings.extract_if(.., |warning| warning.stops) {
                log::warn!("{warning}; a trial takes itself back, and goes on");
            }
            Ok(())
        };
        converge(
            instance,
            topology,
            &self.edition,
            &nothing,
            Missing::Refused,
            warn,
        )
    }

    /// Leaves the node as it was before a trial that failed at once.
    fn give_up(&self, trial: &Trial, lock: Lock) {
        let (instance, directory) = (&self.instance, self.instance.directory());
        // A run that was undone leaves no journal, one whose outcome is not known does.
        let gone = if instance.is_half_done() {
            instance.take_back(trial, &lock).map(drop)
        } else {
            Trial::remove(directory).map_err(Failure::from)
        };
        match gone {
            Ok(()) if self.is_new => {
                drop(instance.system().map(|system| system.into_state().remove()));
                drop(lock.remove());
            }
            Ok(()) => {}
            Err(failure) => log::error!("take the trial back: {failure}"),
        }
    }

    /// Says that it is on trial, and what the operator may do.
    fn ask(&self, out: &mut dyn Write) {
        let until = self
            .deadline()
            .map(|(deadline, now)| deadline.on_the_wall(now).time_of_day());
        let key = if self.has_keys {
            "press Enter, or run `ciliate confirm`"
        } else {
            "run `ciliate confirm`"
        };
        say(
            out,
            &format!(
                "Node {} is on trial until {} ({} s). To keep it, {key}; to take it back at once, \
                 press Ctrl-C.\n",
                self.instance.node,
                until.unwrap_or_default(),
                self.timeout.as_secs()
            ),
        );
    }

    fn deadline(&self) -> Result<(Moment, Moment), Failure> {
        let trial = Trial::load(self.instance.directory())?;
        let now = Moment::now()?;
        Ok((trial.map_or(now, |trial| trial.deadline), now))
    }

    /// Waits for an answer or the deadline.
    fn wait(&self, answers: &mut Answers) -> Result<End, Failure> {
        let directory = self.instance.directory();
        let mut folders = Folders::open()?;
        loop {
            folders.watch(Files {
                single: [Trial::path(directory)].into(),
                ..Files::default()
            });
            match answers.given() {
                Some(Answer::Keep) => return self.keep(),
                Some(Answer::TakeBack) => return Ok(End::Rejected("Rejected")),
                None => {}
            }
            let left = match Trial::load(directory)? {
                None => return Ok(End::TakenBack),
                Some(trial) if trial.phase == Phase::Confirmed => return self.keep(),
                Some(trial) => trial.deadline.since(Moment::now()?),
            };
            if left.is_zero() {
                return Ok(End::Rejected("Nobody has confirmed it"));
            }
            sleep(left.min(TURN), answers, &folders)?;
            folders.read()?;
        }
    }

    /// Ends the trial with what is tried, unless somebody else has ended it.
    fn keep(&self) -> Result<End, Failure> {
        let _lock = self.instance.lock()?;
        let directory = self.instance.directory();
        if Trial::load(directory)?.is_none() {
            return Ok(End::TakenBack);
        }
        Trial::remove(directory)?;
        Ok(End::Kept)
    }

    /// Takes the trial back, and does not give up at once: nobody may be there to do it.
    fn insist(&self) -> Result<End, Failure> {
        let mut pauses = PAUSES_MS.into_iter();
        loop {
            let failure = match self.instance.enter(|| self.take_back()) {
                Ok(end) => return Ok(end),
                Err(failure) => failure,
            };
            let Some(pause) = pauses.next() else {
                return Err(failure);
            };
            log::warn!(
                "{}: {failure}; again in {pause} ms",
                warning::NOT_TAKEN_BACK
            );
            thread::sleep(Duration::from_millis(pause));
        }
    }

    fn take_back(&self) -> Result<End, Failure> {
        let lock = self.instance.lock()?;
        match Trial::load(self.instance.directory())? {
            None => Ok(End::TakenBack),
            // It was, before we had the lock.
            Some(trial) if trial.phase == Phase::Confirmed => {
                Trial::remove(self.instance.directory())?;
                Ok(End::Kept)
            }
            Some(trial) => {
                let plan: Plan = self.instance.take_back(&trial, &lock)?;
                log::debug!("taken back: {}", plan.summary());
                if trial.before.is_none() {
                    lock.remove()?;
                }
                Ok(End::TakenBack)
            }
        }
    }

    /// Removes what only a trial needs, and the node's folders if nothing is in them.
    fn leave(&self, lock: Lock) {
        if matches!(Trial::load(self.instance.directory()), Ok(None)) {
            Trial::remove_folder(self.instance.directory());
        }
        drop(lock);
        self.instance.remove_folders();
    }

    /// Says how the trial ended. Returns the exit code.
    fn tell(&self, end: End, out: &mut dyn Write) -> u8 {
        let (node, file) = (&self.instance.node, self.edition.file.display());
        if end == End::Kept {
            say(
                out,
                &format!("Node {node} is kept as {file} says; undo with `ciliate down`.\n"),
            );
            return exit::OK;
        }
        say(
            out,
            &format!(
                "Node {node} is again what it was before. {file} still says what was tried: correct \
                 it, for `ciliate apply`, a reload and the next boot take what it says.\n"
            ),
        );
        exit::ROLLED_BACK
    }
}

/// Says something to whom it may concern: that nobody listens changes nothing.
fn say(out: &mut dyn Write, text: &str) {
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        log::debug!("write output: {error}");
    }
}

/// Sleeps until an answer comes, the record changes, or some time is over.
fn sleep(time: Duration, answers: &Answers, folders: &Folders) -> Result<(), Failure> {
    // Rounded up, or the last millisecond would be spent awake.
    let millis = i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    let mut sources =
        [answers.as_fd(), folders.as_fd()].map(|source| PollFd::new(source, PollFlags::POLLIN));
    match poll(&mut sources, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::system("wait for an answer", errno).into()),
    }
}
