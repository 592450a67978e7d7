//! `ciliate lab up` and `lab down`: all nodes of a file side by side on one machine.
//!
//! ```text
//!   netns edge-1            netns segment-<id>            netns edge-2
//!  ┌─────────────┐         ┌─────────────────┐          ┌─────────────┐
//!  │        eth0 ├─────────┤       br0       ├──────────┤ eth0        │
//!  │ lxcweb      │         └─────────────────┘          │      lxcapi │
//!  └────┬────────┘                                      └────────┬────┘
//!   netns web                                               netns api
//! ```
//!
//! Each node is a network namespace with an instance of its own. Namespaces are marked with the
//! file that they were made for, and only marked ones are used or removed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::apply::{Start, bring_up, take_down};
use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance, Whereabouts};
use crate::config::{Config, Report, Source};
use crate::host::{named, netns, segment};
use crate::plan::object::Netns;
use crate::reconcile::Edition;
use crate::topology::{Resolver, Topology};

/// Makes the nodes of a file. Returns the exit code.
///
/// # Errors
/// If the file is wrong, a name is taken, or a node cannot be set up. A lab that was not there
/// before is removed then; one that was is left as far as it came.
pub fn up(
    common: &Common,
    file: &Path,
    only: Option<&str>,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let lab = Lab::load(file, only)?;
    let is_new = lab.members()?.is_empty();
    // Printed when all is done: a reader who went away must not undo it.
    let mut text = String::new();
    if let Err(failure) = lab.up(common, &mut text) {
        if is_new {
            // The reason why it failed is what counts; what is left is found by `lab down`.
            drop(lab.down(common));
        } else {
            drop(write!(out, "{text}"));
        }
        return Err(failure);
    }
    write!(out, "{text}")?;
    Ok(exit::OK)
}

/// Removes the nodes of a file. Returns the exit code.
///
/// # Errors
/// Everything that could not be removed; the rest is.
pub fn down(
    common: &Common,
    file: &Path,
    only: Option<&str>,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let lab = Lab::load(file, only)?;
    let was_up = !lab.members()?.is_empty();
    let gone = lab.down(common)?;
    for node in &gone {
        writeln!(out, "node {node} is gone")?;
    }
    match only {
        Some(node) if gone.is_empty() => {
            writeln!(out, "no node {node} of {} is up here", file.display())?;
        }
        None if gone.is_empty() && !was_up => {
            writeln!(out, "no lab of {} is up here", file.display())?;
        }
        _ => {}
    }
    Ok(exit::OK)
}

/// Is the part of a file that is made or removed.
struct Lab {
    /// Marks the namespaces; the same for the same file.
    id: String,
    /// The file, by its canonical path.
    file: PathBuf,
    /// What it says.
    edition: Edition,
    nodes: Vec<Topology>,
    /// Whether nodes of the file are left out.
    is_partial: bool,
}

impl Lab {
    fn load(file: &Path, only: Option<&str>) -> Result<Self, Failure> {
        let (config, source) = instance::load(file)?;
        let nodes = topologies(&config, &source, only)?;
        let edition = instance::edition(file, &source)?;
        let file = file.canonicalize().map_err(|source| Failure::Path {
            path: file.to_owned(),
            source,
        })?;
        let digest = hex::encode(Sha256::digest(file.as_os_str().as_encoded_bytes()));
        let is_partial = nodes.len() < config.nodes.len();
        Ok(Self {
            id: digest[..8].to_owned(),
            file,
            edition,
            nodes,
            is_partial,
        })
    }

    /// Makes everything; what there is to say about it is added to `text`.
    fn up(&self, common: &Common, text: &mut String) -> Result<(), Failure> {
        let segment = self.segment();
        for name in [segment.as_str()].into_iter().chain(self.namespaces()) {
            self.create(name)?;
        }
        let bridge = netns::open(&Netns::Name(segment))?;
        netns::in_netns(&bridge, segment::make_bridge)??;
        for topology in &self.nodes {
            let node = netns::open(&Netns::Name(topology.node.clone()))?;
            let peers: Vec<_> = topology
                .peers
                .iter()
                .flat_map(|peer| peer.addresses.clone())
                .collect();
            let join = |own| segment::join(&bridge, &node, &topology.node, own, &peers);
            join(None)?;
            for address in &topology.addresses {
                join(Some(*address))?;
            }
            let report = netns::in_netns(&node, || {
                bring_up(common, topology, &self.edition, Start::Whole, |_| Ok(()))
            })??;
            text.push_str(&format!(
                "{}node {} is up: nsenter --net=/run/netns/{1} …\n",
                report.plan, topology.node
            ));
        }
        Ok(())
    }

    /// Removes as much as possible, and collects what was not; returns the nodes that are gone.
    fn down(&self, common: &Common) -> Result<Vec<String>, Failure> {
        let (mut gone, mut failures) = (Vec::new(), Vec::new());
        let leaving = self.leaving()?;
        let nodes = self.nodes.iter().map(|topology| &topology.node);
        for name in leaving.iter().chain(nodes).collect::<BTreeSet<_>>() {
            match self.take_down_node(common, name) {
                Ok(true) => gone.push(name.clone()),
                Ok(false) => {}
                Err(failure) => failures.push(failure.to_string()),
            }
        }
        let named = self.namespaces().into_iter();
        let dead = named.filter(|name| named::is_dead(name));
        for name in leaving.iter().map(String::as_str).chain(dead) {
            failures.extend(self.delete(name).err().map(|failure| failure.to_string()));
        }
        let segment = self.segment();
        if self.members()?.iter().all(|name| *name == segment) {
            failures.extend(
                self.delete(&segment)
                    .err()
                    .map(|failure| failure.to_string()),
            );
        }
        named::remove_directory();
        if failures.is_empty() {
            Ok(gone)
        } else {
            Err(Failure::Several(failures))
        }
    }

    /// Lists the namespaces that go: those of the chosen nodes, or everything that this lab ever
    /// made, so that what an edit took out of the file goes as well.
    fn leaving(&self) -> Result<BTreeSet<String>, Failure> {
        if self.is_partial {
            return Ok(self.namespaces().into_iter().map(str::to_owned).collect());
        }
        let segment = self.segment();
        let members = self.members()?.into_iter();
        Ok(members.filter(|name| *name != segment).collect())
    }

    /// Removes what is set up in a namespace of this lab, or was in one that somebody deleted;
    /// tells whether it was a node's.
    fn take_down_node(&self, common: &Common, name: &str) -> Result<bool, Failure> {
        let instance = Instance::new(common, name);
        if !instance.exists() {
            return Ok(false);
        }
        if self.is_ours(name) {
            let node = netns::open(&Netns::Name(name.to_owned()))?;
            netns::in_netns(&node, || take_down(&instance))??;
            return Ok(true);
        }
        let is_lost =
            self.has_applied(&instance)? && matches!(instance.whereabouts()?, Whereabouts::Gone);
        if is_lost {
            // Links went with their namespace; what is left is pins and state.
            netns::in_new_netns(|| take_down(&instance))??;
        }
        Ok(is_lost)
    }

    /// Tells whether a node was made what this file says. Its state remembers that when no
    /// namespace is left to carry the mark.
    fn has_applied(&self, instance: &Instance) -> Result<bool, Failure> {
        let mut system = instance.system()?;
        let applied = system.state().config().map(Path::canonicalize);
        Ok(applied.is_some_and(|applied| applied.is_ok_and(|applied| applied == self.file)))
    }

    /// Makes a namespace, or takes the one that this lab made before.
    fn create(&self, name: &str) -> Result<(), Failure> {
        match named::create(name, &self.id) {
            Err(error) if error.is_exists() && self.is_ours(name) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Deletes a namespace if this lab made it, or a name that has none.
    fn delete(&self, name: &str) -> Result<(), Failure> {
        if self.is_ours(name) || named::is_dead(name) {
            Ok(named::delete(name, &self.id)?)
        } else {
            Ok(())
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        named::lab_of(name).is_ok_and(|lab| lab.as_deref() == Some(self.id.as_str()))
    }

    /// Lists the namespaces that this lab made and that are there.
    fn members(&self) -> Result<Vec<String>, Failure> {
        let names = named::list()?.into_iter();
        Ok(names.filter(|name| self.is_ours(name)).collect())
    }

    fn segment(&self) -> String {
        format!("segment-{}", self.id)
    }

    /// Lists the namespaces of nodes and endpoints by name.
    fn namespaces(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        for topology in &self.nodes {
            names.insert(topology.node.as_str());
            for endpoint in &topology.endpoints {
                if let Netns::Name(name) = &endpoint.netns {
                    names.insert(name);
                }
            }
        }
        names
    }
}

fn topologies(
    config: &Config,
    source: &Source,
    only: Option<&str>,
) -> Result<Vec<Topology>, Failure> {
    let names = config.nodes.iter().map(|node| node.name.get_ref().as_str());
    let wanted: Vec<&str> = match only {
        Some(only) => vec![only],
        None => names.collect(),
    };
    let resolver = Resolver::new(config);
    let resolve = |node: &str| {
        let resolved = resolver.resolve(Some(node), None);
        resolved.map_err(|errors| Failure::from(Report::new(source, &errors)))
    };
    wanted.into_iter().map(resolve).collect()
}
