//! `[policy]`: who may talk to whom, as the file says it.
//!
//! Nothing is resolved here: names and labels are looked up by `topology`, which compiles all of
//! this into tables.
//!
//! # Layout
//! - `read`: the table, and draft → policy
//! - `rule`, `term`, `peer`, `ports`, `selector`: its parts, from the outside to the inside
//! - `entity`, `icmp`, `port_name`, [`service`]: words and names

mod entity;
pub(crate) mod icmp;
mod peer;
pub(super) mod port_name;
mod ports;
mod read;
mod rule;
mod selector;
pub mod service;
mod term;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

pub(super) use self::peer::PeerDraft;
pub(super) use self::read::{PolicyDraft, read};
pub(super) use self::rule::SubjectDraft;

/// Describes the policy of all nodes of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    pub enforcement: Enforcement,
    /// Whether what would be denied is let through and reported, on every node.
    pub audit: bool,
    /// Whether rules about the node itself are enforced; by default they are only audited.
    pub enforces_host: bool,
    /// In the order of the file.
    pub rules: Vec<Rule>,
}

/// Tells when an endpoint lets in, and may reach, only what rules allow (as in Cilium).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// In each direction from the first rule on that speaks of it.
    #[default]
    Default,
    /// In both directions, also without rules.
    Always,
    /// Never: rules mean nothing.
    Never,
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// Is one `[[policy.rule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `file:line:column` of the rule.
    pub place: String,
    pub description: Option<String>,
    pub subject: Subject,
    /// Whether the rule closes its subjects to everything else, in the directions that it speaks
    /// of; true if the file does not say.
    pub default_deny: bool,
    /// Whether those whom the rule keeps out are told so, by its deny terms or by default.
    pub reject: bool,
    /// `None` if the rule does not speak of it; an empty list allows nothing.
    pub ingress: Option<Vec<Term>>,
    pub egress: Option<Vec<Term>>,
    pub ingress_deny: Option<Vec<Term>>,
    pub egress_deny: Option<Vec<Term>>,
}

/// Is whom a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// Endpoints that match one of the selectors, or have one of the names.
    Endpoints {
        selectors: Vec<Selector>,
        names: BTreeSet<String>,
    },
    /// The nodes themselves: all, or those with these names if there are any.
    Host { nodes: BTreeSet<String> },
}

/// Is one table of a list such as `ingress`: these peers, at these ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// `file:line:column` of the table.
    pub place: String,
    /// Whoever matches one of them; everybody if the list is empty.
    pub peers: Vec<Peer>,
    /// Every protocol and port if the list is empty.
    pub ports: Vec<Ports>,
}

/// Is the other side of a term.
#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    Entity(Entity),
    Selector(Selector),
    /// The endpoints with this name, on whatever node.
    Endpoint(String),
    /// A node itself, by its name.
    Node(String),
    /// Addresses of the world: those of nodes and endpoints are never meant (as in Cilium).
    Cidr {
        prefix: IpNet,
        except: Vec<IpNet>,
    },
}

/// Is a class of identities (as in Cilium).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// The node on which the endpoint is.
    Host,
    /// Everybody who is neither a node nor an endpoint of the file.
    World,
    WorldIpv4,
    WorldIpv6,
    /// Every other node.
    RemoteNode,
    /// All nodes and endpoints of the file.
    Cluster,
    /// The health endpoint.
    Health,
    All,
    None,
}

/// Selects endpoints by labels: every requirement holds, and nothing of `not` does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub requirements: BTreeMap<String, Requirement>,
    /// Endpoints that this selects are left out; never nested deeper.
    pub not: Option<BTreeMap<String, Requirement>>,
}

/// Is what a selector wants of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// It has one of these values.
    In(BTreeSet<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Tells whether an endpoint with these labels is meant.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let meets = |requirements: &BTreeMap<String, Requirement>| {
            requirements.iter().all(|(key, requirement)| {
                let value = labels.get(key);
                match requirement {
                    Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                    Requirement::Exists => value.is_some(),
                    Requirement::Absent => value.is_none(),
                }
            })
        };
        meets(&self.requirements) && !self.not.as_ref().is_some_and(meets)
    }
}

/// Is a set of ports of one protocol, or of messages of ICMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// TCP, UDP or SCTP by its number; the first and the last port.
    Range { protocol: u8, first: u16, last: u16 },
    /// A port by its name, with TCP, UDP or SCTP: what the endpoint that is spoken to calls so in
    /// its `ports`, else what everybody does.
    Named { protocol: u8, name: String },
    /// ICMP for IPv4 (1) or IPv6 (58): one type, and of that all codes or one.
    Icmp {
        protocol: u8,
        kind: u8,
        code: Option<u8>,
    },
    /// A whole protocol by its number.
    Protocol(u8),
}
