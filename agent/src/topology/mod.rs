//! What one node must look like: names resolved, addresses chosen, identities numbered.
//!
//! `Config` → [`Topology`], without I/O. `plan` turns a topology into the desired state.
//!
//! # Layout
//! - [`mod@resolve`]: which node, and everything that belongs to it
//! - `address`: routers and the addresses of endpoints that ask for none
//! - `number`: numbers that derive from what they stand for
//! - [`identity`]: numbers of parties that depend on nothing else
//! - [`policy`]: who may talk to whom, as tables
//! - `outside`: devices, translation, and what the file says about addresses
//! - `room`: how many bindings there may be, and how many of one endpoint
//! - [`prefix`]: who is behind an address, and where nothing is translated
//! - `id`: numbers of endpoints on their node
//! - [`link`]: names and MAC addresses of links

mod address;
mod id;
pub mod identity;
pub mod link;
mod number;
mod outside;
pub mod policy;
pub mod prefix;
pub mod resolve;
mod room;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::plan::object::{Mac, Masquerade, Netns};

use self::policy::Policy;
pub use self::prefix::Prefix;
pub use self::resolve::{Resolver, resolve};
use self::room::Room;
pub use crate::config::{Capacity, HostRouting, Uplink};

/// Describes one node of a file, as its agent sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Name of the node that the agent plays.
    pub node: String,
    /// Addresses under which other nodes reach it, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Prefix of its endpoints; the first address is the router's.
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub router4: Option<Ipv4Addr>,
    pub router6: Option<Ipv6Addr>,
    /// MTU of every link that the agent makes, in bytes.
    pub mtu: u32,
    /// Addresses of `cilium_host` and `cilium_net`: locally administered, derived from the
    /// node's name.
    pub host_mac: Mac,
    pub net_mac: Mac,
    /// Its endpoints, in the order of the file.
    pub endpoints: Vec<Endpoint>,
    /// Every other node of the file.
    pub peers: Vec<Peer>,
    /// Links that face the outside, in the order of the file.
    pub devices: Vec<Device>,
    /// How those translate that do; `None` if none does.
    pub masquerade: Option<Masquerade>,
    /// Who may talk to whom.
    pub policy: Policy,
    pub host_routing: HostRouting,
    /// Whether the host gets a route to each endpoint, beside the one to their prefix.
    pub endpoint_routes: bool,
    /// Sizes of tables that the file gives.
    pub capacity: Capacity,
}

/// Describes a network namespace that the node connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub name: String,
    /// At least 2, below [`Topology::endpoint_slots`]; 0 is the host and 1 the outside.
    pub id: u16,
    /// Derived from the label set, at least 256.
    pub identity: u32,
    pub netns: Netns,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub labels: BTreeMap<String, String>,
    /// Name of the host-side link: `lxc<name>` or `lxc` and 12 hexadecimal digits.
    pub link: String,
    /// Address of the host-side link.
    pub lxc_mac: Mac,
    /// Address of the endpoint's own link.
    pub mac: Mac,
    /// `file:line:column` of the endpoint's name.
    pub place: String,
}

/// Describes another node of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
}

/// Describes a link that faces the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// Whether an agent that starts waits for it a while.
    pub required: bool,
    /// Whether what endpoints send through it is translated.
    pub masquerade: bool,
    /// The source addresses for that; `None` is the device's own.
    pub masquerade4: Option<Ipv4Addr>,
    pub masquerade6: Option<Ipv6Addr>,
    /// How the agent configures it.
    pub uplink: Uplink,
}

impl Peer {
    /// Returns the prefixes of its endpoints.
    pub fn pools(&self) -> impl Iterator<Item = IpNet> {
        let (v4, v6) = (self.ipv4.map(IpNet::V4), self.ipv6.map(IpNet::V6));
        v4.into_iter().chain(v6)
    }
}

impl Topology {
    /// Returns how many entries the tables of bindings need, for each family.
    pub fn bindings(&self) -> u32 {
        let given = self.capacity.bindings;
        match &self.masquerade {
            Some(masquerade) => {
                let kind = (masquerade.mapping, masquerade.filtering);
                Room::new(masquerade.ports, kind, given).entries
            }
            None => given.unwrap_or(room::ENTRIES_MIN),
        }
    }

    /// Returns the number of slices that the tables of pending flows need: a power of two, at
    /// least 16, with room for every endpoint, the host and the outside.
    pub fn endpoint_slots(&self) -> u32 {
        let needed = u32::try_from(self.endpoints.len() + 2).unwrap_or(u32::MAX / 2);
        needed.next_power_of_two().max(16)
    }
}
