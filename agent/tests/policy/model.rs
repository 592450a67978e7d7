//! Reads the rules of a file as a person would, without identities and without tables.

use std::net::IpAddr;

use ciliate::config::policy::{
    Enforcement, Entity, Peer, Policy, Ports, Requirement, Rule, Selector, Subject, Term,
};
use ciliate::config::{Config, Endpoint};
use ciliate::plan::policy::{Decision, Direction};

/// Is one end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Party<'c> {
    Endpoint(&'c Endpoint),
    /// A node itself, by its name.
    Node(&'c str),
    Health,
    /// Somebody who is nobody of the file.
    Stranger(IpAddr),
}

/// Is a question: may these two connect, as a subject on a node sees it?
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'c> {
    pub(crate) config: &'c Config,
    pub(crate) node: &'c str,
    pub(crate) subject: Party<'c>,
    pub(crate) direction: Direction,
    pub(crate) other: Party<'c>,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// Is the answer, with the place of the term that gave it.
pub(crate) type Answer<'c> = (Decision, Option<&'c str>);

impl<'c> Question<'c> {
    pub(crate) fn answer(self) -> Answer<'c> {
        let Policy {
            enforcement, rules, ..
        } = &self.config.policy;
        if *enforcement == Enforcement::Never {
            return (Decision::Allow, None);
        }
        let rules: Vec<_> = rules.iter().filter(|rule| self.is_about(rule)).collect();
        for rule in &rules {
            if let Some(term) = self.first(self.lists(rule).1) {
                return (denial(rule.reject), Some(&term.place));
            }
        }
        for rule in &rules {
            if let Some(term) = self.first(self.lists(rule).0) {
                return (Decision::Allow, Some(&term.place));
            }
        }
        (self.by_default(*enforcement, &rules), None)
    }

    /// Says what holds when no term says anything.
    fn by_default(self, enforcement: Enforcement, rules: &[&Rule]) -> Decision {
        let is_host = matches!(self.subject, Party::Node(_));
        let host_calls = matches!(self.other, Party::Node(name) if name == self.node)
            && self.direction == Direction::Ingress;
        let closing = |rule: &&&Rule| {
            let (allow, deny) = self.lists(rule);
            rule.default_deny && (allow.is_some() || deny.is_some())
        };
        let is_closed = match enforcement {
            Enforcement::Always if is_host => !rules.is_empty(),
            Enforcement::Always => true,
            Enforcement::Default => rules.iter().any(|rule| closing(&rule)),
            Enforcement::Never => false,
        };
        if !is_closed || (host_calls && !is_host) {
            Decision::Allow
        } else {
            denial(rules.iter().filter(closing).any(|rule| rule.reject))
        }
    }

    /// Returns what a rule allows and denies in this direction.
    fn lists(self, rule: &Rule) -> (Option<&Vec<Term>>, Option<&Vec<Term>>) {
        match self.direction {
            Direction::Ingress => (rule.ingress.as_ref(), rule.ingress_deny.as_ref()),
            Direction::Egress => (rule.egress.as_ref(), rule.egress_deny.as_ref()),
        }
    }

    fn first(self, list: Option<&Vec<Term>>) -> Option<&Term> {
        let mut terms = list.into_iter().flatten();
        terms.find(|term| {
            (term.peers.is_empty() || term.peers.iter().any(|peer| self.means(peer)))
                && (term.ports.is_empty() || term.ports.iter().any(|ports| self.covers(ports)))
        })
    }

    fn is_about(self, rule: &Rule) -> bool {
        match (&rule.subject, self.subject) {
            (Subject::Endpoints { selectors, names }, Party::Endpoint(endpoint)) => {
                names.contains(endpoint.name.get_ref())
                    || selectors.iter().any(|selector| selects(selector, endpoint))
            }
            (Subject::Host { nodes }, Party::Node(node)) => {
                nodes.is_empty() || nodes.contains(node)
            }
            _ => false,
        }
    }

    fn means(self, peer: &Peer) -> bool {
        match (peer, self.other) {
            (Peer::Entity(entity), other) => self.is(*entity, other),
            (Peer::Selector(selector), Party::Endpoint(endpoint)) => selects(selector, endpoint),
            (Peer::Endpoint(name), Party::Endpoint(endpoint)) => name == endpoint.name.get_ref(),
            (Peer::Node(name), Party::Node(node)) => name == node,
            (Peer::Cidr { prefix, except }, Party::Stranger(address)) => {
                prefix.contains(&address) && !except.iter().any(|less| less.contains(&address))
            }
            _ => false,
        }
    }

    fn is(self, entity: Entity, other: Party<'_>) -> bool {
        match entity {
            Entity::All => true,
            Entity::None => false,
            Entity::Host => matches!(other, Party::Node(node) if node == self.node),
            Entity::RemoteNode => matches!(other, Party::Node(node) if node != self.node),
            Entity::Health => matches!(other, Party::Health),
            Entity::Cluster => !matches!(other, Party::Stranger(_)),
            Entity::World => matches!(other, Party::Stranger(_)),
            Entity::WorldIpv4 => matches!(other, Party::Stranger(IpAddr::V4(_))),
            Entity::WorldIpv6 => matches!(other, Party::Stranger(IpAddr::V6(_))),
        }
    }

    fn covers(self, ports: &Ports) -> bool {
        match ports {
            Ports::Protocol(protocol) => self.protocol == *protocol,
            Ports::Range {
                protocol,
                first,
                last,
            } => self.protocol == *protocol && (*first..=*last).contains(&self.port),
            Ports::Icmp {
                protocol,
                kind,
                code,
            } => {
                let [its_kind, its_code] = self.port.to_be_bytes();
                self.protocol == *protocol
                    && its_kind == *kind
                    && code.is_none_or(|code| code == its_code)
            }
            Ports::Named { protocol, name } => {
                self.protocol == *protocol && self.is_called(self.port, name)
            }
        }
    }

    /// Tells whether the party that is spoken to calls a port so, or one that is its like.
    fn is_called(self, port: u16, name: &str) -> bool {
        let spoken_to = match self.direction {
            Direction::Ingress => self.subject,
            Direction::Egress => self.other,
        };
        let calls = |endpoint: &Endpoint| {
            let own = endpoint.ports.get(name).copied();
            own.or_else(|| usual(name)) == Some(port)
        };
        let Party::Endpoint(endpoint) = spoken_to else {
            return usual(name) == Some(port);
        };
        let likes = self.config.endpoints.iter().filter(|like| {
            like.labels == endpoint.labels && !like.labels.is_empty() && !self.is_named(like)
        });
        let has_likes = self.direction == Direction::Egress && !self.is_named(endpoint);
        calls(endpoint) || (has_likes && likes.into_iter().any(calls))
    }

    /// Tells whether a rule speaks of an endpoint by its name.
    fn is_named(self, endpoint: &Endpoint) -> bool {
        let name = endpoint.name.get_ref();
        self.config.policy.rules.iter().any(|rule| {
            let lists = [
                &rule.ingress,
                &rule.egress,
                &rule.ingress_deny,
                &rule.egress_deny,
            ];
            let terms = lists.into_iter().flatten().flatten();
            let mut peers = terms.flat_map(|term| &term.peers);
            matches!(&rule.subject, Subject::Endpoints { names, .. } if names.contains(name))
                || peers.any(|peer| matches!(peer, Peer::Endpoint(peer) if peer == name))
        })
    }
}

fn denial(reject: bool) -> Decision {
    if reject {
        Decision::Reject
    } else {
        Decision::Deny
    }
}

fn usual(name: &str) -> Option<u16> {
    (name == "http").then_some(80)
}

fn selects(selector: &Selector, endpoint: &Endpoint) -> bool {
    let holds = |key: &String, requirement: &Requirement| {
        let value = endpoint.labels.get(key);
        match requirement {
            Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
            Requirement::Exists => value.is_some(),
            Requirement::Absent => value.is_none(),
        }
    };
    for (key, requirement) in &selector.requirements {
        if !holds(key, requirement) {
            return false;
        }
    }
    match &selector.not {
        Some(not) => not
            .iter()
            .any(|(key, requirement)| !holds(key, requirement)),
        None => true,
    }
}
