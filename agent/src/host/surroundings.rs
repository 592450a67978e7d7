//! What surrounds a node and is somebody else's: devices, ways to peers, firewalls, ports.
//!
//! Read before the desired state is built, for `plan` as for `apply`. Read-only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::link::LinkLayerType;

use super::address::{self, Address};
use super::error::Result;
use super::firewall::{self, Ruleset, Traffic, blind, nat};
use super::link::{self, Properties};
use super::mark::{Mark, Owner};
use super::netlink::Netlink;
use super::{caller, device, obstacle, reach, rule, sysctl};
use crate::config::family::Family;
use crate::plan::object::{BlindRule, Conversation, DeviceFacts, NextHop, Obstacle, SourceNat};
use crate::plan::reserved::RESERVED_PORTS;

/// Holds the first and the last port of the kernel's own choice.
pub const PORT_RANGE: &str = "net/ipv4/ip_local_port_range";

/// Says how strictly senders are checked on all links of IPv4; the stricter one of this and a link's
/// own setting counts.
const SENDER_CHECK: &str = "net/ipv4/conf/all/rp_filter";

/// The sysctls that are looked at, whoever has set them.
pub const SYSCTLS: [&str; 3] = [PORT_RANGE, SENDER_CHECK, RESERVED_PORTS];

/// Says what of its surroundings matters to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Host-side links of its endpoints.
    pub endpoint_links: Vec<String>,
    /// Devices that the file names.
    pub devices: Vec<String>,
    /// Where the addresses of its endpoints are.
    pub pools: Vec<IpNet>,
    /// Where those of its peers' endpoints are.
    pub peer_pools: Vec<IpNet>,
    /// Addresses of its peers.
    pub peers: Vec<IpAddr>,
    /// Whether it matters by which connections we are called: finding that out walks the kernel's
    /// whole table of sockets.
    pub callers: bool,
}

/// Holds what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub devices: BTreeMap<String, DeviceFacts>,
    pub peer_hops: BTreeMap<IpAddr, NextHop>,
    pub obstacles: Vec<Obstacle>,
    pub blind_rules: Vec<BlindRule>,
    pub source_nats: Vec<SourceNat>,
    /// Whether [`SENDER_CHECK`] is strict.
    pub strict_senders: bool,
    /// The connections by which we are called, if they matter.
    pub callers: Vec<Conversation>,
    /// Present value of [`RESERVED_PORTS`]; empty if there is none.
    pub reserved_ports: String,
    pub local_port_range: Option<(u16, u16)>,
}

/// Reads the surroundings of a node in the namespace of the calling thread.
///
/// # Errors
/// When the kernel refuses.
pub fn read(node: &str, interest: &Interest) -> Result<Surroundings> {
    let mut netlink = Netlink::open()?;
    let links = link::dump(&mut netlink)?;
    let addresses = address::dump(&mut netlink)?;
    let traffic = traffic(node, interest, &links, &addresses);
    let ruleset = firewall::dump()?;
    let local_port_range = sysctl::read(PORT_RANGE)?.as_deref().and_then(port_range);
    Ok(Surroundings {
        devices: device::facts(&interest.devices, &links, &addresses),
        peer_hops: reach::hops(&mut netlink, &links, interest.peers.iter().copied())?,
        obstacles: obstacle::dump(&mut netlink, &links, &ruleset, &traffic)?,
        blind_rules: blind_rules(&mut netlink, &ruleset, &traffic)?,
        source_nats: nat::on_devices(&ruleset, &interest.devices),
        strict_senders: sysctl::read(SENDER_CHECK)?.as_deref() == Some("1"),
        callers: if interest.callers {
            caller::conversations(local_port_range)
        } else {
            Vec::new()
        },
        reserved_ports: sysctl::read(RESERVED_PORTS)?.unwrap_or_default(),
        local_port_range,
    })
}

/// Lists rules of others that look for packets of endpoints where the stack has none.
fn blind_rules(
    netlink: &mut Netlink,
    ruleset: &Ruleset,
    traffic: &Traffic,
) -> Result<Vec<BlindRule>> {
    let mut found = blind::rules(ruleset, traffic);
    for family in Family::BOTH {
        let rules = rule::blind(netlink, family, traffic)?;
        found.extend(rules.into_iter().map(|what| BlindRule {
            what,
            by_incoming: true,
        }));
    }
    Ok(found)
}

fn traffic(
    node: &str,
    interest: &Interest,
    links: &[Properties],
    addresses: &[Address],
) -> Traffic {
    let mark = Mark::new(node);
    let is_foreign = |link: &&Properties| {
        mark.owner(link.alias.as_deref(), link.group) == Owner::Foreign
            && link.layer != LinkLayerType::Loopback
            && !interest.devices.contains(&link.name)
    };
    let is_ours = |network: &IpNet| {
        let mut pools = interest.pools.iter().chain(&interest.peer_pools);
        pools.any(|pool| pool.contains(network) || network.contains(pool))
    };
    let foreign = links.iter().filter(is_foreign).flat_map(|link| {
        let of_link = addresses
            .iter()
            .filter(|address| address.link == link.index);
        of_link.map(|address| address.address.trunc())
    });
    Traffic {
        endpoints: interest.endpoint_links.clone(),
        devices: interest.devices.clone(),
        pools: interest.pools.clone(),
        foreign: foreign.filter(|network| !is_ours(network)).collect(),
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(' ')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_ports_is_read_as_the_kernel_prints_it() {
        assert_eq!(port_range("32768 60999"), Some((32768, 60999)));
        assert_eq!(port_range(""), None);
    }

    #[test]
    fn networks_of_other_links_are_foreign_unless_pools_are_in_them() {
        let link = |index, name: &str| Properties {
            index,
            name: name.into(),
            layer: LinkLayerType::Ether,
            ..Properties::default()
        };
        let address = |link, text: &str| Address {
            link,
            address: text.parse().unwrap(),
            ours: false,
            flags: rtnetlink::packet_route::address::AddressFlags::empty(),
            is_global: true,
            valid_secs: None,
        };
        let interest = Interest {
            devices: vec!["eth0".into()],
            pools: vec!["10.0.1.0/24".parse().unwrap()],
            ..Interest::default()
        };

        let found = traffic(
            "edge",
            &interest,
            &[link(2, "eth0"), link(3, "docker0"), link(4, "wg0")],
            &[
                address(2, "192.0.2.1/24"),
                address(3, "172.17.0.1/16"),
                address(4, "10.9.9.9/8"),
            ],
        );

        assert_eq!(found.foreign, ["172.17.0.0/16".parse().unwrap()]);
    }
}
