//! Why a node cannot be made what its file says: something that the file does not know is in
//! the way. Each says what it is about and what a person can do.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::object::Obstacle;
use crate::config::masquerade::AUTOMATIC_MIN;

/// Is one reason not to begin at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("device {0}: there is no such link; `ip link` lists those of this node")]
    NoDevice(String),
    #[error(
        "device {0}: its packets have no Ethernet header, which the programs need; \
         name the Ethernet device below it"
    )]
    NoEthernetHeader(String),
    #[error("device {0}: it is a loopback link, which leads nowhere; name another one")]
    Loopback(String),
    #[error("device {device}: it is a port of {master}, which takes its packets; name {master}")]
    Enslaved { device: String, master: String },
    #[error(
        "device {device}: its address {address} is in the prefix {prefix} of endpoints, so that \
         nothing can be translated to it; give `masquerade_address`"
    )]
    AddressInPrefix {
        device: String,
        address: IpAddr,
        prefix: IpNet,
    },
    #[error(
        "ports {}-{} of [masquerade] leave the host {left} of the ports {}-{} that it chooses \
         from, and it needs {AUTOMATIC_MIN}; give other `ports`, or widen \
         net.ipv4.ip_local_port_range",
        ports.0, ports.1, automatic.0, automatic.1
    )]
    TooFewPorts {
        ports: (u16, u16),
        automatic: (u16, u16),
        left: u16,
    },
    #[error(
        "host routing `bpf` would bypass what this host has: {}; take it away, or set \
         `host_routing` to \"legacy\" or \"auto\"",
        .0.iter().map(|obstacle| obstacle.what.as_str()).collect::<Vec<_>>().join("; ")
    )]
    Bypass(Vec<Obstacle>),
}

/// Holds everything that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Refusals(pub Vec<Refusal>);
