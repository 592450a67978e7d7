//! What would be cut: the connection by which somebody is applying a file, by a policy about the
//! node or by the loss of an address.
//!
//! Neighbour discovery and DHCP pass whatever rules say, so that the gateway stays reachable; see
//! `policy` of the datapath.

use std::net::IpAddr;

use ipnet::IpNet;

use super::object::{Ambient, Conversation};
use super::policy::{Decision, Direction};
use super::warning::{self, Warning};
use crate::config::family::Family;
use crate::topology::Topology;

/// Number of TCP.
const TCP: u8 = 6;

/// Slot of the node itself.
const HOST: u16 = 0;

/// Tells whether policy could cut any connection of the node itself.
pub fn is_possible(topology: &Topology) -> bool {
    let subjects = &topology.policy.tables.subjects;
    matches!(subjects.get(&HOST), Some(host) if !host.audit)
}

/// Returns a warning for each connection of the caller whose address or way out is one of ours that
/// goes; `given` and `gateways` are those that devices get.
pub(super) fn lost_ways(ambient: &Ambient, given: &[IpNet], gateways: &[IpAddr]) -> Vec<Warning> {
    let ours = || ambient.devices.values().flat_map(|facts| &facts.own);
    let loses_address = |caller: &Conversation| {
        let local = caller.local.ip();
        let is_own = |address: &&IpNet| address.addr() == local;
        ours().any(|own| is_own(&own)) && !given.iter().any(|given| is_own(&given))
    };
    let loses_way = |caller: &Conversation| {
        let remote = caller.remote.ip();
        let leads = |gateway: &IpAddr| Family::of(*gateway) == Family::of(remote);
        ambient.own_gateways.iter().any(leads)
            && !gateways.iter().any(leads)
            && !given
                .iter()
                .chain(ours())
                .any(|network| network.contains(&remote))
    };
    let warnings = ambient.callers.iter().filter_map(|caller| {
        if loses_address(caller) {
            Some(warning::lost_way(caller, "its address"))
        } else {
            loses_way(caller).then(|| warning::lost_way(caller, "its default route"))
        }
    });
    warnings.collect()
}

/// Returns a warning for each connection of the caller that policy would cut.
pub(super) fn lockouts(topology: &Topology, ambient: &Ambient) -> Vec<Warning> {
    if !is_possible(topology) {
        return Vec::new();
    }
    let cut = ambient
        .callers
        .iter()
        .filter(|caller| is_cut(topology, caller));
    cut.map(|caller| warning::lockout(caller, deciding_place(topology, caller)))
        .collect()
}

/// Tells whether policy would not let somebody connect as they are connected.
fn is_cut(topology: &Topology, caller: &Conversation) -> bool {
    // Other links than devices and those of endpoints have no programs of ours.
    let reaches = !topology.devices.is_empty() || endpoint(topology, caller.remote.ip()).is_some();
    reaches && verdict(topology, caller).decision != Decision::Allow
}

/// Returns the place of the term that cuts the connection; `None` if no rule lets it in.
fn deciding_place<'t>(topology: &'t Topology, caller: &Conversation) -> Option<&'t str> {
    let term = topology.policy.terms.get(&verdict(topology, caller).term)?;
    Some(&term.place)
}

fn verdict(topology: &Topology, caller: &Conversation) -> super::policy::Verdict {
    let tables = &topology.policy.tables;
    let remote = caller.remote.ip();
    let identity = endpoint(topology, remote).unwrap_or_else(|| tables.identity_of(remote));
    let port = (TCP, caller.local.port());
    tables.verdict(HOST, Direction::Ingress, identity, port)
}

/// Returns the identity of the endpoint of the node that has an address.
fn endpoint(topology: &Topology, address: IpAddr) -> Option<u32> {
    let found = topology.endpoints.iter().find(|endpoint| {
        endpoint.ipv4.map(IpAddr::V4) == Some(address)
            || endpoint.ipv6.map(IpAddr::V6) == Some(address)
    });
    found.map(|endpoint| endpoint.identity)
}
