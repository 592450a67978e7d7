//! The clock of leases: how long ago the machine booted, suspension included.
//!
//! Unlike the time of day it is never set, and unlike the clock of `Instant` it means the same to
//! every process and goes on while the machine sleeps, as the server's does.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::plan::lease::Moment;

/// Tells one run of the machine from the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the present moment.
///
/// # Panics
/// If the kernel has no such clock, which every Linux has.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock");
    Duration::from(time)
}

/// Returns what tells this run of the machine from others; empty if the kernel does not say.
pub fn boot_id() -> String {
    let text = fs::read_to_string(BOOT_ID).unwrap_or_default();
    text.trim().to_owned()
}

/// Returns the time of day of a moment, in seconds since 1970.
pub fn time_of_day(moment: Moment) -> u64 {
    let now_of_day = SystemTime::now().duration_since(UNIX_EPOCH);
    let booted = now_of_day.unwrap_or_default().saturating_sub(now());
    (booted + moment).as_secs()
}
