//! What a DHCP server lent to a device (RFC 2131), as the planner sees it.
//!
//! `uplink` gets leases and `reconcile` keeps them from one run to the next; `plan` turns one that
//! is valid into objects like those that the file gives. Moments are durations since the machine
//! booted, suspension included (`CLOCK_BOOTTIME`): they mean the same to every process.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::object::Mac;

/// Is a moment: how long after the start of the machine it is.
pub type Moment = Duration;

/// Is what a server lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Net,
    pub server: Ipv4Addr,
    /// By whom its answer came: the server, or a relay on the way to it.
    pub server_mac: Mac,
    /// As RFC 3442 has it: those of the classless option, else one to everywhere by the router.
    pub routes: Vec<LeaseRoute>,
    /// In bytes.
    pub mtu: Option<u32>,
    pub name_servers: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    pub obtained: Moment,
    /// `None` if it never ends.
    pub term: Option<Term>,
}

/// Is a route that a server gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRoute {
    pub prefix: Ipv4Net,
    /// `None` for what is on the device's own network.
    pub via: Option<Ipv4Addr>,
}

/// Is how long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The whole of it, in seconds.
    pub secs: u32,
    /// When the server that gave it is asked for more.
    pub renew: Moment,
    /// When any server is.
    pub rebind: Moment,
    pub expires: Moment,
}

/// Is how long an address is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The whole of it.
    pub secs: u32,
    /// Its end, in seconds since the machine booted.
    pub until_secs: u64,
}

impl Lease {
    /// Tells whether its address may be used at a moment.
    pub fn is_valid(&self, now: Moment) -> bool {
        self.term.is_none_or(|term| now < term.expires)
    }

    /// Returns how long its address is valid; `None` for ever.
    pub fn lifetime(&self) -> Option<Lifetime> {
        self.term.map(|term| Lifetime {
            secs: term.secs,
            until_secs: term.expires.as_secs() + u64::from(term.expires.subsec_nanos() > 0),
        })
    }
}
