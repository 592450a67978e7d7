//! There is a node, every endpoint is on one that exists, and its MTU carries its families.

use super::{by_node, node_of};
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::draft::{Draft, Endpoint, Node};
use crate::config::{ENDPOINTS_MAX, NODE_ENDPOINTS_MAX};

/// Smallest MTU of a link that carries IPv6 (RFC 8200, section 5).
const IPV6_MTU_MIN: u32 = 1280;

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    if !draft.has_nodes {
        let error = Diagnostic::new(Kind::NoNode, 0..0, "the file has no [[node]]");
        errors.push(error.help("`ciliate init` prints a file for this machine"));
    }
    for endpoint in &draft.endpoints {
        check_reference(draft, endpoint, errors);
    }
    for node in &draft.nodes {
        check_mtu(node, errors);
    }
    check_count(draft, errors);
}

fn check_reference(draft: &Draft, endpoint: &Endpoint, errors: &mut Vec<Diagnostic>) {
    if node_of(draft, endpoint).is_some() || draft.nodes.is_empty() {
        return;
    }
    let names = || {
        let names = draft.nodes.iter().filter_map(|node| node.name.given());
        names.map(|name| name.get_ref().as_str())
    };
    if let Some(name) = endpoint.node.given() {
        let message = format!("there is no node {}", quote(name.get_ref()));
        let error = Diagnostic::new(Kind::UndefinedNode, name.span(), message);
        errors.push(error.suggest(name.get_ref(), names()));
    } else if endpoint.node.is_absent() {
        let message = "[[endpoint]] has no `node`, and the file has several";
        let error = Diagnostic::new(Kind::NodeNotGiven, endpoint.span.clone(), message);
        let first = names().next().unwrap_or("edge-1");
        errors.push(error.help(format!("say on which it is, as in `node = \"{first}\"`")));
    }
}

fn check_mtu(node: &Node, errors: &mut Vec<Diagnostic>) {
    let (Some(mtu), Some(prefix)) = (node.mtu.given(), node.ipv6.given()) else {
        return;
    };
    if *mtu.get_ref() < IPV6_MTU_MIN {
        let message = format!("MTU is below {IPV6_MTU_MIN}, which IPv6 needs");
        errors.push(
            Diagnostic::new(Kind::MtuOutOfRange, mtu.span(), message)
                .other(prefix.span(), "the node has IPv6 here"),
        );
    }
}

fn check_count(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    if let Some(endpoint) = draft.endpoints.get(ENDPOINTS_MAX) {
        let message = format!("the file has more than {ENDPOINTS_MAX} endpoints");
        errors.push(Diagnostic::new(
            Kind::TooManyEndpoints,
            endpoint.span.clone(),
            message,
        ));
    }
    for (_, endpoints) in by_node(draft) {
        if let Some(endpoint) = endpoints.get(NODE_ENDPOINTS_MAX) {
            let message = format!("the node has more than {NODE_ENDPOINTS_MAX} endpoints");
            errors.push(Diagnostic::new(
                Kind::TooManyEndpoints,
                endpoint.span.clone(),
                message,
            ));
        }
    }
}
