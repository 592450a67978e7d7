//! Every endpoint can have an address, and the one that it asks for is free.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::by_node;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::draft::{Draft, Endpoint, Node};
use crate::config::family::{Family, last_usable, number, router};

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    for (node, endpoints) in by_node(draft) {
        if Family::BOTH.iter().all(|family| node.lacks_prefix(*family)) {
            check_no_family(node, &endpoints, errors);
            continue;
        }
        for family in Family::BOTH {
            let addresses: Vec<_> = endpoints.iter().filter_map(|e| e.address(family)).collect();
            check_family(node, family, &addresses, errors);
        }
    }
}

fn check_no_family(node: &Node, endpoints: &[&Endpoint], errors: &mut Vec<Diagnostic>) {
    for endpoint in endpoints {
        let message = "endpoint gets no address: its node has neither `ipv4` nor `ipv6`";
        let span = endpoint
            .name
            .given()
            .map_or(endpoint.span.clone(), Spanned::span);
        errors.push(
            Diagnostic::new(Kind::NoFamily, span, message)
                .other(node.span.clone(), "this node")
                .help("give the node a prefix, as in `ipv4 = \"10.0.1.0/24\"`"),
        );
    }
}

fn check_family(
    node: &Node,
    family: Family,
    addresses: &[Spanned<IpAddr>],
    errors: &mut Vec<Diagnostic>,
) {
    let prefix = node.prefix(family);
    let mut seen = BTreeMap::new();
    for address in addresses {
        if let Some(prefix) = &prefix {
            errors.extend(misplaced(address, prefix));
        } else if node.lacks_prefix(family) {
            let message = format!("the endpoint's node has no {family} prefix");
            errors.push(
                Diagnostic::new(Kind::NoPrefix, address.span(), message)
                    .other(node.span.clone(), format!("add `{}` here", family.key())),
            );
        }
        let Some(first) = seen.get(address.get_ref()) else {
            seen.insert(*address.get_ref(), address.span());
            continue;
        };
        let message = format!("two endpoints have the address `{}`", address.get_ref());
        errors.push(
            Diagnostic::new(Kind::DuplicateAddress, address.span(), message)
                .other(Range::clone(first), "first used here"),
        );
    }
}

/// Returns what is wrong with an address of a prefix.
fn misplaced(address: &Spanned<IpAddr>, prefix: &Spanned<IpNet>) -> Option<Diagnostic> {
    let (ip, net) = (*address.get_ref(), *prefix.get_ref());
    let refuse = |kind, reason: String| {
        let message = format!("address `{ip}` is {reason}");
        Diagnostic::new(kind, address.span(), message).other(prefix.span(), "of this prefix")
    };
    if !net.contains(&ip) {
        let message = format!("address `{ip}` is outside its node's prefix `{net}`");
        return Some(
            Diagnostic::new(Kind::AddressOutside, address.span(), message)
                .other(prefix.span(), "the node's prefix"),
        );
    }
    let use_ = match ip {
        _ if ip == net.network() => "the network address",
        _ if Some(ip) == router(net) => "the router address",
        _ if number(ip) > last_usable(net) => "the broadcast address",
        IpAddr::V4(_) | IpAddr::V6(_) => return None,
    };
    Some(refuse(Kind::AddressTaken, use_.to_owned()))
}
