//! Prefixes of nodes are disjoint and large enough, and no node's own address is in one.

use std::collections::BTreeMap;
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::by_node;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::draft::{Draft, Endpoint, Node};
use crate::config::family::{Family, capacity};

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    for family in Family::BOTH {
        let prefixes: Vec<_> = draft
            .nodes
            .iter()
            .filter_map(|node| node.prefix(family))
            .collect();
        check_disjoint(&prefixes, errors);
        check_node_addresses(draft, &prefixes, errors);
        for (node, endpoints) in by_node(draft) {
            check_room(node, &endpoints, family, errors);
        }
    }
    check_node_addresses_unique(draft, errors);
}

/// Compares neighbours in the order of their first address: one prefix either contains the other
/// or is disjoint from it, so that whatever overlaps comes right behind what contains it.
fn check_disjoint(prefixes: &[Spanned<IpNet>], errors: &mut Vec<Diagnostic>) {
    let mut sorted: Vec<_> = prefixes.iter().collect();
    sorted.sort_by_key(|prefix| (prefix.get_ref().network(), prefix.get_ref().prefix_len()));
    let mut outer: Option<&Spanned<IpNet>> = None;
    for prefix in sorted {
        let Some(container) = outer.filter(|outer| outer.get_ref().contains(prefix.get_ref()))
        else {
            outer = Some(prefix);
            continue;
        };
        // The later one in the file is the one that somebody has just added.
        let (first, second) = if container.span().start < prefix.span().start {
            (container, prefix)
        } else {
            (prefix, container)
        };
        let message = format!(
            "prefix `{}` overlaps `{}`",
            second.get_ref(),
            first.get_ref()
        );
        errors.push(
            Diagnostic::new(Kind::OverlappingPrefixes, second.span(), message)
                .other(first.span(), "of another node"),
        );
    }
}

fn check_node_addresses(draft: &Draft, prefixes: &[Spanned<IpNet>], errors: &mut Vec<Diagnostic>) {
    for address in draft.nodes.iter().flat_map(|node| &node.addresses) {
        if let Some(prefix) = prefixes
            .iter()
            .find(|p| p.get_ref().contains(address.get_ref()))
        {
            let message = format!(
                "node address `{}` is in a prefix of endpoints",
                address.get_ref()
            );
            errors.push(
                Diagnostic::new(Kind::NodeAddressInPrefix, address.span(), message)
                    .other(prefix.span(), "this one")
                    .help("give the address that the node has on the network outside"),
            );
        }
    }
}

fn check_node_addresses_unique(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    let mut seen = BTreeMap::new();
    for address in draft.nodes.iter().flat_map(|node| &node.addresses) {
        let Some(first) = seen.get(address.get_ref()) else {
            seen.insert(*address.get_ref(), address.span());
            continue;
        };
        let message = format!("two nodes have the address `{}`", address.get_ref());
        errors.push(
            Diagnostic::new(Kind::DuplicateAddress, address.span(), message)
                .other(Range::clone(first), "first used here"),
        );
    }
}

fn check_room(node: &Node, endpoints: &[&Endpoint], family: Family, errors: &mut Vec<Diagnostic>) {
    let Some(prefix) = node.prefix(family) else {
        return;
    };
    let room = capacity(*prefix.get_ref());
    if endpoints.len() as u128 > room {
        let count = endpoints.len();
        let message = format!(
            "prefix `{}` is too small for {count} endpoints",
            prefix.get_ref()
        );
        errors.push(
            Diagnostic::new(Kind::PrefixFull, prefix.span(), message)
                .label(format!("has room for {room}, beside the router")),
        );
    }
}
