//! What policy names is in the file: endpoints, nodes and ports; and addresses in rules are of
//! the world, for those of nodes and endpoints are never meant.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use toml::Spanned;

use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::draft::Draft;
use crate::config::family::Family;
use crate::config::policy::{Entity, Peer, PeerDraft, Ports, SubjectDraft, service};

/// Holds what rules may name.
struct Known<'d> {
    nodes: BTreeSet<&'d str>,
    endpoints: BTreeSet<&'d str>,
    /// Names that endpoints give their ports, and those that everybody knows.
    ports: BTreeSet<&'d str>,
    /// Addresses that the file gives, each with whose it is.
    addresses: BTreeMap<IpAddr, (&'static str, &'d str)>,
}

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    let known = Known::new(draft);
    for rule in &draft.policy.rules {
        match &rule.subject {
            SubjectDraft::Endpoints { names, .. } => {
                errors.extend(names.iter().filter_map(|name| known.check_endpoint(name)));
            }
            SubjectDraft::Host { nodes } => {
                errors.extend(nodes.iter().filter_map(|name| known.check_node(name)));
            }
            SubjectDraft::Refused => {}
        }
        for term in rule.terms() {
            errors.extend(term.peers.iter().filter_map(|peer| known.check_peer(peer)));
            errors.extend(term.ports.iter().filter_map(|port| known.check_ports(port)));
        }
    }
}

impl<'d> Known<'d> {
    fn new(draft: &'d Draft) -> Self {
        let mut known = Self {
            nodes: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            ports: service::names().collect(),
            addresses: BTreeMap::new(),
        };
        for node in &draft.nodes {
            let Some(name) = node.name.given() else {
                continue;
            };
            known.nodes.insert(name.get_ref());
            for address in &node.addresses {
                let owner = ("node", name.get_ref().as_str());
                known.addresses.insert(*address.get_ref(), owner);
            }
        }
        for endpoint in &draft.endpoints {
            known
                .ports
                .extend(endpoint.ports.keys().map(String::as_str));
            let Some(name) = endpoint.name.given() else {
                continue;
            };
            known.endpoints.insert(name.get_ref());
            for address in Family::BOTH.into_iter().filter_map(|f| endpoint.address(f)) {
                let owner = ("endpoint", name.get_ref().as_str());
                known.addresses.insert(*address.get_ref(), owner);
            }
        }
        known
    }

    fn check_endpoint(&self, name: &Spanned<String>) -> Option<Diagnostic> {
        let text = name.get_ref().as_str();
        if self.endpoints.contains(text) {
            return None;
        }
        let message = format!("there is no endpoint {}", quote(text));
        let error = Diagnostic::new(Kind::UndefinedName, name.span(), message);
        Some(match text {
            "all" | "*" => error.help("write `endpoints = {}` for all endpoints"),
            "host" => error.help("write `host = true` for rules about nodes"),
            _ if self.nodes.contains(text) => {
                error.help(format!("a node has this name; write `host = \"{text}\"`"))
            }
            _ => error.suggest(text, self.endpoints.iter().copied()),
        })
    }

    fn check_node(&self, name: &Spanned<String>) -> Option<Diagnostic> {
        let text = name.get_ref().as_str();
        if self.nodes.contains(text) {
            return None;
        }
        let message = format!("there is no node {}", quote(text));
        let error = Diagnostic::new(Kind::UndefinedNode, name.span(), message);
        Some(match text {
            "all" | "*" => error.help("write `host = true` for all nodes"),
            _ if self.endpoints.contains(text) => error.help(format!(
                "an endpoint has this name; write `endpoints = \"{text}\"`"
            )),
            _ => error.suggest(text, self.nodes.iter().copied()),
        })
    }

    fn check_peer(&self, peer: &Spanned<PeerDraft>) -> Option<Diagnostic> {
        match peer.get_ref() {
            PeerDraft::Known(Peer::Cidr { prefix, .. })
                if prefix.prefix_len() == prefix.max_prefix_len() =>
            {
                let (what, owner) = self.addresses.get(&prefix.addr())?;
                let message = format!("address `{}` is that of {what} `{owner}`", prefix.addr());
                let error = Diagnostic::new(Kind::NoEffect, peer.span(), message);
                let error = error.label("addresses mean the world alone");
                Some(error.help(format!("write its name, `{owner}`")))
            }
            PeerDraft::Known(_) => None,
            PeerDraft::Name(text) => self.check_name(text, peer),
        }
    }

    fn check_name(&self, text: &str, peer: &Spanned<PeerDraft>) -> Option<Diagnostic> {
        if self.nodes.contains(text) || self.endpoints.contains(text) {
            return None;
        }
        let message = format!("there is no endpoint or node {}", quote(text));
        let names = self.endpoints.iter().chain(&self.nodes).copied();
        let words = names.chain(Entity::ALL.map(Entity::word));
        Some(
            Diagnostic::new(Kind::UndefinedName, peer.span(), message)
                .label("neither an entity nor an address")
                .suggest(text, words),
        )
    }

    /// The three protocols of `any` have the same name.
    fn check_ports(&self, ports: &Spanned<Vec<Ports>>) -> Option<Diagnostic> {
        let unknown = ports.get_ref().iter().find_map(|ports| match ports {
            Ports::Named { name, .. } => Some(name.as_str()),
            Ports::Range { .. } | Ports::Icmp { .. } | Ports::Protocol(_) => None,
        });
        let text = unknown?;
        if self.ports.contains(text) {
            return None;
        }
        let message = format!("nobody says which port {} is", quote(text));
        let error = Diagnostic::new(Kind::UndefinedPort, ports.span(), message);
        let error = error.suggest(text, self.ports.iter().copied());
        let example = || format!("add `ports = {{ {text} = 8080 }}` to its endpoint");
        Some(if error.help.is_none() {
            error.help(example())
        } else {
            error
        })
    }
}
