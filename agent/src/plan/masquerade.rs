//! How a node translates what its endpoints send to the outside.
//!
//! `config` reads these settings, `topology` completes them, and `NODE` of the maps holds them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Holds the settings that all devices of a node share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// First and last outside port.
    pub ports: (u16, u16),
    pub mapping: Mapping,
    pub filtering: Filtering,
    pub selection: PortSelection,
    /// Most outside ports of one endpoint; 0 is no limit.
    pub max_ports: u32,
    pub timeouts: Timeouts,
}

/// Tells when two flows of one inside address and port share an outside port (RFC 4787,
/// section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// If they go to the same address and port.
    #[default]
    Symmetric,
    /// Always.
    EndpointIndependent,
}

/// Tells who may answer to an outside port (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Addresses to which something was sent from it.
    #[default]
    Address,
    /// Everybody.
    EndpointIndependent,
}

/// Tells how an outside port is chosen when the inside one is taken or out of range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortSelection {
    /// The next free one.
    #[default]
    Sequential,
    /// Any free one.
    Random,
}

/// Tells after how many seconds of silence a translation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    pub tcp_established_secs: u32,
    /// Of TCP connections that are being opened or closed.
    pub tcp_transitory_secs: u32,
    pub udp_secs: u32,
    pub icmp_secs: u32,
    /// Of protocols that have no ports.
    pub other_secs: u32,
}

impl Default for Timeouts {
    /// Returns the minimums of RFC 5382 (REQ-5) and RFC 5508 (REQ-2), and what RFC 4787 (REQ-5)
    /// recommends.
    fn default() -> Self {
        Self {
            tcp_established_secs: 124 * 60,
            tcp_transitory_secs: 4 * 60,
            udp_secs: 5 * 60,
            icmp_secs: 60,
            other_secs: 60,
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symmetric => "symmetric",
            Self::EndpointIndependent => "endpoint-independent",
        })
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::EndpointIndependent => "endpoint-independent",
        })
    }
}

impl fmt::Display for PortSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sequential => "sequential",
            Self::Random => "random",
        })
    }
}

impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tcp_established_secs,
            tcp_transitory_secs,
            udp_secs,
            icmp_secs,
            other_secs,
        } = self;
        write!(
            f,
            "{tcp_established_secs}s/{tcp_transitory_secs}s/{udp_secs}s/{icmp_secs}s/{other_secs}s"
        )
    }
}
