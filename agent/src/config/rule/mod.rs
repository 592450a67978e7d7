//! Rules over the whole file: what single values cannot show.

mod address;
mod device;
mod masquerade;
mod name;
mod netns;
mod node;
mod policy;
mod prefix;
mod uplink;

use std::ops::Range;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::draft::{Draft, Endpoint, Node};
use super::table::Field;

/// Reports everything in a draft that contradicts something else in it.
pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    node::check(draft, errors);
    name::check(draft, errors);
    prefix::check(draft, errors);
    address::check(draft, errors);
    netns::check(draft, errors);
    device::check(draft, errors);
    uplink::check(draft, errors);
    masquerade::check(draft, errors);
    policy::check(draft, errors);
}

/// Returns the node that is meant by a key, if that can be told.
fn node_of<'d>(draft: &'d Draft, node: &Field<String>) -> Option<&'d Node> {
    match node.given() {
        Some(name) => draft.nodes.iter().find(|node| {
            node.name
                .given()
                .is_some_and(|given| given.get_ref() == name.get_ref())
        }),
        None if node.is_absent() => match draft.nodes.as_slice() {
            [only] => Some(only),
            _ => None,
        },
        None => None,
    }
}

/// Returns each node with its endpoints.
fn by_node(draft: &Draft) -> Vec<(&Node, Vec<&Endpoint>)> {
    let mut groups: Vec<_> = draft.nodes.iter().map(|node| (node, Vec::new())).collect();
    for endpoint in &draft.endpoints {
        let Some(node) = node_of(draft, &endpoint.node) else {
            continue;
        };
        if let Some((_, endpoints)) = groups
            .iter_mut()
            .find(|(other, _)| std::ptr::eq(*other, node))
        {
            endpoints.push(endpoint);
        }
    }
    groups
}

/// Reports a table of a node that does not exist or cannot be told.
fn check_reference(
    draft: &Draft,
    (table, span): (&str, &Range<usize>),
    node: &Field<String>,
    errors: &mut Vec<Diagnostic>,
) {
    if node_of(draft, node).is_some() || draft.nodes.is_empty() {
        return;
    }
    let names = || {
        let names = draft.nodes.iter().filter_map(|node| node.name.given());
        names.map(|name| name.get_ref().as_str())
    };
    if let Some(name) = node.given() {
        let message = format!("there is no node {}", quote(name.get_ref()));
        let error = Diagnostic::new(Kind::UndefinedNode, name.span(), message);
        errors.push(error.suggest(name.get_ref(), names()));
    } else if node.is_absent() {
        let message = format!("{table} has no `node`, and the file has several");
        let error = Diagnostic::new(Kind::NodeNotGiven, span.clone(), message);
        let first = names().next().unwrap_or("edge-1");
        errors.push(error.help(format!("say on which it is, as in `node = \"{first}\"`")));
    }
}
