//! The objects that a node is made of, as the planner sees them.
//!
//! A state (desired or observed) is a map from [`Key`] to [`Value`]. Keys are symbolic: they
//! name endpoints and links by role, never by interface index, so that the same topology gives
//! the same desired state on every machine. The order of keys is the order in which objects are
//! created ([`Key::rank`]); removal runs the other way round.
//!
//! Nothing here reads or changes a kernel: `host` and `datapath` translate keys and values into
//! netlink messages and BPF map entries.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::ambient::{
    Ambient, BlindRule, Conversation, DeviceFacts, DeviceKind, NextHop, Obstacle, ObstacleKind,
    SourceNat,
};
pub use super::lease::{Lease, LeaseRoute, Lifetime, Moment, Term};
pub use super::link::{AttachKind, Hook, Link, LinkRef, Program};
pub use super::masquerade::{Filtering, Mapping, Masquerade, PortSelection, Timeouts};
pub use super::policy::Policy;
use crate::config::family::Family;

/// Holds every object of one node, ordered for application.
pub type State = BTreeMap<Key, Value>;

/// Is an Ethernet address in the order of the wire.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

/// Tells how packets get from one device to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRoutingMode {
    /// By redirection, past the host's stack.
    Bpf,
    /// Through the host's stack.
    Legacy,
}

impl fmt::Display for HostRoutingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpf => "bpf",
            Self::Legacy => "legacy",
        })
    }
}

/// Tells where an endpoint's network namespace is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Netns {
    /// A name below `/run/netns`.
    Name(String),
    /// A path to a namespace file.
    Path(PathBuf),
    /// The namespace of a process.
    Pid(u32),
}

impl Netns {
    /// Returns the file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => PathBuf::from("/run/netns").join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid {pid}"),
        }
    }
}

/// Is what programs are told of name servers.
#[derive(Clone, Debug, Hash, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameServers {
    pub servers: Vec<Ipv4Addr>,
    /// In which names without a dot are looked for.
    pub domain: Option<String>,
}

/// Identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The BPF file system that holds the pins; ours only if we mounted it.
    Bpffs,
    /// The set of maps and programs, pinned.
    Datapath,
    /// The maps and programs before these, as long as there is something to be taken over from them.
    Former,
    /// The pair `cilium_host` / `cilium_net`.
    HostLink,
    /// The program that makes the node's stack put fragments of a family together.
    Reassembly(Family),
    /// The entry of the `NODE` map.
    NodeEntry,
    /// A sysctl of the node's namespace: the path below `/proc/sys`, such as
    /// `net/ipv4/conf/cilium_host/forwarding`.
    Sysctl(String),
    /// A rule of policy routing: what arrives on `cilium_net` is refused, and whoever sent it is
    /// told so.
    Rule(Family),
    /// A program on a hook.
    Attachment(Link, Hook),
    /// An address of a link.
    Address(Link, IpNet),
    /// A route through a link, in the main table, with our protocol number.
    Route(Link, IpNet),
    /// The administrative state "up" of a link.
    LinkUp(Link),
    /// The MTU of the device with this name.
    DeviceMtu(String),
    /// The file that tells programs their name servers.
    NameServers(PathBuf),
    /// The veth of an endpoint, its peer inside the endpoint's namespace.
    EndpointLink(String),
    /// The entries of an endpoint in the maps `ENDPOINTS`, `LOCAL4` and `LOCAL6`.
    EndpointEntry(String),
    /// The entry of a device in the map `DEVICES`, and those of its masquerade addresses in
    /// `LOCAL4` and `LOCAL6`.
    DeviceEntry(String),
    /// What the maps say about who is behind an address and who may talk to whom.
    Policy,
    /// The number that makes every flow be decided again; written last.
    Generation,
}

impl Key {
    /// Returns the place in the order of creation: phase, subject, step within the subject.
    pub fn rank(&self) -> (u8, &str, u8) {
        match self {
            Self::Bpffs => (0, "", 0),
            Self::Datapath => (1, "", 0),
            // Its removal puts the new maps in charge, which must be complete then.
            Self::Former => (1, "", 1),
            Self::HostLink => (2, "", 0),
            Self::Reassembly(_) => (2, "", 1),
            Self::NodeEntry => (3, "", 0),
            // What the programs on devices ask for is there before they are.
            Self::DeviceEntry(name) => (3, name, 2),
            Self::Attachment(Link::Host | Link::Net, _) => (4, "", 0),
            // Switching forwarding on removes the default route that a router advertisement gave,
            // unless the device accepts advertisements in spite of it.
            Self::Sysctl(path) => (5, "", u8::from(!path.ends_with("/accept_ra"))),
            Self::Rule(_) => (5, "", 2),
            Self::Address(Link::Host | Link::Net, _) => (6, "", 0),
            Self::LinkUp(Link::Host | Link::Net) => (7, "", 0),
            Self::Route(Link::Host | Link::Net, _) => (8, "", 0),
            Self::Attachment(Link::Device(name), _) => (9, name, 0),
            Self::NameServers(_) => (9, "", 0),
            // An address of IPv6 needs a large one.
            Self::DeviceMtu(name) => (9, name, 1),
            Self::Address(Link::Device(name), _) => (9, name, 2),
            Self::LinkUp(Link::Device(name)) => (9, name, 3),
            // What leads to a gateway comes before what leads through it.
            Self::Route(Link::Device(name), prefix) => (9, name, 4 + (128 - prefix.prefix_len())),
            Self::EndpointLink(name) => (10, name, 0),
            Self::EndpointEntry(name) => (10, name, 1),
            Self::Attachment(Link::Lxc(name) | Link::Eth0(name), _) => (10, name, 2),
            Self::Address(Link::Lxc(name) | Link::Eth0(name), _) => (10, name, 3),
            // The kernel refuses a route through a link that is down.
            Self::LinkUp(Link::Lxc(name) | Link::Eth0(name)) => (10, name, 4),
            Self::Route(Link::Lxc(name) | Link::Eth0(name), prefix) => {
                // The route to the router comes before the default route that needs it.
                (10, name, if prefix.prefix_len() == 0 { 6 } else { 5 })
            }
            // It has flows decided again, which needs everything else. Whom it does not know yet may
            // neither send nor receive.
            Self::Policy => (11, "", 0),
            Self::Generation => (11, "", 1),
        }
    }

    /// Returns the objects whose removal or replacement takes this one with it.
    pub fn owners(&self) -> Vec<Self> {
        match self {
            // The kernel drops routes whose source address goes, and that is the router's.
            Self::Route(Link::Lxc(name), _) => {
                vec![Self::EndpointLink(name.clone()), Self::HostLink]
            }
            Self::Attachment(link, _)
            | Self::Address(link, _)
            | Self::Route(link, _)
            | Self::LinkUp(link) => match link {
                Link::Host | Link::Net => vec![Self::HostLink],
                Link::Lxc(name) | Link::Eth0(name) => vec![Self::EndpointLink(name.clone())],
                Link::Device(_) => Vec::new(),
            },
            Self::Sysctl(path)
                if path.contains("/cilium_host/") || path.contains("/cilium_net/") =>
            {
                vec![Self::HostLink]
            }
            Self::Former
            | Self::Reassembly(_)
            | Self::NodeEntry
            | Self::EndpointEntry(_)
            | Self::DeviceEntry(_)
            | Self::Policy
            | Self::Generation => vec![Self::Datapath],
            Self::Bpffs
            | Self::Datapath
            | Self::HostLink
            | Self::Sysctl(_)
            | Self::Rule(_)
            | Self::DeviceMtu(_)
            | Self::NameServers(_)
            | Self::EndpointLink(_) => Vec::new(),
        }
    }

    /// Tells whether decisions about flows depend on the object. Policy makes them be made again by
    /// itself.
    pub fn decides(&self) -> bool {
        matches!(
            self,
            Self::NodeEntry | Self::EndpointEntry(_) | Self::DeviceEntry(_)
        )
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if self == other {
            return std::cmp::Ordering::Equal;
        }
        self.rank()
            .cmp(&other.rank())
            .then_with(|| format!("{self:?}").cmp(&format!("{other:?}")))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Describes an object; which variant goes with which key is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Goes with [`Key::Bpffs`]: the mount point.
    Bpffs { path: PathBuf },
    /// Goes with [`Key::Datapath`].
    Datapath {
        /// Digest of the BPF object, 16 hexadecimal digits.
        digest: String,
        /// Number of slices of the tables of pending flows: a power of two.
        endpoint_slots: u32,
        /// Entries of the tables of flows, of each family; `None` takes those that are there, or
        /// what the machine has room for.
        flows: Option<u32>,
        /// Entries of the tables of bindings, of each family.
        bindings: u32,
    },
    /// Goes with [`Key::Former`].
    Former,
    /// Goes with [`Key::HostLink`].
    HostLink {
        host_mac: Mac,
        net_mac: Mac,
        mtu: u32,
    },
    /// Goes with [`Key::Reassembly`].
    Reassembly,
    /// Goes with [`Key::NodeEntry`].
    NodeEntry {
        router4: Option<Ipv4Addr>,
        router6: Option<Ipv6Addr>,
        ipv4: Option<ipnet::Ipv4Net>,
        ipv6: Option<ipnet::Ipv6Net>,
        host_mac: Mac,
        host_link: LinkRef,
        host_routing: HostRoutingMode,
        /// Whether the stack puts fragments in order.
        reassembles: bool,
        /// `None` if no device of the node translates.
        masquerade: Option<Masquerade>,
    },
    /// Goes with [`Key::Sysctl`].
    Sysctl { value: String },
    /// Goes with [`Key::Rule`].
    Rule { priority: u32 },
    /// Goes with [`Key::Attachment`].
    Attachment {
        program: Program,
        /// Digest of the BPF object that the attached program came from; `None` if it came
        /// from one that is not pinned any more.
        digest: Option<String>,
        kind: AttachKind,
    },
    /// Goes with [`Key::Address`] of a link of ours; addresses of IPv6 carry `nodad`.
    Address,
    /// Goes with [`Key::Address`] of a device.
    DeviceAddress {
        /// `None` if the address is valid for ever.
        lifetime: Option<Lifetime>,
    },
    /// Goes with [`Key::Route`].
    Route {
        via: Option<IpAddr>,
        /// Preferred source address.
        src: Option<IpAddr>,
        /// Path MTU in bytes.
        mtu: Option<u32>,
        /// Of several routes to a prefix that with the lowest is used; `None` is the kernel's own
        /// choice.
        metric: Option<u32>,
    },
    /// Goes with [`Key::DeviceMtu`]: in bytes.
    DeviceMtu { mtu: u32 },
    /// Goes with [`Key::NameServers`].
    NameServers(NameServers),
    /// Goes with [`Key::LinkUp`].
    LinkUp,
    /// Goes with [`Key::EndpointLink`].
    EndpointLink {
        /// Name of the host-side link.
        link: String,
        /// Where the peer `eth0` lives. In an observed state: the desired namespace if the peer
        /// was found there, else `None`.
        netns: Option<Netns>,
        /// Address of the host-side link.
        lxc_mac: Mac,
        /// Address of the endpoint's own link.
        mac: Mac,
        mtu: u32,
    },
    /// Goes with [`Key::EndpointEntry`].
    EndpointEntry {
        /// Numbers the endpoint on its node; also its slice of the tables of pending flows.
        id: u16,
        ipv4: Option<Ipv4Addr>,
        ipv6: Option<Ipv6Addr>,
        mac: Mac,
        lxc_mac: Mac,
        mtu: u32,
        link: LinkRef,
    },
    /// Goes with [`Key::DeviceEntry`].
    DeviceEntry {
        /// Whether endpoints are masqueraded: what has no address to do it with must not leave.
        masquerade: bool,
        mac: Mac,
        /// Source address of what endpoints send through the device, if it is translated.
        masquerade4: Option<Ipv4Addr>,
        masquerade6: Option<Ipv6Addr>,
        link: LinkRef,
    },
    /// Goes with [`Key::Policy`].
    Policy(Arc<Policy>),
    /// Goes with [`Key::Generation`]: a digest of everything that decisions depend on.
    Generation { fingerprint: u64 },
}

/// Holds what was read from the kernel: our objects, and what surrounds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub objects: State,
    pub ambient: Ambient,
}
