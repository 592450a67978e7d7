//! Whom terms mean, as one node sees it: identities.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::identity::{HEALTH, HOST, Identities};
use super::port::spans;
use super::side::Who;
use super::term::TermId;
use crate::config::family::Family;
use crate::config::policy::{Entity, Peer, Ports, Selector, Term, service};
use crate::config::{Config, Endpoint};
use crate::plan::policy::Direction;

/// Tells whom a term means.
#[derive(Debug)]
pub(super) enum Reach {
    Everybody,
    These(BTreeSet<u32>),
}

impl Reach {
    pub(super) fn contains(&self, identity: u32) -> bool {
        match self {
            Self::Everybody => true,
            Self::These(identities) => identities.contains(&identity),
        }
    }
}

/// Knows everybody whom a node may meet.
#[derive(Debug)]
pub(super) struct Parties<'c> {
    node: &'c str,
    identities: &'c Identities,
    /// The endpoints of the file that have an identity.
    endpoints: BTreeMap<u32, Vec<&'c Endpoint>>,
    /// Identities of the other nodes.
    nodes: BTreeSet<u32>,
    /// Identities of the classes that a term speaks of.
    classes: BTreeMap<TermId, Vec<u32>>,
}

impl<'c> Parties<'c> {
    pub(super) fn new(config: &'c Config, node: &'c str, identities: &'c Identities) -> Self {
        let mut endpoints: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (endpoint, identity) in config.endpoints.iter().zip(&identities.endpoints) {
            endpoints.entry(*identity).or_default().push(endpoint);
        }
        let mut classes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for class in &identities.classes.list {
            for term in &class.terms {
                classes.entry(*term).or_default().push(class.identity);
            }
        }
        let names = config.nodes.iter().map(|node| node.name.get_ref());
        let others = names.filter(|name| *name != node);
        Self {
            node,
            identities,
            endpoints,
            nodes: others.map(|name| identities.node(name)).collect(),
            classes,
        }
    }

    /// Tells whom a term means.
    pub(super) fn reach(&self, id: TermId, term: &Term) -> Reach {
        let is_all = |peer| matches!(peer, &Peer::Entity(Entity::All));
        if term.peers.is_empty() || term.peers.iter().any(is_all) {
            return Reach::Everybody;
        }
        let classes = self.classes.get(&id).into_iter().flatten();
        let mut these: BTreeSet<_> = classes.copied().collect();
        for peer in &term.peers {
            match peer {
                Peer::Entity(entity) => self.add_entity(*entity, &mut these),
                Peer::Selector(selector) => these.extend(self.selected(selector)),
                Peer::Endpoint(name) => these.extend(self.called(name)),
                Peer::Node(name) if name == self.node => _ = these.insert(HOST),
                Peer::Node(name) => _ = these.insert(self.identities.node(name)),
                // The classes are there already.
                Peer::Cidr { .. } => {}
            }
        }
        Reach::These(these)
    }

    fn add_entity(&self, entity: Entity, these: &mut BTreeSet<u32>) {
        match entity {
            Entity::Host => _ = these.insert(HOST),
            Entity::World => {
                for family in Family::BOTH {
                    self.add_world(family, these);
                }
            }
            Entity::WorldIpv4 => self.add_world(Family::V4, these),
            Entity::WorldIpv6 => self.add_world(Family::V6, these),
            Entity::RemoteNode => these.extend(&self.nodes),
            Entity::Cluster => {
                these.extend([HOST, HEALTH]);
                these.extend(&self.nodes);
                these.extend(self.endpoints.keys());
            }
            Entity::Health => _ = these.insert(HEALTH),
            // `reach` looks for `all` before anything else.
            Entity::All | Entity::None => {}
        }
    }

    fn add_world(&self, family: Family, these: &mut BTreeSet<u32>) {
        these.insert(self.identities.worlds.identity(family));
        let classes = self.identities.classes.list.iter();
        let classes = classes.filter(|class| class.family() == family);
        these.extend(classes.map(|class| class.identity));
    }

    fn selected(&self, selector: &Selector) -> impl Iterator<Item = u32> {
        self.identities_of(move |endpoint| selector.selects(&endpoint.labels))
    }

    fn called(&self, name: &str) -> impl Iterator<Item = u32> {
        self.identities_of(move |endpoint| endpoint.name.get_ref() == name)
    }

    /// Returns identities all of whose endpoints are alike in what is asked.
    fn identities_of(&self, is_meant: impl Fn(&Endpoint) -> bool) -> impl Iterator<Item = u32> {
        let endpoints = self.endpoints.iter();
        let meant = endpoints.filter(move |(_, alike)| is_meant(alike[0]));
        meant.map(|(identity, _)| *identity)
    }

    /// Returns the identities of endpoints that call a port by one of these names.
    pub(super) fn naming(&self, names: &BTreeSet<&str>) -> impl Iterator<Item = u32> {
        let names_one =
            |endpoint: &&Endpoint| names.iter().any(|name| endpoint.ports.contains_key(*name));
        let endpoints = self.endpoints.iter();
        let naming = endpoints.filter(move |(_, alike)| alike.iter().any(names_one));
        naming.map(|(identity, _)| *identity)
    }

    /// Returns the ports that whoever has an identity calls so: those of all its endpoints
    /// together.
    fn ports(&self, identity: u32, name: &str) -> BTreeSet<u16> {
        match self.endpoints.get(&identity) {
            Some(alike) => alike
                .iter()
                .filter_map(|endpoint| port(endpoint, name))
                .collect(),
            None => service::number(name).into_iter().collect(),
        }
    }

    /// Returns what ports cover that a subject is asked for, or asks of an identity; a name means
    /// what the party calls so that is spoken to.
    pub(super) fn spans(
        &self,
        who: Who<'_>,
        direction: Direction,
        identity: Option<u32>,
        ports: &Ports,
    ) -> Vec<Range<u32>> {
        spans(ports, |name| match (direction, who) {
            (Direction::Ingress, Who::Endpoint(endpoint)) => {
                port(endpoint, name).into_iter().collect()
            }
            (Direction::Ingress, Who::Host(_)) => service::number(name).into_iter().collect(),
            (Direction::Egress, _) => self.ports(identity.unwrap_or(0), name),
        })
    }

    pub(super) fn endpoints(&self) -> &BTreeMap<u32, Vec<&'c Endpoint>> {
        &self.endpoints
    }

    pub(super) fn identities(&self) -> &'c Identities {
        self.identities
    }
}

/// Returns the port that an endpoint calls so.
pub(super) fn port(endpoint: &Endpoint, name: &str) -> Option<u16> {
    let own = endpoint.ports.get(name).copied();
    own.or_else(|| service::number(name))
}
