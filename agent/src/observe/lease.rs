//! The lease of a device, as `status` shows it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::host::clock;
use crate::plan::lease::{Lease, Moment};

/// Days of 400 years, and of the years and centuries of which they are made.
const ERA_DAYS: u64 = 146_097;
const CENTURY_DAYS: u64 = 36_524;
const YEAR_DAYS: u64 = 365;
const FOUR_YEARS_DAYS: u64 = 1_461;

/// Days from the first of March of the year 0 to the first of January of 1970.
const EPOCH_DAYS: u64 = 719_468;

const DAY_SECS: u64 = 86_400;

/// Is what a DHCP server lent to a device, or that the device waits for it.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceLease {
    pub address: Option<Ipv4Net>,
    pub server: Option<Ipv4Addr>,
    /// The time of day at which the address was got first (RFC 3339).
    pub since: Option<String>,
    /// Seconds until its server is asked for more time; `None` if it never ends.
    pub renew_in: Option<u64>,
    /// Seconds until it ends.
    pub expires_in: Option<u64>,
    /// `bound`; `renewing` or `rebinding` when more time is asked for; `waiting` without a lease.
    pub state: &'static str,
}

impl DeviceLease {
    /// Describes a lease that is valid at a moment, or that there is none.
    pub fn of(lease: Option<&Lease>, now: Moment) -> Self {
        let term = lease.and_then(|lease| lease.term);
        let left = |moment: Moment| moment.saturating_sub(now).as_secs();
        Self {
            address: lease.map(|lease| lease.address),
            server: lease.map(|lease| lease.server),
            since: lease.map(|lease| time(clock::time_of_day(lease.obtained))),
            renew_in: term.map(|term| left(term.renew)),
            expires_in: term.map(|term| left(term.expires)),
            state: match (lease, term) {
                (None, _) => "waiting",
                (Some(_), Some(term)) if term.rebind <= now => "rebinding",
                (Some(_), Some(term)) if term.renew <= now => "renewing",
                (Some(_), _) => "bound",
            },
        }
    }

    /// Returns a line about the lease.
    pub fn words(&self) -> String {
        let (Some(address), Some(server)) = (self.address, self.server) else {
            return "no lease yet".to_owned();
        };
        let rest = match (self.renew_in, self.expires_in) {
            (Some(renew), Some(expires)) => {
                format!("renewed in {renew} s, expires in {expires} s")
            }
            _ => "never expires".to_owned(),
        };
        format!("lease of {address} by {server}: {}, {rest}", self.state)
    }
}

/// Writes a time of day, in seconds since 1970, as RFC 3339 does.
fn time(secs: u64) -> String {
    // The year begins in March here, so that the day that some have is its last.
    let days = secs / DAY_SECS + EPOCH_DAYS;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year =
        (day - day / (FOUR_YEARS_DAYS - 1) + day / CENTURY_DAYS - day / (ERA_DAYS - 1)) / YEAR_DAYS;
    let day = day - (YEAR_DAYS * year + year / 4 - year / 100);
    // Five months from March on have 153 days, and so have the next five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = 400 * era + year + later;
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lease::Term;
    use crate::plan::object::Mac;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(secs), text);
        }
    }

    #[test]
    fn state_follows_from_the_moments() {
        let second = Moment::from_secs(1);
        let lease = Lease {
            address: "192.0.2.7/24".parse().unwrap(),
            server: Ipv4Addr::new(192, 0, 2, 1),
            server_mac: Mac::default(),
            routes: Vec::new(),
            mtu: None,
            name_servers: Vec::new(),
            domain: None,
            obtained: Moment::ZERO,
            term: Some(Term {
                secs: 8,
                renew: 4 * second,
                rebind: 7 * second,
                expires: 8 * second,
            }),
        };
        let state = |secs| DeviceLease::of(Some(&lease), secs * second).state;

        assert_eq!(
            [state(1), state(4), state(7)],
            ["bound", "renewing", "rebinding"]
        );
        assert_eq!(DeviceLease::of(None, second).state, "waiting");
        assert_eq!(DeviceLease::of(Some(&lease), second).expires_in, Some(7));
    }
}
