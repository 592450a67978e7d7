//! What numbers stand for, for a person.

use std::collections::BTreeMap;

use super::super::identity::{HEALTH, HOST, Identities};
use super::party::Parties;
use super::term::{Placed, TermId};
use super::{RuleInfo, TermInfo, words};
use crate::config::family::Family;
use crate::config::policy::Policy;
use crate::config::{self, Config};

/// Describes a term.
pub(super) fn info(term_idx: TermId, placed: &Placed<'_>) -> TermInfo {
    TermInfo {
        rule_idx: placed.rule_idx,
        term_idx,
        description: placed.rule.description.clone(),
        place: placed.term.place.clone(),
        direction: placed.direction,
        denies: placed.denies,
        rejects: placed.denies && placed.rule.reject,
        peers: words::peers(&placed.term.peers),
        ports: words::all_ports(&placed.term.ports),
    }
}

/// Describes the rules of a file.
pub(super) fn rules(policy: &Policy) -> Vec<RuleInfo> {
    let rules = policy.rules.iter().map(|rule| RuleInfo {
        place: rule.place.clone(),
        description: rule.description.clone(),
    });
    rules.collect()
}

/// Returns the identities of the nodes of the file, as one of them sees them.
pub(super) fn nodes(
    config: &Config,
    node: &config::Node,
    identities: &Identities,
) -> BTreeMap<String, u32> {
    let identity = |other: &config::Node| {
        let seen = identities.node(other.name.get_ref());
        if other == node { HOST } else { seen }
    };
    let nodes = config.nodes.iter();
    nodes
        .map(|node| (node.name.get_ref().clone(), identity(node)))
        .collect()
}

/// Names everybody whom a node may meet.
pub(super) fn names(
    config: &Config,
    node: &config::Node,
    parties: &Parties<'_>,
) -> BTreeMap<u32, String> {
    let identities = parties.identities();
    let mut names = BTreeMap::from([(HOST, "host".to_owned()), (HEALTH, "health".to_owned())]);
    for family in Family::BOTH {
        let identity = identities.worlds.identity(family);
        names.insert(identity, identities.worlds.name(family).to_owned());
    }
    for other in config.nodes.iter().filter(|other| *other != node) {
        let name = other.name.get_ref();
        let named = identities.nodes.contains_key(name);
        let text = if named { name } else { "remote-node" };
        names.insert(identities.node(name), text.to_owned());
    }
    for (identity, alike) in parties.endpoints() {
        let name = match alike.as_slice() {
            [one] => one.name.get_ref().clone(),
            all => words::labels(&all[0].labels),
        };
        names.insert(*identity, name);
    }
    names.extend(class_names(identities));
    names
}

fn class_names(identities: &Identities) -> impl Iterator<Item = (u32, String)> {
    let classes = &identities.classes;
    let mut sizes = vec![0_usize; classes.list.len()];
    for class in classes.prefixes.iter().filter_map(|(_, class)| *class) {
        sizes[class] += 1;
    }
    let sized = classes.list.iter().zip(sizes);
    sized.map(|(class, size)| {
        let first = class.first;
        let name = match size {
            1 => first.to_string(),
            2 => format!("{first} and another prefix"),
            size => format!("{first} and {} more prefixes", size - 1),
        };
        (class.identity, name)
    })
}
