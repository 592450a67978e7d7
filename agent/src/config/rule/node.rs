//! There is a node, every endpoint is on one that exists, and its MTU carries its families.

use super::{by_node, check_reference};
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::draft::{Draft, Node};
use crate::config::{ENDPOINTS_MAX, NODE_ENDPOINTS_MAX};

/// Smallest MTU of a link that carries IPv6 (RFC 8200, section 5).
const IPV6_MTU_MIN: u32 = 1280;

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    if !draft.has_nodes {
        let error = Diagnostic::new(Kind::NoNode, 0..0, "the file has no [[node]]");
        errors.push(error.help("`ciliate init` prints a file for this machine"));
    }
    for endpoint in &draft.endpoints {
        let table = ("[[endpoint]]", &endpoint.span);
        check_reference(draft, table, &endpoint.node, errors);
    }
    for node in &draft.nodes {
        check_mtu(node, errors);
    }
    check_count(draft, errors);
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
