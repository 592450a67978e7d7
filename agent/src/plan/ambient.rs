//! What surrounds a node: what the kernel offers, and what others configured.
//!
//! `host` reads it before the desired state is built, and never changes it. The desired state
//! depends on it where the file leaves a choice, or where a device or a route is somebody
//! else's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::object::{Mac, State};

/// Tells what the running kernel and the present configuration of the host offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations are possible"
)]
pub struct Ambient {
    /// Whether the kernel has tcx links.
    pub tcx: bool,
    /// Whether the kernel can be asked to put fragments together that it forwards.
    pub reassembly: bool,
    /// Whether a BPF file system, mounted by us or not, is where the pins go.
    pub bpffs: bool,
    /// Present values of the sysctls that a desired state names and that are not ours.
    pub sysctls: BTreeMap<String, String>,
    /// What a desired state names of devices, and others made so: addresses, routes, MTUs.
    pub foreign: State,
    /// Gateways of our routes to everywhere.
    pub own_gateways: Vec<IpAddr>,
    /// Files that the file wants name servers in, and that cannot be replaced.
    pub unwritable: BTreeSet<PathBuf>,
    /// What DHCP servers lent to devices, by name; only what is valid.
    pub leases: BTreeMap<String, Lease>,
    /// Devices (not ours) that took a default route from an IPv6 router advertisement.
    pub ra_devices: Vec<String>,
    /// Digest of the BPF object inside this binary.
    pub digest: String,
    /// Whether the node is kept without devices that are missing, and past a firewall that came to be
    /// where the file insists on that, instead of refused.
    pub spares_missing: bool,
    /// The devices that the file names, by name; one that is missing is no link of the node.
    pub devices: BTreeMap<String, DeviceFacts>,
    /// The kernel's way to the address of each peer; one that is missing is unreachable.
    pub peer_hops: BTreeMap<IpAddr, NextHop>,
    /// What BPF host routing would bypass or break.
    pub obstacles: Vec<Obstacle>,
    /// Rules of others that translate sources on the devices.
    pub source_nats: Vec<SourceNat>,
    /// Rules of others that look for packets of endpoints where the host's stack has none.
    pub blind_rules: Vec<BlindRule>,
    /// Whether every link refuses senders that its own routes do not lead to
    /// (`net/ipv4/conf/all/rp_filter` is 1).
    pub strict_senders: bool,
    /// The TCP connections by which whoever runs the agent is on this host.
    pub callers: Vec<Conversation>,
    /// `net/ipv4/ip_local_reserved_ports` as it is without us.
    pub reserved_ports: String,
    /// `net/ipv4/ip_local_port_range`, if it can be read: the first and the last port that the
    /// kernel gives out by itself.
    pub local_port_range: Option<(u16, u16)>,
}

/// Is a TCP connection of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// Describes a link that the file calls a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    pub mac: Option<Mac>,
    pub kind: DeviceKind,
    /// Name of the bond, bridge, team or VRF that it is a port of.
    pub master: Option<String>,
    /// Addresses of others that the node can send from, the best one first: global ones, those
    /// first that are not secondary.
    pub addresses4: Vec<Ipv4Addr>,
    /// The same for IPv6, without temporary, deprecated and tentative ones.
    pub addresses6: Vec<Ipv6Addr>,
    /// Addresses that we gave it.
    pub own: Vec<IpNet>,
    pub mtu: u32,
    /// The largest that it can have, if the kernel tells.
    pub max_mtu: Option<u32>,
    pub up: bool,
}

/// Tells whether a device can carry programs of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    Ethernet,
    /// A tunnel or a point-to-point link, whose packets begin with the IP header.
    NoEthernetHeader,
    Loopback,
}

/// Is the first step of the kernel's way to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    pub device: String,
    /// `None` if the address is on the device's own network.
    pub gateway: Option<IpAddr>,
}

/// Is something on this host that packets would not meet any more if BPF forwarded them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What it is, as a person would find it again.
    pub what: String,
    pub kind: ObstacleKind,
    /// The commands, in order, that let endpoints' packets pass where it drops them.
    pub cure: Vec<String>,
}

/// Is a rule of somebody else that names the links of endpoints, and never meets their packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindRule {
    /// What it is, as a person would find it again.
    pub what: String,
    /// Whether it names the link that packets come by, not the one that they leave by.
    pub by_incoming: bool,
}

/// Is a rule of somebody else by which the host translates what leaves by a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNat {
    /// What it is, as a person would find it again.
    pub what: String,
    pub device: String,
    /// The version of IP that it is for; `None` for both.
    pub version6: Option<bool>,
    /// First and last address that packets get; `None` for the device's own, or unknown ones.
    pub to: Option<(IpAddr, IpAddr)>,
    /// First and last port; `None` if any may be chosen.
    pub ports: Option<(u16, u16)>,
}

/// Tells what an obstacle does to packets that are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// A firewall's rules look at them; what matches none passes.
    ForwardRules,
    /// A firewall's chain drops some of them, unless a rule accepts them.
    ForwardDrop,
    /// A firewall's chain lets no connection of some endpoints come about.
    ForwardClosed,
    /// A rule of policy routing that the lookup of BPF does not follow.
    PolicyRule,
    /// A policy of `IPsec` transforms them.
    Ipsec,
}
