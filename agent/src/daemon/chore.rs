//! What is done every few seconds beside keeping the node: in small pieces, for the loop waits.
//!
//! A chore that found nothing to do wakes the loop no more: it is done again when the loop wakes
//! for something else, as it does for its checks.

use std::time::{Duration, Instant};

use super::warning;
use crate::reconcile::Cause;

/// Says how a chore goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// There is more to do.
    Busy,
    /// There was nothing to do.
    Idle,
}

/// Is something that is done again and again.
pub struct Chore {
    name: &'static str,
    period: Duration,
    next: Instant,
    pace: Pace,
    work: Box<dyn FnMut() -> Result<Pace, Cause>>,
    /// What went wrong the last time, which is not told again.
    trouble: Option<String>,
}

impl Chore {
    /// Names work that is done once in a period at the most, for the first time after one period.
    pub fn new(
        name: &'static str,
        period: Duration,
        work: impl FnMut() -> Result<Pace, Cause> + 'static,
    ) -> Self {
        Self {
            name,
            period,
            next: Instant::now() + period,
            pace: Pace::Busy,
            work: Box::new(work),
            trouble: None,
        }
    }

    /// Returns when the loop must wake for the work; `None` if it need not.
    pub fn next(&self) -> Option<Instant> {
        (self.pace == Pace::Busy).then_some(self.next)
    }

    /// Does the work if it is due. Periods that were missed are not made up for.
    pub fn attend(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.period;
        let outcome = (self.work)();
        // What failed is tried again with the next check.
        self.pace = *outcome.as_ref().unwrap_or(&Pace::Idle);
        let trouble = outcome.err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            log::warn!("{}: {}: {trouble}", warning::CHORE, self.name);
        }
        self.trouble = trouble;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn work_is_done_once_in_a_period_also_after_a_failure() {
        let period = Duration::from_secs(2);
        let done = Rc::new(Cell::new(0));
        let counter = Rc::clone(&done);
        let mut chore = Chore::new("count", period, move || {
            counter.set(counter.get() + 1);
            if counter.get() == 1 {
                Err("no".into())
            } else {
                Ok(Pace::Busy)
            }
        });
        let start = chore.next().expect("due after a period");

        for half_second in 0..8 {
            chore.attend(start + half_second * period / 4);
        }

        assert_eq!(done.get(), 2);
        assert_eq!(chore.next(), Some(start + 2 * period));
    }

    #[test]
    fn work_that_found_nothing_to_do_wakes_nobody_and_is_done_when_somebody_else_did() {
        let period = Duration::from_secs(2);
        let done = Rc::new(Cell::new(0));
        let counter = Rc::clone(&done);
        let mut chore = Chore::new("count", period, move || {
            counter.set(counter.get() + 1);
            Ok(Pace::Idle)
        });
        let start = chore.next().expect("due after a period");

        chore.attend(start);
        assert_eq!(chore.next(), None);
        chore.attend(start + period / 2);
        assert_eq!(done.get(), 1);

        chore.attend(start + 3 * period);
        assert_eq!(done.get(), 2);
    }
}
