//! Which term almost allows what is denied: the one that a person most likely meant.

use super::super::Topology;
use super::super::identity::Identities;
use super::party::Parties;
use super::side::Who;
use super::term::{Placed, terms};
use crate::config::Config;
use crate::plan::policy::Direction;

/// Is a term that almost allows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    pub term: u16,
    pub miss: Miss,
}

/// Tells why a term does not allow something; the nearest miss comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// It does, but another term denies it.
    Overruled,
    /// It means the other party, at other ports.
    Port,
    /// It means this port, of other parties.
    Peer,
}

/// Finds the term that comes nearest to allowing a connection of a subject with an identity.
pub fn near(
    config: &Config,
    topology: &Topology,
    slot: u16,
    direction: Direction,
    identity: u32,
    (protocol, port): (u8, u16),
) -> Option<Near> {
    let identities = Identities::of(config);
    let parties = Parties::new(config, &topology.node, &identities);
    let terms = terms(&config.policy);
    let who = who(config, topology, slot)?;
    let place = u32::from(protocol) << 16 | u32::from(port);
    let miss = |id: usize, placed: &Placed<'_>| {
        let covers = |ports| {
            let spans = parties.spans(who, direction, Some(identity), ports);
            spans.iter().any(|span| span.contains(&place))
        };
        let ports = &placed.term.ports;
        let is_port = ports.is_empty() || ports.iter().any(covers);
        let is_peer = parties.reach(id, placed.term).contains(identity);
        match (is_peer, is_port) {
            (true, true) => Some(Miss::Overruled),
            (true, false) => Some(Miss::Port),
            (false, true) => Some(Miss::Peer),
            (false, false) => None,
        }
    };
    let policy = &topology.policy;
    let numbers = policy.side(slot, direction)?.terms.iter();
    let allowing = numbers.filter(|number| !policy.terms[*number].denies);
    let near = allowing.filter_map(|number| {
        let id = policy.terms[number].term_idx;
        let miss = miss(id, &terms[id])?;
        Some(Near {
            term: *number,
            miss,
        })
    });
    near.min_by_key(|near| near.miss)
}

fn who<'c>(config: &'c Config, topology: &'c Topology, slot: u16) -> Option<Who<'c>> {
    if slot == 0 {
        return Some(Who::Host(&topology.node));
    }
    let mut mine = topology.endpoints.iter();
    let name = &mine.find(|endpoint| endpoint.id == slot)?.name;
    let mut all = config.endpoints.iter();
    all.find(|endpoint| endpoint.name.get_ref() == name)
        .map(Who::Endpoint)
}
