//! How long an answer is waited for, and the chance that keeps clients from asking in step.

use std::time::Duration;

/// The first wait; doubled with each try, up to the last.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(64);

/// A server is not asked for more time again sooner than this (RFC 2131, 4.4.5)...
const PAUSE: Duration = Duration::from_mins(1);

/// ...nor sooner than this part of a short lease.
const SHORT: u32 = 8;

/// Gives numbers that nobody guesses who does not know the seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let [a, b, c, d, ..] = mixed.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Returns a duration within an eighth of another one.
    fn about(&mut self, duration: Duration) -> Duration {
        let eighths = self.number() % 256;
        duration * 7 / 8 + duration * eighths / 1024
    }

    /// Returns how long the answer to the so-manieth try is waited for, the first being 0.
    pub fn wait(&mut self, tries: u32) -> Duration {
        let doubled = FIRST.saturating_mul(1 << tries.min(16));
        self.about(doubled.min(LAST))
    }
}

/// Returns when to ask again for more time: after half of what is left, but not too soon.
pub fn again(left: Duration, lease_secs: u32) -> Duration {
    let lease = Duration::from_secs(lease_secs.into());
    (left / 2).max(PAUSE.min(lease / SHORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut chance = Chance::new(7);
        for (tries, secs) in [(0, 1), (1, 2), (5, 32), (6, 64), (40, 64)] {
            let wait = chance.wait(tries);
            let whole = Duration::from_secs(secs);
            assert!(
                whole * 7 / 8 <= wait && wait <= whole * 9 / 8,
                "{tries}: {wait:?}"
            );
        }
    }

    #[test]
    fn clients_do_not_wait_in_step() {
        assert_ne!(Chance::new(1).wait(3), Chance::new(2).wait(3));
    }

    #[test]
    fn more_time_is_asked_for_after_half_of_what_is_left() {
        let secs = |left, lease| again(Duration::from_secs(left), lease).as_secs();

        assert_eq!(secs(1000, 3600), 500);
        assert_eq!(secs(100, 3600), 60);
        assert_eq!(secs(4, 120), 15);
    }
}
