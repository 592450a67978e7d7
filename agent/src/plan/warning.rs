//! What a person should know before a node is made what its file says.
//!
//! A code never changes its meaning, so that manuals and scripts can speak of it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::config::family::Family;

/// Is something that works less well than the file makes believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// `CIL` and four digits.
    pub code: &'static str,
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; {}", self.code, self.text, self.remedy)
    }
}

/// A device that masquerades has no address of a family that endpoints have.
pub(super) fn no_masquerade_address(device: &str, family: Family) -> Warning {
    Warning {
        code: "CIL0201",
        text: format!(
            "device {device} has no {family} address: what endpoints send through it by {family} \
             is dropped"
        ),
        remedy: format!("give {device} one, or name one with `masquerade_address`"),
    }
}

/// The file names an address that the device does not have.
pub(super) fn foreign_masquerade_address(device: &str, address: IpAddr) -> Warning {
    Warning {
        code: "CIL0202",
        text: format!("masquerade address {address} is none of device {device}"),
        remedy: format!(
            "replies come back only if the network routes it here; else \
             `ip address add {address} dev {device}`"
        ),
    }
}

/// A firewall drops what legacy host routing forwards.
pub(super) fn dropping_firewall(what: &str, pools: &[IpNet]) -> Warning {
    let pools: Vec<String> = pools.iter().map(IpNet::to_string).collect();
    Warning {
        code: "CIL0203",
        text: format!("the firewall drops what the host forwards for endpoints: {what}"),
        remedy: format!("let it accept {} in both directions", pools.join(" and ")),
    }
}

/// A pool of a peer cannot be reached.
pub(super) fn unreachable_pool(peer: &str, pool: IpNet, why: &str, remedy: String) -> Warning {
    Warning {
        code: "CIL0204",
        text: format!("endpoints of {peer} in {pool} are not reached: {why}"),
        remedy,
    }
}

/// A device is down.
pub(super) fn device_down(device: &str) -> Warning {
    Warning {
        code: "CIL0205",
        text: format!("device {device} is down: nothing comes or goes through it"),
        remedy: format!("`ip link set {device} up`"),
    }
}
