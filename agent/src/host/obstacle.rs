//! What BPF host routing would silently bypass or break on this host.
//!
//! Each obstacle is named as a person would find it again. The order is that of the questions
//! below, and within each that of the kernel.

use super::error::Result;
use super::firewall::{Ruleset, Traffic, bypass};
use super::link::Properties;
use super::netlink::Netlink;
use super::{ipsec, rule};
use crate::config::family::Family;
use crate::plan::object::{Obstacle, ObstacleKind};

/// Lists what stands in the way of moving a node's packets below the host's stack.
///
/// # Errors
/// When the kernel refuses.
pub fn dump(
    netlink: &mut Netlink,
    links: &[Properties],
    ruleset: &Ruleset,
    traffic: &Traffic,
) -> Result<Vec<Obstacle>> {
    let mut obstacles = bypass::bypassed(ruleset, traffic);
    for family in [Family::V4, Family::V6] {
        let rules = rule::unfollowed(netlink, family, traffic)?;
        obstacles.extend(rules.into_iter().map(|what| Obstacle {
            what,
            kind: ObstacleKind::PolicyRule,
            cure: Vec::new(),
        }));
    }
    obstacles.extend(in_a_vrf(links, &traffic.devices));
    let policies = ipsec::policies(traffic)?;
    obstacles.extend(policies.into_iter().map(|what| Obstacle {
        what,
        kind: ObstacleKind::Ipsec,
        cure: Vec::new(),
    }));
    Ok(obstacles)
}

/// Finds devices whose routes are in the table of a VRF.
fn in_a_vrf(links: &[Properties], devices: &[String]) -> Vec<Obstacle> {
    let ports = links.iter().filter(|link| devices.contains(&link.name));
    ports
        .filter_map(|port| {
            let master = links.iter().find(|link| Some(link.index) == port.master)?;
            (master.kind.as_deref() == Some("vrf")).then(|| Obstacle {
                what: format!(
                    "ip link: {} is a port of the VRF {}",
                    port.name, master.name
                ),
                kind: ObstacleKind::PolicyRule,
                cure: Vec::new(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_of_a_vrf_is_an_obstacle_and_that_of_a_bridge_is_not() {
        let link = |index, name: &str, kind: &str, master| Properties {
            index,
            name: name.into(),
            kind: Some(kind.into()),
            master,
            ..Properties::default()
        };
        let links = [
            link(2, "red", "vrf", None),
            link(3, "br0", "bridge", None),
            link(4, "eth0", "veth", Some(2)),
            link(5, "eth1", "veth", Some(3)),
        ];

        let found = in_a_vrf(&links, &["eth0".to_owned(), "eth1".to_owned()]);

        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "ip link: eth0 is a port of the VRF red");
    }
}
