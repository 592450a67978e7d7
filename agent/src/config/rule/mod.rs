//! Rules over the whole file: what single values cannot show.

mod address;
mod name;
mod netns;
mod node;
mod prefix;

use super::diagnostic::Diagnostic;
use super::draft::{Draft, Endpoint, Node};

/// Reports everything in a draft that contradicts something else in it.
pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    node::check(draft, errors);
    name::check(draft, errors);
    prefix::check(draft, errors);
    address::check(draft, errors);
    netns::check(draft, errors);
}

/// Returns the node of an endpoint, if that can be told.
fn node_of<'d>(draft: &'d Draft, endpoint: &Endpoint) -> Option<&'d Node> {
    match endpoint.node.given() {
        Some(name) => draft.nodes.iter().find(|node| {
            node.name
                .given()
                .is_some_and(|given| given.get_ref() == name.get_ref())
        }),
        None if endpoint.node.is_absent() => match draft.nodes.as_slice() {
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
        let Some(node) = node_of(draft, endpoint) else {
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
