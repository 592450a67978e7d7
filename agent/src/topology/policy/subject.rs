//! Who has a policy on a node, and who shares one.
//!
//! Endpoints to which the same terms apply share a policy, so that a rule for a thousand endpoints
//! with labels of their own is in the tables once. A policy has the number of the smallest identity
//! of those who share it, so that rules about others change neither their number nor their entries.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::Endpoint;
use super::super::identity::HOST;
use super::super::number::{assign, digest};
use super::party::port;
use super::port::name;
use super::side::{Side, Who, sides};
use super::term::{Placed, TermId};
use crate::config::{self, Config};
use crate::plan::object::Mac;
use crate::plan::policy::{self, Direction, Verdict};

/// Numbers of policies of endpoints that share an identity with others, but not their names of
/// ports.
const VARIANTS: Range<u32> = 0x0300_0000..0x0400_0000;

/// Is the node itself or one of its endpoints.
#[derive(Debug)]
pub(super) struct Subject<'c> {
    pub(super) slot: u16,
    mac: Mac,
    pub(super) who: Who<'c>,
    identity: u32,
    audit: bool,
    /// What applies to it: ingress, then egress.
    pub(super) sides: [Side; 2],
    /// Number of its policy; 0 if it is open in both directions.
    pub(super) policy: u32,
}

/// Is what endpoints have in common that share a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    sides: [(Verdict, Vec<TermId>); 2],
    /// The ports that it calls as its terms do, where others speak to it.
    ports: Vec<Option<u16>>,
}

impl Subject<'_> {
    fn has_policy(&self) -> bool {
        self.sides.iter().any(Side::has_policy)
    }

    pub(super) fn entry(&self) -> policy::Subject {
        policy::Subject {
            mac: self.mac,
            identity: self.identity,
            policy: self.policy,
            audit: self.audit,
        }
    }
}

/// Lists the node and its endpoints.
pub(super) fn subjects<'c>(
    config: &'c Config,
    node: &'c config::Node,
    endpoints: &[Endpoint],
    terms: &[Placed<'_>],
) -> Vec<Subject<'c>> {
    let audits = config.policy.audit || node.audit;
    let name = node.name.get_ref();
    let subject = |(slot, mac), who, identity, audit| Subject {
        slot,
        mac,
        who,
        identity,
        audit: audits || audit,
        sides: sides(&config.policy, terms, who),
        policy: 0,
    };
    let host = subject(
        (0, Mac::default()),
        Who::Host(name),
        HOST,
        !config.policy.enforces_host,
    );
    let given = config.endpoints.iter();
    let given = given.filter(|endpoint| endpoint.node == *name);
    let mine = given.zip(endpoints).map(|(given, endpoint)| {
        let who = Who::Endpoint(given);
        let link = (endpoint.id, endpoint.mac);
        subject(link, who, endpoint.identity, given.audit)
    });
    let mut subjects: Vec<_> = [host].into_iter().chain(mine).collect();
    number(&mut subjects, terms);
    subjects
}

/// Numbers the policies of those who have one.
fn number(subjects: &mut [Subject<'_>], terms: &[Placed<'_>]) {
    let mut taken = BTreeSet::new();
    let mut variants = BTreeMap::new();
    for (content, group) in sharing(subjects, terms) {
        let identities: BTreeSet<_> = group.iter().map(|at| subjects[*at].identity).collect();
        let mut free = identities
            .iter()
            .filter(|identity| taken.insert(**identity));
        if let Some(number) = free.next() {
            set(subjects, &group, *number);
        } else {
            let content = format!("{identities:?} {:?}", content.ports);
            variants.insert(digest([content.as_str()]), group);
        }
    }
    let numbers = assign(&variants.keys().copied().collect(), &VARIANTS);
    for (digest, group) in variants {
        set(subjects, &group, numbers[&digest]);
    }
    for subject in subjects.iter_mut().filter(|subject| subject.has_policy()) {
        if let Who::Host(_) = subject.who {
            subject.policy = HOST;
        }
    }
}

fn set(subjects: &mut [Subject<'_>], group: &[usize], policy: u32) {
    for at in group {
        subjects[*at].policy = policy;
    }
}

/// Groups the endpoints that have a policy by what they have in common, the smallest identity
/// first.
fn sharing(subjects: &[Subject<'_>], terms: &[Placed<'_>]) -> Vec<(Content, Vec<usize>)> {
    let mut sharing: BTreeMap<Content, Vec<usize>> = BTreeMap::new();
    for (at, subject) in subjects.iter().enumerate() {
        if let (Who::Endpoint(endpoint), true) = (subject.who, subject.has_policy()) {
            let content = content(endpoint, &subject.sides, terms);
            sharing.entry(content).or_default().push(at);
        }
    }
    let mut groups: Vec<_> = sharing.into_iter().collect();
    groups.sort_by_key(|(_, group)| group.iter().map(|at| subjects[*at].identity).min());
    groups
}

fn content(endpoint: &config::Endpoint, sides: &[Side; 2], terms: &[Placed<'_>]) -> Content {
    let ingress = sides
        .iter()
        .filter(|side| side.direction == Direction::Ingress);
    let ports = ingress
        .flat_map(|side| &side.terms)
        .flat_map(|id| &terms[*id].term.ports)
        .filter_map(name);
    Content {
        sides: sides
            .each_ref()
            .map(|side| (side.default, side.terms.clone())),
        ports: ports.map(|name| port(endpoint, name)).collect(),
    }
}
