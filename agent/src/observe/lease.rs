//! The lease of a device, as `status` shows it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::host::clock;
use crate::plan::lease::{Lease, Moment};

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
            since: lease.map(|lease| clock::on_the_wall(lease.obtained).to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lease::Term;
    use crate::plan::object::Mac;

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
