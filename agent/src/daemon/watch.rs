//! The loop of the resident agent.
//!
//! It sleeps in `poll` until something is announced, a signal comes, or a look, the end of a
//! pause or a chore is due. All state belongs to its one thread.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::announcement::Announcements;
use super::back_off::{BackOff, Undone};
use super::chore::Chore;
use super::consequence::{causes, endpoint_of};
use super::folder::Folders;
use super::schedule::Schedule;
use super::signal::{Request, Signals};
use super::{Node, Round, Trouble, service, warning};
use crate::host;
use crate::plan::Plan;
use crate::reconcile::Cause;
use crate::reconcile::drift::DriftFile;

/// Is what wakes the loop.
pub struct Sources {
    signals: Signals,
    announcements: Announcements,
    folders: Folders,
}

impl Sources {
    /// Opens them. What changes from here on is not missed, and no signal ends the process.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open() -> Result<Self, Cause> {
        Ok(Self {
            signals: Signals::take()?,
            announcements: Announcements::listen()?,
            folders: Folders::open()?,
        })
    }

    /// Sleeps until something happens, here or at one of the others, or until `deadline`.
    fn wait(&self, others: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), Cause> {
        // Rounded up, or the last millisecond would be spent awake.
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let own = [
            self.signals.as_fd(),
            self.announcements.as_fd(),
            self.folders.as_fd(),
        ];
        let sources = own.into_iter().chain(others.iter().copied());
        let mut sources: Vec<_> = sources
            .map(|source| PollFd::new(source, PollFlags::POLLIN))
            .collect();
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(host::Error::system("wait for announcements", errno).into()),
        }
    }

    /// Takes everything that was announced; tells whether the node may depend on any of it.
    fn read(&mut self) -> Result<bool, Cause> {
        // Both, whatever the first says: what is not taken wakes the loop again.
        let (network, files) = (self.announcements.read()?, self.folders.read()?);
        Ok(network || files)
    }
}

/// Keeps a node as it shall be.
pub struct Watch<'a> {
    node: &'a mut dyn Node,
    sources: Sources,
    drift: DriftFile,
    chores: Vec<Chore>,
    schedule: Schedule,
    back_off: BackOff,
    /// What went wrong the last time, which is not told again.
    trouble: Option<String>,
}

impl<'a> Watch<'a> {
    /// Prepares to keep a node that is as it shall be.
    pub fn new(
        node: &'a mut dyn Node,
        sources: Sources,
        drift: DriftFile,
        chores: Vec<Chore>,
    ) -> Self {
        Self {
            node,
            sources,
            drift,
            chores,
            schedule: Schedule::new(Instant::now()),
            back_off: BackOff::default(),
            trouble: None,
        }
    }

    /// Runs until a signal asks for the end; the datapath stays.
    ///
    /// # Errors
    /// If announcements can no longer be read.
    pub fn run(mut self) -> Result<(), Cause> {
        service::ready();
        loop {
            self.sources
                .wait(&self.node.descriptors(), self.deadline())?;
            match self.sources.signals.request() {
                Some(Request::Stop) => break,
                Some(Request::Reload) => self.reload(),
                None => {}
            }
            let matters = self.sources.read()? | self.node.attend();
            let now = Instant::now();
            if matters {
                self.schedule.announce(now);
            }
            if self.back_off.release(now) || now >= self.schedule.next() {
                self.look(now);
            }
            for chore in &mut self.chores {
                chore.attend(Instant::now());
            }
        }
        service::stopping();
        log::info!("the agent ends, and the datapath stays");
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let chores = self.chores.iter().map(Chore::next);
        let node = self.node.idle().map(|idle| Instant::now() + idle);
        let others = chores.chain(self.back_off.next()).chain(node);
        others.fold(self.schedule.next(), Instant::min)
    }

    fn look(&mut self, now: Instant) {
        self.schedule.begin();
        self.sources.folders.watch(self.node.files());
        match self.node.repair(&self.back_off.spared()) {
            Ok(Round::Busy) => {
                // It changes something, and does not tell when it has done.
                self.succeed(now);
                self.schedule.announce(Instant::now());
            }
            Ok(Round::Renewed(plan)) => {
                self.succeed(now);
                self.renewed(&plan);
            }
            Ok(Round::Repaired(plan)) => {
                self.succeed(now);
                self.repaired(&plan);
            }
            Err(trouble) => self.failed(now, &trouble),
        }
    }

    /// Leaves alone for a while what could not be repaired: the endpoint if it was about one, so
    /// that others are repaired meanwhile, else everything.
    fn failed(&mut self, begun: Instant, trouble: &Trouble) {
        let now = Instant::now();
        let object = trouble.object.as_ref();
        let (delay, what) = if let Some(endpoint) = object.and_then(endpoint_of) {
            self.schedule.succeed(begun, now);
            self.schedule.announce(now);
            (self.back_off.refuse(&endpoint, now), "the endpoint")
        } else {
            let delay = self.schedule.fail(begun, now, trouble.was_undone);
            (delay, "the node")
        };
        let text = trouble.cause.to_string();
        if self.trouble.as_ref() != Some(&text) {
            let code = warning::FAILED;
            log::warn!("{code}: {text}; {what} is left alone for {delay:?}, and longer each time");
        }
        self.trouble = Some(text);
    }

    fn succeed(&mut self, begun: Instant) {
        self.schedule.succeed(begun, Instant::now());
        // An endpoint that is left alone has not been repaired.
        if self.back_off.next().is_none() && self.trouble.take().is_some() {
            log::info!("all of the node is looked at and repaired again");
        }
    }

    /// Tells and counts what was repaired, and notices what had been repaired before.
    fn repaired(&mut self, plan: &Plan) {
        let now = Instant::now();
        let mut repairs = Vec::new();
        let causes = causes(plan);
        for step in &causes {
            let repair = format!("{} ({})", plan.command(step), step.reason);
            log::info!("repaired: {repair}");
            repairs.push(repair);
        }
        // A step that was repeated within the run is one repair of its object.
        let objects: BTreeMap<_, _> = causes.into_iter().map(|step| (&step.key, step)).collect();
        for (key, step) in objects {
            if let Some(undone) = self.back_off.note(key, now) {
                warn_of(&undone, &plan.command(step));
            }
        }
        if !repairs.is_empty()
            && let Err(error) = self.drift.count(&repairs)
        {
            log::warn!("{}: {error}", warning::FAILED);
        }
    }

    fn reload(&mut self) {
        let begun = Instant::now();
        self.schedule.begin();
        match self.node.reload() {
            Ok(plan) => {
                self.succeed(begun);
                self.renewed(&plan);
            }
            Err(cause) => {
                // What was announced meanwhile has not been looked at.
                self.schedule.announce(begun);
                let code = warning::NOT_RELOADED;
                log::warn!(
                    "{code}: the file is not taken, what was applied before holds:\n{cause}"
                );
            }
        }
    }

    /// Tells what another file changed; what was repaired under the old one does not count.
    fn renewed(&mut self, plan: &Plan) {
        self.back_off = BackOff::default();
        for step in &plan.steps {
            let sign = step.action().sign();
            log::info!("{sign} {} ({})", plan.command(step), step.reason);
        }
        log::info!("the file is taken anew: {}", plan.summary());
    }
}

fn warn_of(undone: &Undone, command: &str) {
    log::warn!(
        "{}: {command}: repaired {} times in {} s: something keeps undoing it; the next repair is \
         in {} s at the earliest",
        warning::UNDONE,
        undone.repairs,
        undone.within.as_secs(),
        undone.pause.as_secs()
    );
}
