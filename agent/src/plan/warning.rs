//! What a person should know before a node is made what its file says.
//!
//! A code never changes its meaning, so that manuals and scripts can speak of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use super::lease::Lease;
use super::object::{BlindRule, Conversation, Obstacle, ObstacleKind, SourceNat};
use crate::config::family::Family;

/// Is something that works less well than the file makes believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// `CIL` and four digits.
    pub code: &'static str,
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// The commands, in order, that do it, where there are any that one can run as they stand.
    pub commands: Vec<String>,
    /// Whether `apply` refuses to begin, unless it is forced.
    pub stops: bool,
}

/// Code of a device to which no server has lent an address.
pub const NO_LEASE: &str = "CIL0131";

/// Code of a part of a lease that is not taken.
pub const LEASE_PART: &str = "CIL0134";

/// Code of what would lock out whoever applies it.
pub const LOCKOUT: &str = "CIL0210";

impl Warning {
    /// Describes what has no commands and stops nothing.
    pub fn new(code: &'static str, text: String, remedy: String) -> Self {
        Self {
            code,
            text,
            remedy,
            commands: Vec::new(),
            stops: false,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; {}", self.code, self.text, self.remedy)?;
        for (index, command) in self.commands.iter().enumerate() {
            let before = if index == 0 { ": " } else { ", then " };
            write!(f, "{before}`{command}`")?;
        }
        Ok(())
    }
}

/// A device that masquerades has no address of a family that endpoints have.
pub(super) fn no_masquerade_address(device: &str, family: Family) -> Warning {
    Warning::new(
        "CIL0201",
        format!(
            "device {device} has no {family} address: what endpoints send through it by {family} \
             is dropped"
        ),
        format!("give {device} one, or name one with `masquerade_address`"),
    )
}

/// The file names an address that the device does not have.
pub(super) fn foreign_masquerade_address(device: &str, address: IpAddr) -> Warning {
    Warning {
        commands: vec![format!("ip address add {address} dev {device}")],
        ..Warning::new(
            "CIL0202",
            format!("masquerade address {address} is none of device {device}"),
            "replies come back only if the network routes it here; else give it to the device"
                .into(),
        )
    }
}

/// A firewall drops what legacy host routing forwards.
pub(super) fn dropping_firewall(obstacle: &Obstacle, pools: &[IpNet]) -> Warning {
    let pools: Vec<String> = pools.iter().map(IpNet::to_string).collect();
    let stops = obstacle.kind == ObstacleKind::ForwardClosed;
    let how = if stops {
        "all that the host forwards for endpoints"
    } else {
        "some of what the host forwards for endpoints"
    };
    Warning {
        commands: obstacle.cure.clone(),
        stops,
        ..Warning::new(
            "CIL0203",
            format!("the firewall drops {how}: {}", obstacle.what),
            format!("let it accept {} in both directions", pools.join(" and ")),
        )
    }
}

/// A pool of a peer cannot be reached.
pub(super) fn unreachable_pool(peer: &str, pool: IpNet, why: &str, remedy: String) -> Warning {
    let text = format!("endpoints of {peer} in {pool} are not reached: {why}");
    Warning::new("CIL0204", text, remedy)
}

/// A device is down.
pub(super) fn device_down(device: &str) -> Warning {
    Warning {
        commands: vec![format!("ip link set {device} up")],
        ..Warning::new(
            "CIL0205",
            format!("device {device} is down: nothing comes or goes through it"),
            "switch it on".into(),
        )
    }
}

/// Somebody else translates to ports that are kept for endpoints.
pub(super) fn colliding_nat(nat: &SourceNat, (first, last): (u16, u16)) -> Warning {
    let SourceNat { what, device, .. } = nat;
    Warning::new(
        "CIL0206",
        format!(
            "others are translated to ports of {first}-{last} on {device}, too, and replies to \
             those are dropped: {what}"
        ),
        format!(
            "give that rule other ports (`masquerade to :1024-{below}`, `--to-ports \
             1024-{below}`), or endpoints an address of their own with `masquerade_address`",
            below = first.saturating_sub(1).max(1024)
        ),
    )
}

/// The kernel expects from an endpoint's own link what comes by `cilium_host`.
pub(super) fn strict_senders() -> Warning {
    Warning {
        commands: vec!["sysctl -w net.ipv4.conf.all.rp_filter=2".into()],
        ..Warning::new(
            "CIL0207",
            "net.ipv4.conf.all.rp_filter is 1: with `endpoint_routes` the host's stack drops the \
             IPv4 packets of endpoints that it gets"
                .into(),
            "make it 0 or 2, and keep that in /etc/sysctl.d; or leave `endpoint_routes` out".into(),
        )
    }
}

/// Policy would cut the connection of whoever applies it.
pub(super) fn lockout(caller: &Conversation, place: Option<&str>) -> Warning {
    let (Conversation { local, remote }, port) = (caller, caller.local.port());
    let why = match place {
        Some(place) => format!("the term at {place} denies it"),
        None => "no rule lets it in".to_owned(),
    };
    Warning {
        stops: true,
        ..Warning::new(
            LOCKOUT,
            format!(
                "the policy of the node would cut the connection from {remote} to {local}, by which \
                 you are here: {why}"
            ),
            format!(
                "add `{{ from = [\"{}\"], ports = [\"tcp/{port}\"] }}` to the `ingress` of a rule with \
                 `host`; or try it with `host = \"audit\"` in [policy] first",
                remote.ip()
            ),
        )
    }
}

/// The address or the route by which somebody is here goes.
pub(super) fn lost_way(caller: &Conversation, what: &str) -> Warning {
    let Conversation { local, remote } = caller;
    Warning {
        stops: true,
        ..Warning::new(
            LOCKOUT,
            format!(
                "the connection from {remote} to {local}, by which you are here, would be cut: {what} \
                 goes, for neither the file nor a lease gives it any more"
            ),
            "come another way first, or keep it in the [[device]]".into(),
        )
    }
}

/// A rule looks for packets of endpoints where there are none.
pub(super) fn blind_rule(rule: &BlindRule) -> Warning {
    let (side, match_side) = if rule.by_incoming {
        ("from", "source")
    } else {
        ("to", "destination")
    };
    Warning::new(
        "CIL0209",
        format!(
            "a rule names an endpoint's link and meets none of the packets {side} endpoints, which \
             the host's stack has by cilium_host: {}",
            rule.what
        ),
        format!("have it match the endpoint's {match_side} address, or the link cilium_host"),
    )
}

/// No server has lent a device an address yet.
pub(super) fn no_lease(device: &str) -> Warning {
    Warning::new(
        NO_LEASE,
        format!("dhcp on {device}: there is no lease yet, and so no IPv4 address of a server"),
        "the agent asks until a server answers; everything else works meanwhile".into(),
    )
}

/// Leases were got, and nobody is there to renew them.
pub fn no_agent(leases: &BTreeMap<String, Lease>) -> Warning {
    let leases: Vec<String> = leases
        .iter()
        .map(|(device, lease)| match lease.term {
            Some(term) => format!("{} of {device} ends after {} s", lease.address, term.secs),
            None => format!("{} of {device} never ends", lease.address),
        })
        .collect();
    Warning::new(
        "CIL0133",
        format!(
            "nobody renews the leases of this node without an agent: {}",
            leases.join(", ")
        ),
        "keep the node with `ciliate run`".into(),
    )
}

/// A server lent an address that endpoints may have.
pub(super) fn lease_in_prefix(device: &str, address: Ipv4Net, prefix: Ipv4Net) -> Warning {
    Warning::new(
        LEASE_PART,
        format!(
            "dhcp on {device}: the lease of {address} is not taken: the address is in the prefix \
             {prefix} of endpoints"
        ),
        "give the endpoints another prefix, or the server".into(),
    )
}

/// A server gives a route that must not be.
pub(super) fn lease_route(device: &str, prefix: Ipv4Net) -> Warning {
    Warning::new(
        LEASE_PART,
        format!(
            "dhcp on {device}: the route to {prefix} that the server gives is not taken: endpoints \
             are there, or its gateway is no host"
        ),
        "correct the server".into(),
    )
}

/// The file of name servers cannot be replaced.
pub(super) fn unwritable(path: &Path) -> Warning {
    Warning::new(
        "CIL0136",
        format!(
            "{} cannot be replaced: programs are told no name servers",
            path.display()
        ),
        "make its folder writable, or give another path in `resolv_conf`".into(),
    )
}

/// A server gives an MTU that the device cannot have.
pub(super) fn lease_mtu(device: &str, mtu: u32, least: u32, most: Option<u32>) -> Warning {
    let most = most.map_or_else(String::new, |most| format!(" and {most}"));
    Warning::new(
        LEASE_PART,
        format!(
            "dhcp on {device}: the MTU of {mtu} that the server gives is not taken: it is not \
             between {least}{most}"
        ),
        format!("give {device} an `mtu`, or correct the server"),
    )
}

/// A device went while the agent keeps its node.
pub(super) fn device_missing(device: &str) -> Warning {
    Warning::new(
        "CIL0208",
        format!("device {device} is missing: nothing comes or goes through it"),
        "it is joined again when it is back".into(),
    )
}
