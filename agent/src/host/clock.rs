//! The clock that runs since the machine started, and what a person calls its moments.
//!
//! It counts while the machine sleeps, and nobody sets it: a deadline that is told by it comes
//! when it should (`CLOCK_BOOTTIME`, `clock_gettime(2)`).

use std::fmt;
use std::fs;
use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// Where the kernel tells one start of the machine from others.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const DAY_SECS: u64 = 24 * 3600;

/// Is a moment since the machine started, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    /// Returns the present moment.
    ///
    /// # Errors
    /// If the kernel has no such clock.
    pub fn now() -> Result<Self> {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_err(|errno| Error::system("read the clock", errno))?;
        let since = Duration::from(time);
        Ok(Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Returns the moment so many seconds after the start.
    pub fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// Returns how long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns what the clock on the wall shows then, as far as it is right now.
    pub fn on_the_wall(self, now: Self) -> Wall {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let then = (wall + self.since(now)).saturating_sub(now.since(self));
        Wall(then.as_secs())
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// Returns how long ago the machine started.
///
/// # Panics
/// If the kernel has no such clock, which every Linux has.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock");
    Duration::from(time)
}

/// Returns what the clock on the wall showed so long after the start.
pub fn on_the_wall(since_start: Duration) -> Wall {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Wall((wall.saturating_sub(now()) + since_start).as_secs())
}

/// Is a time of day and a date, in seconds since 1970, UTC; shows as RFC 3339 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall(u64);

impl Wall {
    /// Returns what it shows right now.
    pub fn now() -> Self {
        on_the_wall(now())
    }

    /// Returns the time of day, as a person reads it.
    pub fn time_of_day(self) -> String {
        let secs = self.0 % DAY_SECS;
        let (hours, minutes) = (secs / 3600, secs / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02} UTC", secs % 60)
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY_SECS);
        let time = self.time_of_day();
        let time = time.trim_end_matches(" UTC");
        write!(f, "{year:04}-{month:02}-{day:02}T{time}Z")
    }
}

/// Returns the Gregorian date of a day, counted from 1970-01-01. Years are taken to begin with
/// March, so that a leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01, and in 400 years.
    const EPOCH: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + EPOCH;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March on have 153 days together.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Returns what tells this start of the machine from others; nothing where the kernel hides it.
pub fn boot() -> String {
    let text = fs::read_to_string(BOOT_ID).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Wall(secs).to_string(), shown, "{secs}");
        }
        assert_eq!(Wall(11_530).time_of_day(), "03:12:10 UTC");
    }

    #[test]
    fn moment_that_is_over_was_before_now_on_the_wall_too() {
        let now = Moment::from_secs(1000);
        let [before, after] = [990, 1010].map(|secs| Moment::from_secs(secs).on_the_wall(now).0);

        assert!((19..=21).contains(&(after - before)), "{before} {after}");
        assert_eq!(Moment::from_secs(990).since(now), Duration::ZERO);
    }

    #[test]
    fn clock_and_start_can_be_read() {
        assert!(Moment::now().unwrap() > Moment::from_secs(0));
        assert!(!boot().is_empty());
    }
}
