//! Why a node cannot be made what its file says: something that the file does not know is in
//! the way. Each says what it is about and what a person can do.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::object::Obstacle;
use super::warning::Warning;
use crate::config::masquerade::AUTOMATIC_MIN;

/// Is one reason not to begin at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    NoDevice(String),
    NoEthernetHeader(String),
    Loopback(String),
    Enslaved {
        device: String,
        master: String,
    },
    AddressInPrefix {
        device: String,
        address: IpAddr,
        prefix: IpNet,
    },
    TooFewPorts {
        ports: (u16, u16),
        automatic: (u16, u16),
        left: u16,
    },
    Bypass(Vec<Obstacle>),
}

impl Refusal {
    /// Returns the code by which the manual knows it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoDevice(_) => "CIL0301",
            Self::NoEthernetHeader(_) => "CIL0302",
            Self::Loopback(_) => "CIL0303",
            Self::Enslaved { .. } => "CIL0304",
            Self::AddressInPrefix { .. } => "CIL0305",
            Self::TooFewPorts { .. } => "CIL0306",
            Self::Bypass(_) => "CIL0307",
        }
    }

    /// Says what is in the way.
    fn text(&self) -> String {
        match self {
            Self::NoDevice(device) => format!("device {device}: there is no such link"),
            Self::NoEthernetHeader(device) => format!(
                "device {device}: its packets have no Ethernet header, which the programs need"
            ),
            Self::Loopback(device) => {
                format!("device {device}: it is a loopback link, which leads nowhere")
            }
            Self::Enslaved { device, master } => {
                format!("device {device}: it is a port of {master}, which takes its packets")
            }
            Self::AddressInPrefix {
                device,
                address,
                prefix,
            } => format!(
                "device {device}: its address {address} is in the prefix {prefix} of endpoints, \
                 so that nothing can be translated to it"
            ),
            Self::TooFewPorts {
                ports: (first, last),
                automatic: (lowest, highest),
                left,
            } => format!(
                "ports {first}-{last} of [masquerade] leave the host {left} of the ports \
                 {lowest}-{highest} that it chooses from, and it needs {AUTOMATIC_MIN}"
            ),
            Self::Bypass(obstacles) => {
                let what = obstacles.iter().map(|obstacle| obstacle.what.as_str());
                format!(
                    "host routing `bpf` would bypass what this host has: {}",
                    what.collect::<Vec<_>>().join("; ")
                )
            }
        }
    }

    /// Says what helps.
    fn remedy(&self) -> String {
        match self {
            Self::NoDevice(_) => "`ip link` lists those of this node".into(),
            Self::NoEthernetHeader(_) => "name the Ethernet device below it".into(),
            Self::Loopback(_) => "name another one".into(),
            Self::Enslaved { master, .. } => format!("name {master}"),
            Self::AddressInPrefix { .. } => "give `masquerade_address`".into(),
            Self::TooFewPorts { .. } => {
                "give other `ports`, or widen net.ipv4.ip_local_port_range".into()
            }
            Self::Bypass(_) => {
                "take it away, or set `host_routing` to \"legacy\" or \"auto\"".into()
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text(), self.remedy())
    }
}

impl From<Refusal> for Warning {
    fn from(refusal: Refusal) -> Self {
        Self {
            stops: true,
            ..Self::new(refusal.code(), refusal.text(), refusal.remedy())
        }
    }
}

/// Holds everything that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Refusals(pub Vec<Refusal>);
