//! TOML → [`Config`]: every value keeps its place, and all errors are reported at once.
//!
//! The document is parsed by hand and not through serde, because serde stops at the first error.
//! Nothing here touches a file or the kernel, except [`load`](mod@load) and [`folder`], which read.
//!
//! # Layout
//! - `syntax`, `bracket`: text → document
//! - `merge`: the documents of several files → one
//! - `draft`, `table`: document → draft, table by table and key by key
//! - `device`, [`uplink`], [`masquerade`], `timeout`, [`policy`], [`capacity`]: tables with a file of their own
//! - `value`, `list`, `label`, [`name`]: what single values mean
//! - `rule`: what the values of a file must be to each other
//! - [`family`]: IPv4 and IPv6 alike
//! - [`diagnostic`], [`source`]: what is wrong, where, and how that is shown
//! - [`folder`]: which files there are: FILE, and those of conf.d beside it
//! - [`trust`]: whether others can write them
//! - [`load`](mod@load): reads them

mod bracket;
pub mod capacity;
mod device;
pub mod diagnostic;
mod draft;
pub mod family;
pub mod folder;
mod label;
mod list;
pub mod load;
pub mod masquerade;
mod merge;
pub mod name;
pub mod policy;
mod rule;
pub mod source;
mod syntax;
mod table;
mod timeout;
pub mod trust;
pub mod uplink;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use toml::Spanned;
use toml::de::DeTable;

use self::draft::Draft;
use crate::plan::object::Netns;

pub use self::capacity::Capacity;
pub use self::device::is_device_name;
pub use self::diagnostic::{Diagnostic, Kind};
pub use self::load::{Report, load};
pub use self::masquerade::Masquerade;
pub use self::policy::Policy;
pub use self::source::Source;
pub use self::uplink::Uplink;

/// Most endpoints of one node: with the host and the outside they fill 4,096 slots.
pub const NODE_ENDPOINTS_MAX: usize = 4094;

/// Most endpoints of one file: half of the identities, so that a free one is always near.
pub const ENDPOINTS_MAX: usize = 32_768;

/// MTU of a node that gives none, in bytes.
pub const MTU_DEFAULT: u32 = 1500;

/// Describes every node of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// At least one, in the order of the file.
    pub nodes: Vec<Node>,
    /// In the order of the file.
    pub devices: Vec<Device>,
    /// In the order of the file.
    pub endpoints: Vec<Endpoint>,
    pub host_routing: HostRouting,
    /// Whether the host gets a route to each endpoint, beside the one to their prefix.
    pub endpoint_routes: bool,
    pub masquerade: Masquerade,
    pub policy: Policy,
    pub capacity: Capacity,
}

/// Describes one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: Spanned<String>,
    /// Where other nodes reach this one: at most one address of each family.
    pub addresses: Vec<Spanned<IpAddr>>,
    /// Prefix of its endpoints.
    pub ipv4: Option<Spanned<Ipv4Net>>,
    pub ipv6: Option<Spanned<Ipv6Net>>,
    /// MTU of the links that the agent makes, in bytes.
    pub mtu: u32,
    /// Whether policy lets everything through on this node, and reports what it would deny.
    pub audit: bool,
}

/// Describes a link that faces the outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Name of a node of the same file.
    pub node: String,
    pub name: Spanned<String>,
    /// Whether an agent that starts waits for it a while before it says that the node is set up.
    pub required: bool,
    /// Whether what endpoints send through it gets an address of the node.
    pub masquerade: bool,
    /// The addresses for that, at most one of each family; by default the device's own.
    pub masquerade_addresses: Vec<IpAddr>,
    /// How the agent configures it; by default somebody else does.
    pub uplink: Uplink,
}

/// Describes one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Name of a node of the same file.
    pub node: String,
    pub name: Spanned<String>,
    /// By default the one that has the endpoint's name.
    pub netns: Spanned<Netns>,
    /// Inside the node's prefix; without it, the lowest free address.
    pub ipv4: Option<Spanned<Ipv4Addr>>,
    pub ipv6: Option<Spanned<Ipv6Addr>>,
    pub labels: BTreeMap<String, String>,
    /// Its ports by the names that rules may use.
    pub ports: BTreeMap<String, u16>,
    /// Whether policy lets everything from and to it through, and reports what it would deny.
    pub audit: bool,
    /// `file:line:column` of the name.
    pub place: String,
}

/// Tells how packets get from one device to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRouting {
    /// BPF, unless that would bypass something on the host.
    #[default]
    Auto,
    Bpf,
    /// Through the host's stack.
    Legacy,
}

impl fmt::Display for HostRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Bpf => "bpf",
            Self::Legacy => "legacy",
        })
    }
}

/// Parses and merges the texts of a source. Returns the document, and what is wrong with the texts
/// and with their being merged.
fn parse(source: &Source) -> (DeTable<'_>, Vec<Diagnostic>, Vec<Diagnostic>) {
    let (mut syntax, mut errors) = (Vec::new(), Vec::new());
    let mut document = DeTable::new();
    for file in source.files() {
        let start = file.range().start;
        let (table, mut faults) = syntax::parse(file.text());
        for fault in &mut faults {
            fault.shift(start);
        }
        syntax.extend(faults);
        let table = merge::shifted(table.into_inner(), start);
        merge::merge(&mut document, table, &mut errors);
    }
    (document, syntax, errors)
}

impl Config {
    /// Parses and validates the text of a file; the path is for messages only.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in the order of the file.
    pub fn parse(path: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        Self::read(&Source::new(path, text))
    }

    /// Parses, merges and validates the texts of a source.
    ///
    /// # Errors
    /// Everything that is wrong with them, in their order.
    pub fn read(source: &Source) -> Result<Self, Vec<Diagnostic>> {
        let (document, syntax, mut errors) = parse(source);
        let draft = draft::read(&document, &mut errors);
        rule::check(&draft, &mut errors);
        if !syntax.is_empty() {
            let broken = |at| {
                syntax
                    .iter()
                    .any(|error| syntax::shadows(source, error, at))
            };
            errors.retain(|error| !error.kind.needs_whole_file() && !broken(error.span.start));
            errors.extend(syntax);
        }
        if errors.is_empty() {
            return Ok(Self::complete(draft, source));
        }
        errors.sort_by_key(|error| (error.span.start, error.kind));
        Err(errors)
    }

    /// Turns a draft without errors into a configuration.
    fn complete(draft: Draft, source: &Source) -> Self {
        let nodes: Vec<_> = draft.nodes.into_iter().filter_map(Node::complete).collect();
        let only = nodes
            .first()
            .map(|node| node.name.get_ref().as_str())
            .unwrap_or_default();
        let names = nodes
            .iter()
            .map(|node| node.name.get_ref().as_str())
            .collect();
        let devices = draft.devices.into_iter();
        let endpoints = draft.endpoints.into_iter();
        Self {
            devices: devices.filter_map(|d| Device::complete(d, only)).collect(),
            endpoints: endpoints
                .filter_map(|e| Endpoint::complete(e, only, source))
                .collect(),
            host_routing: draft.routing.host_routing.into_value().unwrap_or_default(),
            endpoint_routes: draft
                .routing
                .endpoint_routes
                .into_value()
                .unwrap_or_default(),
            masquerade: draft.masquerade.complete(),
            policy: draft.policy.complete(&names, source),
            capacity: draft.capacity.complete(),
            nodes,
        }
    }
}

impl Node {
    fn complete(draft: draft::Node) -> Option<Self> {
        Some(Self {
            name: draft.name.into_given()?,
            addresses: draft.addresses,
            ipv4: draft.ipv4.into_given(),
            ipv6: draft.ipv6.into_given(),
            mtu: draft.mtu.into_value().unwrap_or(MTU_DEFAULT),
            audit: draft.audit.into_value().unwrap_or_default(),
        })
    }
}

impl Device {
    fn complete(draft: device::Device, only_node: &str) -> Option<Self> {
        let node = draft.node.into_value();
        let addresses = draft.masquerade_addresses.into_iter();
        Some(Self {
            node: node.unwrap_or_else(|| only_node.to_owned()),
            name: draft.name.into_given()?,
            required: draft.required.into_value().unwrap_or(true),
            masquerade: draft.masquerade.into_value().unwrap_or_default(),
            masquerade_addresses: addresses.map(Spanned::into_inner).collect(),
            uplink: draft.uplink.complete(),
        })
    }
}

impl Endpoint {
    fn complete(draft: draft::Endpoint, only_node: &str, source: &Source) -> Option<Self> {
        let name = draft.name.into_given()?;
        let node = draft.node.into_given();
        Some(Self {
            node: node.map_or_else(|| only_node.to_owned(), Spanned::into_inner),
            place: source.place(name.span().start),
            name,
            netns: draft.netns.into_given()?,
            ipv4: draft.ipv4.into_given(),
            ipv6: draft.ipv6.into_given(),
            labels: draft.labels.map(Spanned::into_inner).unwrap_or_default(),
            ports: draft.ports,
            audit: draft.audit.into_value().unwrap_or_default(),
        })
    }
}
