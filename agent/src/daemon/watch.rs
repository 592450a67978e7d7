//! The loop of the resident agent.
//!
//! It sleeps in `poll` until something is announced or edited, a signal comes, somebody asks, or a
//! check, the end of a pause or a chore is due. A check is a glance at what nobody announces, as
//! long as that says what it said before, and a look at everything otherwise. All state belongs to
//! its one thread.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::back_off::{BackOff, Undone};
use super::chore::Chore;
use super::consequence::{causes, endpoint_of};
use super::protocol::{self, AgentStatus, Reply};
use super::record::Record;
use super::schedule::Schedule;
use super::sender::Sender;
use super::service::Manager;
use super::signal::Request;
use super::source::Sources;
use super::{Node, Round, Trouble, Why, warning};
use crate::plan::Plan;
use crate::plan::object::Key;
use crate::reconcile::Cause;
use crate::reconcile::drift::{Contest, DriftFile};

/// How long glances suffice: what they cannot see is found by a look after that.
const LOOK_PERIOD: Duration = Duration::from_mins(5);

/// Keeps a node as it shall be.
pub struct Watch<'a> {
    pub(super) node: &'a mut dyn Node,
    pub(super) sources: Sources,
    drift: DriftFile,
    chores: Vec<Chore>,
    pub(super) schedule: Schedule,
    pub(super) back_off: BackOff,
    pub(super) record: Record,
    pub(super) manager: Manager,
    /// What a glance said when everything was last looked at and nothing differed, and when that was.
    seen: Option<(u64, Instant)>,
    /// What went wrong the last time, which is not told again.
    pub(super) trouble: Option<String>,
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
            record: Record::new(node.file()),
            node,
            sources,
            drift,
            chores,
            schedule: Schedule::new(Instant::now()),
            back_off: BackOff::default(),
            manager: Manager::new(Instant::now()),
            seen: None,
            trouble: None,
        }
    }

    /// Runs until a signal asks for the end; the datapath stays.
    ///
    /// # Errors
    /// If announcements can no longer be read.
    pub fn run(mut self) -> Result<(), Cause> {
        self.manager.ready(self.brief());
        loop {
            self.sources
                .wait(&self.node.descriptors(), self.deadline())?;
            if self.is_stopped() {
                break;
            }
            let matters = self.sources.read()? | self.node.attend();
            let now = Instant::now();
            if matters {
                self.schedule.announce(now);
            }
            if self.sources.edits.is_due(now) {
                self.reload(Why::Edited);
            }
            if self.back_off.release(now) {
                self.look(now);
            } else if now >= self.schedule.next() {
                self.check(now);
            }
            self.answer();
            for chore in &mut self.chores {
                chore.attend(Instant::now());
            }
            self.manager.turn(Instant::now());
        }
        self.manager.stopping();
        log::info!("the agent ends, and the datapath stays");
        Ok(())
    }

    /// Does what signals ask for; tells whether one asks for the end.
    fn is_stopped(&mut self) -> bool {
        while let Some(request) = self.sources.signals.request() {
            match request {
                Request::Stop => return true,
                Request::Reload => drop(self.reload(Why::Asked)),
                Request::Dump => self.dump(),
            }
        }
        false
    }

    fn deadline(&self) -> Instant {
        let chores = self.chores.iter().filter_map(Chore::next);
        let node = self.node.idle().map(|idle| Instant::now() + idle);
        let others = chores
            .chain(self.back_off.next())
            .chain(self.manager.next())
            .chain(self.sources.next())
            .chain(node);
        others.fold(self.schedule.next(), Instant::min)
    }

    /// Looks at everything, unless a glance tells that nothing has changed since the last look.
    fn check(&mut self, now: Instant) {
        let is_recent = |seen: &(u64, Instant)| now.duration_since(seen.1) < LOOK_PERIOD;
        let seen = self.seen.filter(is_recent).map(|(number, _)| number);
        if seen.is_some() && self.schedule.is_check() && self.node.glance() == seen {
            self.schedule.succeed(now, Instant::now());
        } else {
            self.look(now);
        }
    }

    fn look(&mut self, now: Instant) {
        self.schedule.begin();
        self.sources.folders.watch(self.node.files());
        self.sources.edits.check(now);
        // What changes during the look is seen by the next check.
        let glance = self.node.glance();
        self.seen = None;
        match self.node.repair(&self.back_off.spared()) {
            Ok(Round::Busy) => {
                // It changes something, and does not tell when it has done.
                self.succeed(now);
                self.schedule.announce(Instant::now());
            }
            Ok(Round::Unsettled(plan)) => {
                self.succeed(now);
                self.repaired(&plan);
                self.schedule.announce(Instant::now());
            }
            Ok(Round::Renewed(plan)) => {
                self.succeed(now);
                self.renewed(&plan);
                self.sources.edits.follow(self.node.file(), now);
                self.record.applied(self.node.file());
            }
            Ok(Round::Repaired(plan)) => {
                self.succeed(now);
                if plan.is_empty() {
                    self.seen = glance.map(|number| (number, now));
                }
                self.repaired(&plan);
            }
            Err(trouble) => self.failed(now, &trouble),
        }
        let brief = self.brief();
        self.manager.status(brief);
    }

    /// Says in a line how the node is.
    pub(super) fn brief(&self) -> String {
        let mut brief = self.node.summary();
        if self.record.is_refused() {
            brief.push_str("; a new file was refused, the old one holds");
        }
        if let Some(trouble) = &self.trouble {
            let first = trouble.lines().next().unwrap_or_default();
            brief.push_str("; ");
            brief.push_str(first);
        }
        brief
    }

    /// Leaves alone for a while what could not be repaired: the endpoint if it was about one, so
    /// that others are repaired meanwhile, else everything.
    fn failed(&mut self, begun: Instant, trouble: &Trouble) {
        let now = Instant::now();
        let object = trouble.object.as_ref();
        let (delay, what) = if let Some(endpoint) = object.and_then(endpoint_of) {
            self.schedule.succeed(begun, now);
            self.schedule.announce(now);
            let name = endpoint_name(&endpoint);
            (self.back_off.refuse(&endpoint, &name, now), "the endpoint")
        } else {
            let delay = self.schedule.fail(begun, now, trouble.was_undone);
            (delay, "the node")
        };
        let text = trouble.cause.to_string();
        if self.trouble.as_ref() != Some(&text) {
            let code = warning::FAILED;
            if delay.is_zero() {
                log::warn!("{code}: {text}; {what} is tried once more");
            } else {
                log::warn!(
                    "{code}: {text}; {what} is left alone for {delay:?}, and longer each time"
                );
            }
        }
        self.trouble = Some(text);
    }

    pub(super) fn succeed(&mut self, begun: Instant) {
        self.schedule.succeed(begun, Instant::now());
        // An endpoint that is left alone has not been repaired.
        if self.back_off.next().is_none() && self.trouble.take().is_some() {
            log::info!("all of the node is looked at and repaired again");
        }
    }

    /// Tells and counts what was repaired, and notices what had been repaired before.
    fn repaired(&mut self, plan: &Plan) {
        let now = Instant::now();
        let (mut repairs, mut contests) = (Vec::new(), Vec::new());
        let causes = causes(plan);
        for step in &causes {
            let repair = format!("{} ({})", plan.command(step), step.reason);
            log::info!("repaired: {repair}");
            repairs.push(repair);
        }
        // A step that was repeated within the run is one repair of its object.
        let objects: BTreeMap<_, _> = causes.into_iter().map(|step| (&step.key, step)).collect();
        for (key, step) in objects {
            let command = plan.command(step);
            if let Some(undone) = self.back_off.note(key, &command, now) {
                let sender = self.sources.announcements.sender_of(key);
                let contest = contest(&undone, command, sender);
                warn_of(&undone, &contest);
                self.back_off.blame(key, contest.by.clone());
                contests.push(contest);
            }
        }
        if !repairs.is_empty()
            && let Err(error) = self.drift.count(&repairs, contests)
        {
            log::warn!("{}: {error}", warning::FAILED);
        }
    }

    /// Answers those who ask.
    fn answer(&mut self) {
        let Some(mut control) = self.sources.control.take() else {
            return;
        };
        for asked in control.requests(Instant::now()) {
            let reply = match asked.request {
                protocol::Request::Status => Reply::Status(self.status()),
                protocol::Request::Reload => Reply::Reload(self.reload(Why::Asked)),
                protocol::Request::Confirm => Reply::Confirm {
                    confirmed: self.node.confirm(),
                },
            };
            control.answer(&asked, &reply, Instant::now());
        }
        self.sources.control = Some(control);
    }

    /// Describes the agent.
    pub(super) fn status(&self) -> AgentStatus {
        let spared = self.back_off.paused(Instant::now());
        self.record.status(spared, self.drift.drift().clone())
    }
}

fn endpoint_name(key: &Key) -> String {
    if let Key::EndpointLink(name) = key {
        format!("endpoint {name}")
    } else {
        format!("{key:?}")
    }
}

fn contest(undone: &Undone, what: String, sender: Option<&Sender>) -> Contest {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Contest {
        what,
        repairs: undone.repairs,
        by: sender.map(ToString::to_string),
        at: since_1970.map_or(0, |time| time.as_secs()),
    }
}

fn warn_of(undone: &Undone, Contest { what, by, .. }: &Contest) {
    let who = by
        .as_ref()
        .map_or("something".to_owned(), |by| format!("perhaps {by}"));
    log::warn!(
        "{}: {what}: repaired {} times in {} s: {who} keeps undoing it; the next repair is in {} s \
         at the earliest",
        warning::UNDONE,
        undone.repairs,
        undone.within.as_secs(),
        undone.pause.as_secs()
    );
}
