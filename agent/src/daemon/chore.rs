//! What is done every few seconds beside keeping the node: in small pieces, for the loop waits.

use std::time::{Duration, Instant};

use super::warning;
use crate::reconcile::Cause;

/// Is something that is done again and again.
pub struct Chore {
    name: &'static str,
    period: Duration,
    next: Instant,
    work: Box<dyn FnMut() -> Result<(), Cause>>,
    /// What went wrong the last time, which is not told again.
    trouble: Option<String>,
}

impl Chore {
    /// Names work that is done once in a period, for the first time after one period.
    pub fn new(
        name: &'static str,
        period: Duration,
        work: impl FnMut() -> Result<(), Cause> + 'static,
    ) -> Self {
        Self {
            name,
            period,
            next: Instant::now() + period,
            work: Box::new(work),
            trouble: None,
        }
    }

    /// Returns when the work is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Does the work if it is due. Periods that were missed are not made up for.
    pub fn attend(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.period;
        let trouble = (self.work)().err().map(|error| error.to_string());
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
            Err("no".into())
        });
        let start = chore.next();

        for half_second in 0..8 {
            chore.attend(start + half_second * period / 4);
        }

        assert_eq!(done.get(), 2);
        assert_eq!(chore.next(), start + 2 * period);
    }
}
