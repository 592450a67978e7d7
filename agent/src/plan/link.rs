//! Links by the role that they play, their hooks, and the programs that belong there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a link by the role that it plays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// `cilium_host`, the host's side of the pair that carries the router addresses.
    Host,
    /// `cilium_net`, the other end of that pair.
    Net,
    /// The host-side veth of the endpoint with this name.
    Lxc(String),
    /// The link inside the network namespace of the endpoint with this name.
    Eth0(String),
    /// The device with this name, which faces the outside. It is never made or removed by us.
    Device(String),
}

/// Names one of the two tc hooks of a link, relative to that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    Ingress,
    Egress,
}

/// Names a BPF program that is attached to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    FromContainer,
    ToContainer,
    FromHost,
    ToHost,
    FromNetdev,
    ToNetdev,
}

impl Program {
    /// Lists all programs that are attached to hooks.
    pub const ALL: [Self; 6] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromHost,
        Self::ToHost,
        Self::FromNetdev,
        Self::ToNetdev,
    ];

    /// Returns the program that belongs on a hook, if one does.
    pub fn of(link: &Link, hook: Hook) -> Option<Self> {
        match (link, hook) {
            (Link::Lxc(_), Hook::Ingress) => Some(Self::FromContainer),
            (Link::Lxc(_), Hook::Egress) => Some(Self::ToContainer),
            (Link::Host, Hook::Egress) => Some(Self::FromHost),
            (Link::Host, Hook::Ingress) => Some(Self::ToHost),
            (Link::Device(_), Hook::Ingress) => Some(Self::FromNetdev),
            (Link::Device(_), Hook::Egress) => Some(Self::ToNetdev),
            (Link::Net | Link::Eth0(_), _) => None,
        }
    }

    /// Returns the name of the program's symbol, which is also the name of its pin.
    pub fn name(self) -> &'static str {
        match self {
            Self::FromContainer => "from_container",
            Self::ToContainer => "to_container",
            Self::FromHost => "from_host",
            Self::ToHost => "to_host",
            Self::FromNetdev => "from_netdev",
            Self::ToNetdev => "to_netdev",
        }
    }
}

/// Tells how a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachKind {
    /// A pinned tcx link (kernel 6.6 and later).
    Tcx,
    /// A filter on the clsact qdisc, with our priority and handle.
    Clsact,
}

/// Tells whether an interface index that a map holds is the link's present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRef {
    /// The map holds the index that the link has; every desired state says this.
    Current,
    /// The map holds another index.
    Stale(u32),
}

impl fmt::Display for AttachKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}
