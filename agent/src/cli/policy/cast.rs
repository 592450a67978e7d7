//! The nodes of a file, and whom a word on the command line means.

use std::net::IpAddr;
use std::path::Path;

use datapath::abi::{Addr4, Addr6};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::args::Common;
use super::super::failure::Failure;
use super::super::machine;
use crate::config::diagnostic::{closest, quote};
use crate::config::{self, Config, Report, Source};
use crate::topology::identity::WORLD;
use crate::topology::resolve::choose;
use crate::topology::{Resolver, Topology};

/// Holds a file as each of its nodes sees it.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) config: Config,
    source: Source,
    pub(super) nodes: Vec<Topology>,
}

/// Is one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// An endpoint, or with slot 0 a node itself, and the place of its node.
    Subject {
        node: usize,
        slot: u16,
    },
    /// Whoever no narrower rule speaks of.
    World,
    Stranger(IpAddr),
}

impl Cast {
    /// Loads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn load(file: &Path) -> Result<Self, Failure> {
        let (config, source) = config::load(file)?;
        let (mut nodes, mut errors) = (Vec::new(), Vec::new());
        let resolver = Resolver::new(&config);
        for node in &config.nodes {
            match resolver.resolve(Some(node.name.get_ref()), None) {
                Ok(topology) => nodes.push(topology),
                Err(more) => errors.extend(more),
            }
        }
        if !errors.is_empty() {
            return Err(Report::new(&source, &errors).into());
        }
        Ok(Self {
            config,
            source,
            nodes,
        })
    }

    /// Returns the place of the node that this machine plays.
    ///
    /// # Errors
    /// If it cannot be told.
    pub(super) fn played(&self, common: &Common) -> Result<usize, Failure> {
        let hostname = machine::hostname();
        let played = choose(&self.config, common.node.as_deref(), hostname.as_deref())
            .map_err(|error| Report::new(&self.source, &[error]))?;
        let mut nodes = self.nodes.iter();
        let place = nodes.position(|node| node.node == *played.name.get_ref());
        Ok(place.unwrap_or_default())
    }

    /// Finds whom a word means.
    ///
    /// # Errors
    /// If it means nobody of the file.
    pub(super) fn find(&self, word: &str, common: &Common) -> Result<Party, Failure> {
        if word == "host" {
            let node = self.played(common)?;
            return Ok(Party::Subject { node, slot: 0 });
        }
        if word == "world" {
            return Ok(Party::World);
        }
        if let Ok(address) = word.parse() {
            let known = self.subjects().find(|(party, _)| {
                let [v4, v6] = self.addresses(*party);
                [v4, v6].contains(&Some(address))
            });
            return Ok(known.map_or(Party::Stranger(address), |(party, _)| party));
        }
        let named = self.subjects().find(|(_, name)| *name == word);
        named
            .map(|(party, _)| party)
            .ok_or_else(|| self.unknown(word))
    }

    /// Lists every node and endpoint of the file with its name.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (Party, &str)> {
        self.nodes.iter().enumerate().flat_map(|(node, topology)| {
            let party = move |slot| Party::Subject { node, slot };
            let endpoints = topology.endpoints.iter();
            let endpoints = endpoints.map(move |one| (party(one.id), one.name.as_str()));
            std::iter::once((party(0), topology.node.as_str())).chain(endpoints)
        })
    }

    /// Says that a word means nobody, and what may have been meant.
    fn unknown(&self, word: &str) -> Failure {
        let names = self.subjects().map(|(_, name)| name);
        let hint = match closest(word, names.chain(["host", "world"])) {
            Some(name) => format!("did you mean {}?", quote(name)),
            None if Path::new(word).exists() => {
                format!("it is a file: write --config {word}")
            }
            None => "give the name of an endpoint or a node, host, world, or an address".to_owned(),
        };
        Failure::Usage(format!(
            "{} has no {}; {hint}",
            self.source.path(),
            quote(word)
        ))
    }

    /// Returns the name of a party.
    pub(super) fn name(&self, party: Party) -> String {
        match party {
            Party::World => "world".to_owned(),
            Party::Stranger(address) => address.to_string(),
            Party::Subject { .. } => {
                let mut subjects = self.subjects();
                let found = subjects.find(|(subject, _)| *subject == party);
                found.map_or_else(String::new, |(_, name)| name.to_owned())
            }
        }
    }

    /// Returns the addresses of a party, at most one of each family.
    fn addresses(&self, party: Party) -> [Option<IpAddr>; 2] {
        let of = |want_v4: bool, addresses: &[IpAddr]| {
            let mut all = addresses.iter().copied();
            all.find(|address| address.is_ipv4() == want_v4)
        };
        match party {
            Party::World => [None, None],
            Party::Stranger(address) => [of(true, &[address]), of(false, &[address])],
            Party::Subject { node, slot: 0 } => {
                let addresses = &self.nodes[node].addresses;
                [of(true, addresses), of(false, addresses)]
            }
            Party::Subject { node, slot } => {
                let mut endpoints = self.nodes[node].endpoints.iter();
                let endpoint = endpoints.find(|endpoint| endpoint.id == slot);
                let v4 = endpoint.and_then(|endpoint| endpoint.ipv4);
                let v6 = endpoint.and_then(|endpoint| endpoint.ipv6);
                [v4.map(IpAddr::V4), v6.map(IpAddr::V6)]
            }
        }
    }

    /// Returns what a node takes a party for that a subject of it speaks with; of the world, in
    /// the subject's family.
    pub(super) fn identity(&self, at: usize, subject: Party, other: Party) -> u32 {
        let topology = &self.nodes[at];
        match other {
            Party::Subject { node, slot: 0 } => topology.policy.nodes[&self.nodes[node].node],
            Party::Subject { node, slot } => {
                self.nodes[node].policy.tables.subjects[&slot].identity
            }
            Party::Stranger(address) => topology.policy.tables.identity_of(address),
            Party::World => {
                let everything: IpNet = match self.addresses(subject) {
                    [None, Some(_)] => Ipv6Net::default().into(),
                    _ => Ipv4Net::default().into(),
                };
                let prefixes = &topology.policy.tables.prefixes;
                prefixes.get(&everything).map_or(WORLD, |all| all.identity)
            }
        }
    }

    /// Returns the port that a party calls so.
    pub(super) fn port(&self, party: Party, name: &str) -> Option<u16> {
        let own = matches!(party, Party::Subject { slot, .. } if slot != 0).then(|| {
            let called = self.name(party);
            let mut endpoints = self.config.endpoints.iter();
            let endpoint = endpoints.find(|endpoint| *endpoint.name.get_ref() == called)?;
            endpoint.ports.get(name).copied()
        });
        own.flatten()
            .or_else(|| config::policy::service::number(name))
    }

    /// Tells whether two parties have no family of addresses in common.
    pub(super) fn are_apart(&self, one: Party, other: Party) -> bool {
        let (one, other) = (self.addresses(one), self.addresses(other));
        let knows = |addresses: [Option<IpAddr>; 2]| addresses != [None, None];
        let shares = |at: usize| one[at].is_some() && other[at].is_some();
        knows(one) && knows(other) && !shares(0) && !shares(1)
    }
}

/// Returns what keeps two parties apart without any policy.
pub(super) fn obstacle(one: Party, other: Party) -> Option<&'static str> {
    match (one, other) {
        (Party::Subject { slot, .. }, Party::Stranger(address))
        | (Party::Stranger(address), Party::Subject { slot, .. })
            if slot != 0 && is_martian(address) =>
        {
            Some("endpoints exchange nothing with addresses that no router forwards to")
        }
        _ => None,
    }
}

/// Tells whether the kernel's part takes an address for one that no router forwards to.
fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => Addr4::new(address.octets()).is_martian(),
        IpAddr::V6(address) => Addr6::new(address.octets()).is_martian(),
    }
}
