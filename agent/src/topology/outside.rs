//! What a node has to do with the outside: devices, translation, who is behind which address.

use std::net::IpAddr;

use super::Device;
use super::prefix::{Claim, REMOTE_NODE, WORLD};
use super::resolve::{addresses, as_v4, as_v6, endpoints, prefix4, prefix6};
use super::room::Room;
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
                masquerade: device.masquerade,
                masquerade4: addresses().find_map(as_v4),
                masquerade6: addresses().find_map(as_v6),
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
/// are found in other tables.
pub(super) fn claims(config: &Config, node: &config::Node, identities: &[u32]) -> Vec<Claim> {
    let claim = |prefix, identity| Claim {
        prefix,
        identity,
        excluded: true,
    };
    let exclude = config.masquerade.exclude.iter();
    let mut claims: Vec<_> = exclude.map(|p| claim(*p.get_ref(), None)).collect();
    for any in &config.nodes {
        let pools = prefix4(any).into_iter().chain(prefix6(any));
        claims.extend(pools.map(|pool| claim(pool, Some(WORLD))));
    }
    for peer in config.nodes.iter().filter(|other| *other != node) {
        let nodes = addresses(peer).into_iter();
        claims.extend(nodes.map(|address| claim(address.into(), Some(REMOTE_NODE))));
        for endpoint in endpoints(config, peer, identities) {
            let (v4, v6) = (endpoint.ipv4.map(IpAddr::V4), endpoint.ipv6.map(IpAddr::V6));
            let addresses = v4.into_iter().chain(v6);
            claims.extend(addresses.map(|ip| claim(ip.into(), Some(endpoint.identity))));
        }
    }
    claims
}
