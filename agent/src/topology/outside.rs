//! What a node has to do with the outside: devices, translation, who is behind which address.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Device;
use super::identity::{HOST, Identities};
use super::prefix::Claim;
use super::resolve::{addresses, as_v4, as_v6, endpoints, prefix4, prefix6};
use super::room::Room;
use crate::config::family::Family;
use crate::config::{self, Config};
use crate::plan::object::Masquerade;

fn devices_of<'c>(
    config: &'c Config,
    node: &'c config::Node,
) -> impl Iterator<Item = &'c config::Device> {
    let devices = config.devices.iter();
    devices.filter(|device| &device.node == node.name.get_ref())
}

/// Lists the devices of a node.
pub(super) fn devices(config: &Config, node: &config::Node) -> Vec<Device> {
    devices_of(config, node)
        .map(|device| {
            let addresses = || device.masquerade_addresses.iter().copied();
            Device {
                name: device.name.get_ref().clone(),
                required: device.required,
                masquerade: device.masquerade,
                masquerade4: addresses().find_map(as_v4),
                masquerade6: addresses().find_map(as_v6),
                uplink: device.uplink.clone(),
            }
        })
        .collect()
}

/// Returns how the devices of a node translate, if any of them does.
pub(super) fn masquerade(config: &Config, node: &config::Node) -> Option<Masquerade> {
    let settings = &config.masquerade;
    let kind = (settings.mapping, settings.filtering);
    let room = Room::new(settings.ports, kind, config.capacity.bindings);
    devices_of(config, node)
        .any(|device| device.masquerade)
        .then_some(Masquerade {
            ports: settings.ports,
            mapping: settings.mapping,
            filtering: settings.filtering,
            selection: settings.selection,
            max_ports: settings.max_ports.unwrap_or_else(|| room.share()),
            timeouts: settings.timeouts,
        })
}

/// Lists what the file says about addresses, as the agent of a node sees them: its own endpoints
/// are found in other tables. Of what is said about the same prefix, the first counts.
pub(super) fn claims(config: &Config, node: &config::Node, identities: &Identities) -> Vec<Claim> {
    let claim = |prefix, identity| Claim {
        prefix,
        identity,
        excluded: true,
    };
    let exclude = config.masquerade.exclude.iter();
    let mut claims: Vec<_> = exclude.map(|p| claim(*p.get_ref(), None)).collect();
    for any in &config.nodes {
        let pools = prefix4(any).into_iter().chain(prefix6(any));
        claims.extend(pools.map(|pool| claim(pool, None)));
    }
    for peer in config.nodes.iter().filter(|other| *other != node) {
        let identity = identities.node(peer.name.get_ref());
        let nodes = addresses(peer).into_iter();
        claims.extend(nodes.map(|address| claim(address.into(), Some(identity))));
        for endpoint in endpoints(config, peer, &identities.endpoints) {
            let (v4, v6) = (endpoint.ipv4.map(IpAddr::V4), endpoint.ipv6.map(IpAddr::V6));
            let addresses = v4.into_iter().chain(v6);
            claims.extend(addresses.map(|ip| claim(ip.into(), Some(endpoint.identity))));
        }
    }
    claims.extend(own_addresses(node));
    claims.extend(spoken_of(identities));
    claims
}

/// Keeps the rules' CIDRs from meaning the node itself.
fn own_addresses(node: &config::Node) -> impl Iterator<Item = Claim> {
    addresses(node).into_iter().map(|address| Claim {
        prefix: address.into(),
        identity: Some(HOST),
        excluded: false,
    })
}

/// Lists the addresses that rules speak of, and the rest of the world where its families differ.
fn spoken_of(identities: &Identities) -> impl Iterator<Item = Claim> {
    let Identities {
        classes, worlds, ..
    } = identities;
    let world = |prefix: &IpNet| worlds.identity(Family::of(prefix.addr()));
    let spoken = classes.prefixes.iter().map(move |(prefix, class)| {
        let identity = class.map_or_else(|| world(prefix), |at| classes.list[at].identity);
        (*prefix, identity)
    });
    let everything: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    // Where there is one world it needs no prefix, and this is left out.
    let rest = everything.into_iter().map(move |all| (all, world(&all)));
    spoken.chain(rest).map(|(prefix, identity)| Claim {
        prefix,
        identity: Some(identity),
        excluded: false,
    })
}
