//! `Config` → [`Topology`]: which node the agent plays, and all that follows from it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::identity::Identities;
use super::link::{link_name, mac};
use super::policy::{self, Policy};
use super::{Endpoint, Peer, Topology, address, id, outside, prefix};
use crate::config::diagnostic::quote;
use crate::config::family::router;
use crate::config::{self, Config, Diagnostic, Kind};

/// Describes the node that the agent plays; see [`Resolver::resolve`].
///
/// # Errors
/// The same.
pub fn resolve(
    config: &Config,
    node: Option<&str>,
    hostname: Option<&str>,
) -> Result<Topology, Vec<Diagnostic>> {
    Resolver::new(config).resolve(node, hostname)
}

/// Resolves the nodes of a file one by one; what is the same for all of them is found once.
#[derive(Debug)]
pub struct Resolver<'c> {
    config: &'c Config,
    identities: Identities,
}

impl<'c> Resolver<'c> {
    /// Finds out what does not depend on the node.
    pub fn new(config: &'c Config) -> Self {
        Self {
            config,
            identities: Identities::of(config),
        }
    }

    /// Returns the file.
    pub fn config(&self) -> &'c Config {
        self.config
    }

    /// Describes the node that the agent plays: the named one, else the only one of the file, else
    /// the one that has the machine's name.
    ///
    /// # Errors
    /// If the node cannot be told, two of its links would have the same name, or its policy is too
    /// large.
    pub fn resolve(
        &self,
        node: Option<&str>,
        hostname: Option<&str>,
    ) -> Result<Topology, Vec<Diagnostic>> {
        let node = choose(self.config, node, hostname).map_err(|error| vec![error])?;
        describe(self.config, node, &self.identities)
    }
}

fn describe(
    config: &Config,
    node: &config::Node,
    identities: &Identities,
) -> Result<Topology, Vec<Diagnostic>> {
    let mine: Vec<_> = endpoints_of(config, node).collect();
    let collisions = link_collisions(&mine);
    if !collisions.is_empty() {
        return Err(collisions);
    }

    let prefixes = prefix::compile(outside::claims(config, node, identities));
    let name = node.name.get_ref().as_str();
    let mut topology = Topology {
        node: name.to_owned(),
        addresses: addresses(node),
        ipv4: inner(node.ipv4.as_ref()),
        ipv6: inner(node.ipv6.as_ref()),
        router4: prefix4(node).and_then(router).and_then(as_v4),
        router6: prefix6(node).and_then(router).and_then(as_v6),
        mtu: node.mtu,
        host_mac: mac(name, "cilium_host", ""),
        net_mac: mac(name, "cilium_net", ""),
        endpoints: endpoints(config, node, &identities.endpoints),
        peers: config
            .nodes
            .iter()
            .filter(|other| *other != node)
            .map(peer)
            .collect(),
        devices: outside::devices(config, node),
        masquerade: outside::masquerade(config, node),
        policy: Policy::default(),
        host_routing: config.host_routing,
        endpoint_routes: config.endpoint_routes,
        capacity: config.capacity,
    };
    let names: Vec<_> = mine
        .iter()
        .map(|(_, endpoint)| endpoint.name.get_ref().as_str())
        .collect();
    let ids = id::ids(names, topology.endpoint_slots());
    for endpoint in &mut topology.endpoints {
        endpoint.id = ids.get(endpoint.name.as_str()).copied().unwrap_or_default();
    }
    topology.policy = policy::compile(config, node, identities, &topology.endpoints, prefixes)
        .map_err(|error| vec![*error])?;
    Ok(topology)
}

/// Finds the node that the agent plays, as [`Resolver::resolve`] does.
///
/// # Errors
/// If it cannot be told.
pub fn choose<'c>(
    config: &'c Config,
    node: Option<&str>,
    hostname: Option<&str>,
) -> Result<&'c config::Node, Diagnostic> {
    let find = |name: &str| config.nodes.iter().find(|node| node.name.get_ref() == name);
    let names = || config.nodes.iter().map(|node| node.name.get_ref().as_str());
    let span = config.nodes.first().map_or(0..0, |node| node.name.span());
    let list = format!(
        "choose one with --node: {}",
        names().collect::<Vec<_>>().join(", ")
    );
    if let Some(name) = node {
        return find(name).ok_or_else(|| {
            let message = format!(
                "the file has no node {}, which --node asks for",
                quote(name)
            );
            let error = Diagnostic::new(Kind::NodeChoice, span, message).help(list);
            error.suggest(name, names())
        });
    }
    if let [only] = config.nodes.as_slice() {
        return Ok(only);
    }
    let host = hostname.unwrap_or_default().to_lowercase();
    let short = host.split('.').next().unwrap_or_default();
    find(&host).or_else(|| find(short)).ok_or_else(|| {
        let message = match hostname {
            Some(host) => {
                format!(
                    "the file has several nodes, and none has this machine's name {}",
                    quote(host)
                )
            }
            None => "the file has several nodes".to_owned(),
        };
        Diagnostic::new(Kind::NodeChoice, span, message).help(list)
    })
}

/// Returns the endpoints of a node with their positions in the file.
fn endpoints_of<'c>(
    config: &'c Config,
    node: &'c config::Node,
) -> impl Iterator<Item = (usize, &'c config::Endpoint)> {
    let endpoints = config.endpoints.iter().enumerate();
    endpoints.filter(|(_, endpoint)| &endpoint.node == node.name.get_ref())
}

fn link_collisions(endpoints: &[(usize, &config::Endpoint)]) -> Vec<Diagnostic> {
    let mut seen = BTreeMap::new();
    let mut errors = Vec::new();
    for (_, endpoint) in endpoints {
        let link = link_name(endpoint.name.get_ref());
        let Some(first) = seen.get(&link) else {
            seen.insert(link, endpoint.name.span());
            continue;
        };
        let message = format!("two endpoints would have the link {}", quote(&link));
        errors.push(
            Diagnostic::new(Kind::LinkCollision, endpoint.name.span(), message)
                .other(Range::clone(first), "the other one")
                .help("names of more than 12 characters get a link named after their digest; choose another name"),
        );
    }
    errors
}

/// Describes the endpoints of a node; their ids come later, for they depend on the number of
/// slots.
pub(super) fn endpoints(config: &Config, node: &config::Node, identities: &[u32]) -> Vec<Endpoint> {
    let mine: Vec<_> = endpoints_of(config, node).collect();
    let requests4: Vec<_> = mine
        .iter()
        .map(|(_, e)| inner(e.ipv4.as_ref()).map(IpAddr::V4))
        .collect();
    let requests6: Vec<_> = mine
        .iter()
        .map(|(_, e)| inner(e.ipv6.as_ref()).map(IpAddr::V6))
        .collect();
    let none = || vec![None; mine.len()];
    let ipv4 = prefix4(node).map_or_else(none, |prefix| address::assign(prefix, &requests4));
    let ipv6 = prefix6(node).map_or_else(none, |prefix| address::assign(prefix, &requests6));

    let node = node.name.get_ref().as_str();
    let addresses = ipv4.into_iter().zip(ipv6);
    mine.iter()
        .zip(addresses)
        .map(|((position, endpoint), (ipv4, ipv6))| {
            let name = endpoint.name.get_ref();
            Endpoint {
                name: name.clone(),
                id: 0,
                identity: identities[*position],
                netns: endpoint.netns.get_ref().clone(),
                ipv4: ipv4.and_then(as_v4),
                ipv6: ipv6.and_then(as_v6),
                labels: endpoint.labels.clone(),
                link: link_name(name),
                lxc_mac: mac(node, "lxc", name),
                mac: mac(node, "eth0", name),
                place: endpoint.place.clone(),
            }
        })
        .collect()
}

fn peer(node: &config::Node) -> Peer {
    Peer {
        name: node.name.get_ref().clone(),
        addresses: addresses(node),
        ipv4: inner(node.ipv4.as_ref()),
        ipv6: inner(node.ipv6.as_ref()),
    }
}

pub(super) fn addresses(node: &config::Node) -> Vec<IpAddr> {
    node.addresses.iter().map(|a| *a.get_ref()).collect()
}

fn inner<T: Copy>(value: Option<&Spanned<T>>) -> Option<T> {
    value.map(|value| *value.get_ref())
}

pub(super) fn prefix4(node: &config::Node) -> Option<IpNet> {
    inner(node.ipv4.as_ref()).map(IpNet::V4)
}

pub(super) fn prefix6(node: &config::Node) -> Option<IpNet> {
    inner(node.ipv6.as_ref()).map(IpNet::V6)
}

pub(super) fn as_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

pub(super) fn as_v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}
