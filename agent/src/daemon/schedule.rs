//! When to look at the node. Pure: time comes in as an argument.
//!
//! Announcements come in bursts: a look waits until they pause for a moment, but not for ever. A
//! look that takes long is followed by a rest, so that a stream of announcements (a routing
//! daemon at work) takes a fraction of a processor and no more. What is not announced is found by
//! a check. After a repair that failed only the next attempt counts: undoing is announced too.

use std::time::{Duration, Instant};

/// How long announcements must pause.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a look waits for a pause at the most.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long after a look the next one comes, whatever was announced.
const CHECK: Duration = Duration::from_secs(5);

/// A rest is so many times as long as the look before it, and no longer than the patience.
const REST: u32 = 4;

/// How long after the first failure the next attempt comes; doubled with each further one.
const RETRY: Duration = Duration::from_millis(250);

/// How long after any number of failures the next attempt comes.
const LAST_RETRY: Duration = Duration::from_mins(1);

/// Says when the next look is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first and the latest announcement since the last look.
    announced: Option<(Instant, Instant)>,
    /// No announcement brings about a look before.
    rested: Instant,
    /// The look that comes whatever is announced.
    check: Instant,
    failures: u32,
    /// Whether announcements may be the echo of our own undoing.
    is_deaf: bool,
}

impl Schedule {
    /// Starts with a look that is over.
    pub fn new(now: Instant) -> Self {
        Self {
            announced: None,
            rested: now,
            check: now + CHECK,
            failures: 0,
            is_deaf: false,
        }
    }

    /// Notes that something was announced.
    pub fn announce(&mut self, now: Instant) {
        let (first, _) = self.announced.unwrap_or((now, now));
        self.announced = Some((first, now));
    }

    /// Returns when the next look is due.
    pub fn next(&self) -> Instant {
        match self.announced {
            Some((first, latest)) if !self.is_deaf => (latest + PAUSE)
                .min(first + PATIENCE)
                .max(self.rested)
                .min(self.check),
            _ => self.check,
        }
    }

    /// Tells whether the next look is no more than a check: nothing was announced and nothing failed.
    pub fn is_check(&self) -> bool {
        self.announced.is_none() && self.failures == 0
    }

    /// Notes that a look begins: it sees everything that was announced.
    pub fn begin(&mut self) {
        self.announced = None;
    }

    /// Notes that a look is over.
    pub fn succeed(&mut self, begun: Instant, now: Instant) {
        self.failures = 0;
        self.is_deaf = false;
        self.rested = now + rest(begun, now);
        self.check = now + CHECK;
    }

    /// Notes that a look failed, or a repair (`was_undone`). Returns how long the next attempt is
    /// away; after a look, an announcement brings it about before.
    pub fn fail(&mut self, begun: Instant, now: Instant, was_undone: bool) -> Duration {
        let doubled = RETRY.saturating_mul(1 << self.failures.min(16));
        let delay = doubled.min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.check = now + delay;
        self.rested = now + rest(begun, now);
        self.is_deaf = was_undone;
        delay
    }
}

/// Returns how long a look is followed by none.
fn rest(begun: Instant, now: Instant) -> Duration {
    (now.duration_since(begun) * REST).min(PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn begin() -> (Instant, Schedule) {
        let start = Instant::now();
        (start, Schedule::new(start))
    }

    #[test]
    fn look_comes_after_five_seconds_if_nothing_is_announced() {
        let (start, schedule) = begin();

        assert_eq!(schedule.next(), start + CHECK);
    }

    #[test]
    fn look_waits_for_a_pause_of_announcements() {
        let (start, mut schedule) = begin();

        schedule.announce(start + 10 * MS);
        assert_eq!(schedule.next(), start + 60 * MS);
        schedule.announce(start + 40 * MS);
        assert_eq!(schedule.next(), start + 90 * MS);
    }

    #[test]
    fn stream_of_announcements_delays_a_look_by_half_a_second_at_the_most() {
        let (start, mut schedule) = begin();

        for number in 0..100 {
            schedule.announce(start + number * 10 * MS);
        }

        assert_eq!(schedule.next(), start + PATIENCE);
    }

    #[test]
    fn look_that_was_asked_for_is_no_mere_check() {
        let (start, mut schedule) = begin();

        assert!(schedule.is_check());
        schedule.fail(start, start, false);
        assert!(!schedule.is_check());
        schedule.succeed(start, start);
        schedule.announce(start);
        assert!(!schedule.is_check());
    }

    #[test]
    fn announcements_do_not_delay_a_check() {
        let (start, mut schedule) = begin();

        schedule.announce(start + 4990 * MS);

        assert_eq!(schedule.next(), start + CHECK);
    }

    #[test]
    fn look_begins_anew_what_was_announced_before_it() {
        let (start, mut schedule) = begin();
        schedule.announce(start);

        schedule.begin();
        schedule.succeed(start + 50 * MS, start + 50 * MS);

        assert_eq!(schedule.next(), start + 50 * MS + CHECK);
    }

    #[test]
    fn long_look_is_followed_by_a_rest_that_keeps_the_second() {
        let (start, mut schedule) = begin();

        schedule.succeed(start, start + 100 * MS);
        schedule.announce(start + 100 * MS);
        assert_eq!(schedule.next(), start + 500 * MS);

        schedule.succeed(start, start + 2000 * MS);
        schedule.announce(start + 2000 * MS);
        assert_eq!(schedule.next(), start + 2000 * MS + PATIENCE);
    }

    #[test]
    fn failures_double_the_delay_up_to_a_minute() {
        let (start, mut schedule) = begin();

        let delays: Vec<Duration> = (0..10).map(|_| schedule.fail(start, start, true)).collect();

        assert_eq!(delays[..4], [250 * MS, 500 * MS, 1000 * MS, 2000 * MS]);
        assert_eq!(delays[8..], [LAST_RETRY, LAST_RETRY]);
    }

    #[test]
    fn announcement_hastens_the_next_look_after_one_that_failed() {
        let (start, mut schedule) = begin();

        schedule.fail(start, start, false);
        assert_eq!(schedule.next(), start + RETRY);
        schedule.announce(start);
        assert_eq!(schedule.next(), start + PAUSE);
    }

    #[test]
    fn announcement_does_not_hasten_an_attempt_after_a_repair_that_failed() {
        let (start, mut schedule) = begin();

        schedule.fail(start, start, true);
        schedule.announce(start);
        assert_eq!(schedule.next(), start + RETRY);

        schedule.succeed(start, start);
        assert_eq!(schedule.next(), start + PAUSE);
    }
}
