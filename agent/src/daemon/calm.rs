//! When to read an edited file. Pure: time comes in as an argument.
//!
//! Editors write in steps (a copy, a rename, new permissions), and people several files: what was
//! written is read when nothing more happens for a moment, but not later than two seconds after
//! the first step. A good file that could not be taken is tried again, each time later.

use std::time::{Duration, Instant};

/// How long nothing must happen.
const CALM: Duration = Duration::from_millis(200);

/// How long reading waits for that at the most.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after the first failure the next attempt comes; doubled with each further one.
const RETRY: Duration = Duration::from_secs(1);

/// How long after any number of failures the next attempt comes.
const LAST_RETRY: Duration = Duration::from_mins(1);

/// Says when to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calm {
    /// The first and the latest step that was not read.
    edited: Option<(Instant, Instant)>,
    retry: Option<Instant>,
    failures: u32,
}

impl Calm {
    /// Notes that something was written.
    pub fn note(&mut self, now: Instant) {
        let (first, _) = self.edited.unwrap_or((now, now));
        self.edited = Some((first, now));
    }

    /// Tells whether something was written that was not read.
    pub fn is_edited(&self) -> bool {
        self.edited.is_some()
    }

    /// Returns when to read, if there is something to read.
    pub fn next(&self) -> Option<Instant> {
        let calm = self
            .edited
            .map(|(first, latest)| (latest + CALM).min(first + PATIENCE));
        calm.into_iter().chain(self.retry).min()
    }

    /// Tells whether it is time to read.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    /// Notes that reading begins: it sees everything that was written.
    pub fn begin(&mut self) {
        self.edited = None;
        self.retry = None;
    }

    /// Notes that there is nothing to try again.
    pub fn end(&mut self) {
        self.failures = 0;
    }

    /// Notes that what was read could not be taken for a reason that may pass.
    pub fn fail(&mut self, now: Instant) {
        let doubled = RETRY.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(now + doubled.min(LAST_RETRY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_read_unless_something_was_written() {
        let calm = Calm::default();

        assert_eq!(calm.next(), None);
        assert!(!calm.is_due(Instant::now()));
    }

    #[test]
    fn reading_waits_until_nothing_more_happens() {
        let (start, mut calm) = (Instant::now(), Calm::default());

        calm.note(start);
        calm.note(start + 150 * MS);

        assert!(!calm.is_due(start + 349 * MS));
        assert!(calm.is_due(start + 350 * MS));
        calm.begin();
        assert_eq!(calm.next(), None);
    }

    #[test]
    fn stream_of_edits_delays_reading_by_two_seconds_at_the_most() {
        let (start, mut calm) = (Instant::now(), Calm::default());

        for number in 0..100 {
            calm.note(start + number * 100 * MS);
        }

        assert_eq!(calm.next(), Some(start + PATIENCE));
    }

    #[test]
    fn attempts_are_repeated_later_each_time_and_an_edit_hastens_them() {
        let (start, mut calm) = (Instant::now(), Calm::default());

        let delays: Vec<_> = (0..8)
            .map(|_| {
                calm.begin();
                calm.fail(start);
                calm.next()
                    .expect("a retry")
                    .duration_since(start)
                    .as_secs()
            })
            .collect();

        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        calm.note(start);
        assert_eq!(calm.next(), Some(start + CALM));
        calm.begin();
        calm.end();
        calm.fail(start);
        assert_eq!(calm.next(), Some(start + RETRY), "it begins anew");
    }
}
