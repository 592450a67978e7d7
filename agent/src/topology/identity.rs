//! Identities: the numbers that policy sees instead of labels, names and addresses.
//!
//! They derive from what they stand for, and everything here is decided over the whole file, so
//! that all nodes agree and an insertion renumbers nothing else. Endpoints with the same labels
//! share one; an endpoint or a node that a rule names has one of its own, for it may be treated
//! like no other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::number::{Sha, assign, digest};
use super::policy::class::{self, Classes};
use crate::config::family::Family;
use crate::config::policy::{Entity, Peer, Policy, Rule, Subject, Term};
use crate::config::{Config, Endpoint};

/// Identity of the node itself, on that node (as in Cilium).
pub const HOST: u32 = 1;

/// Identity of everybody who is nobody else (as in Cilium).
pub const WORLD: u32 = 2;

/// Identity of the health endpoint (as in Cilium).
pub const HEALTH: u32 = 4;

/// Identity of another node (as in Cilium).
pub const REMOTE_NODE: u32 = 6;

/// Identities of the world where both families are in use (as in Cilium).
pub const WORLD_IPV4: u32 = 9;
pub const WORLD_IPV6: u32 = 10;

/// Numbers that are not reserved for an entity and fit Cilium's 16 bits.
const LABELS: Range<u32> = 256..1 << 16;

/// Numbers of nodes that rules name (Cilium's scope of remote nodes).
const NODES: Range<u32> = 0x0200_0000..0x0300_0000;

/// Holds the identities of a file.
#[derive(Debug)]
pub(super) struct Identities {
    /// Of each endpoint, in the order of the file.
    pub(super) endpoints: Vec<u32>,
    /// Of the nodes that rules name, as others see them.
    pub(super) nodes: BTreeMap<String, u32>,
    /// Of addresses that rules speak of.
    pub(super) classes: Classes,
    pub(super) worlds: Worlds,
}

/// Tells whether the two families of the world can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worlds {
    One,
    OfEachFamily,
}

impl Identities {
    pub(super) fn of(config: &Config) -> Self {
        let named = Named::of(&config.policy);
        Self {
            endpoints: endpoints(&config.endpoints, &named),
            nodes: nodes(config, &named),
            classes: class::classes(&config.policy),
            worlds: Worlds::of(config),
        }
    }

    /// Returns the identity of a node as others see it.
    pub(super) fn node(&self, name: &str) -> u32 {
        self.nodes.get(name).copied().unwrap_or(REMOTE_NODE)
    }
}

impl Worlds {
    /// One is enough as long as neither the nodes nor the rules know a second family.
    fn of(config: &Config) -> Self {
        let speaks = |family| {
            config.nodes.iter().any(|node| {
                let mut addresses = node.addresses.iter();
                let pool = match family {
                    Family::V4 => node.ipv4.is_some(),
                    Family::V6 => node.ipv6.is_some(),
                };
                pool || addresses.any(|address| Family::of(*address.get_ref()) == family)
            })
        };
        let told_apart = peers(&config.policy)
            .any(|peer| matches!(peer, Peer::Entity(Entity::WorldIpv4 | Entity::WorldIpv6)));
        if told_apart || Family::BOTH.into_iter().all(speaks) {
            Self::OfEachFamily
        } else {
            Self::One
        }
    }

    /// Returns the identity of the world's addresses of a family.
    pub(super) fn identity(self, family: Family) -> u32 {
        match (self, family) {
            (Self::One, _) => WORLD,
            (Self::OfEachFamily, Family::V4) => WORLD_IPV4,
            (Self::OfEachFamily, Family::V6) => WORLD_IPV6,
        }
    }

    /// Returns the entity of the world's addresses of a family.
    pub(super) fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::One, _) => "world",
            (Self::OfEachFamily, Family::V4) => "world-ipv4",
            (Self::OfEachFamily, Family::V6) => "world-ipv6",
        }
    }
}

/// Holds the names that rules use.
#[derive(Debug, Default)]
struct Named<'c> {
    endpoints: BTreeSet<&'c str>,
    nodes: BTreeSet<&'c str>,
}

impl<'c> Named<'c> {
    fn of(policy: &'c Policy) -> Self {
        let mut named = Self::default();
        for rule in &policy.rules {
            if let Subject::Endpoints { names, .. } = &rule.subject {
                named.endpoints.extend(names.iter().map(String::as_str));
            }
        }
        for peer in peers(policy) {
            match peer {
                Peer::Endpoint(name) => _ = named.endpoints.insert(name),
                Peer::Node(name) => _ = named.nodes.insert(name),
                Peer::Entity(_) | Peer::Selector(_) | Peer::Cidr { .. } => {}
            }
        }
        named
    }
}

fn peers(policy: &Policy) -> impl Iterator<Item = &Peer> {
    let terms = policy.rules.iter().flat_map(terms_of);
    terms.flat_map(|term| &term.peers)
}

fn terms_of(rule: &Rule) -> impl Iterator<Item = &Term> {
    let lists = [
        &rule.ingress,
        &rule.egress,
        &rule.ingress_deny,
        &rule.egress_deny,
    ];
    lists.into_iter().flatten().flatten()
}

/// Returns the identity of each endpoint of a file, in its order.
fn endpoints(endpoints: &[Endpoint], named: &Named<'_>) -> Vec<u32> {
    let digests: Vec<_> = endpoints
        .iter()
        .map(|endpoint| endpoint_digest(endpoint, named))
        .collect();
    // `config` accepts fewer endpoints than there are numbers, so each gets one.
    let numbers = assign(&digests.iter().copied().collect(), &LABELS);
    digests.iter().map(|digest| numbers[digest]).collect()
}

/// Returns the digest of what an identity stands for: the labels, or the endpoint alone if it has
/// none or a rule names it.
fn endpoint_digest(endpoint: &Endpoint, named: &Named<'_>) -> Sha {
    let name = endpoint.name.get_ref().as_str();
    let labels = endpoint.labels.iter();
    let labels = labels.flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    if named.endpoints.contains(name) {
        let own = ["named", endpoint.node.as_str(), name];
        digest(own.into_iter().chain(labels))
    } else if endpoint.labels.is_empty() {
        digest(["endpoint", endpoint.node.as_str(), name])
    } else {
        digest(["labels"].into_iter().chain(labels))
    }
}

fn nodes(config: &Config, named: &Named<'_>) -> BTreeMap<String, u32> {
    let names = config.nodes.iter().map(|node| node.name.get_ref());
    let digests: BTreeMap<_, _> = names
        .filter(|name| named.nodes.contains(name.as_str()))
        .map(|name| (name.clone(), digest(["node", name.as_str()])))
        .collect();
    let numbers = assign(&digests.values().copied().collect(), &NODES);
    digests
        .into_iter()
        .map(|(name, digest)| (name, numbers[&digest]))
        .collect()
}
