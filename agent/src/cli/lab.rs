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
use std::path::Path;

use sha2::{Digest, Sha256};

use super::apply::{bring_up, take_down};
use super::args::Common;
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance};
use crate::config::{Config, Report, Source};
use crate::host::{named, netns, segment};
use crate::plan::object::Netns;
use crate::topology::{Topology, resolve};

/// Makes the nodes of a file. Returns the exit code.
///
/// # Errors
/// If the file is wrong, a name is taken, or a node cannot be set up; what was made for the lab is
/// removed then.
pub fn up(
    common: &Common,
    file: &Path,
    only: Option<&str>,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let lab = Lab::load(file, only)?;
    if let Err(failure) = lab.up(common, file, out) {
        // The reason why it failed is what counts; what is left is found by `lab down`.
        drop(lab.down(common));
        return Err(failure);
    }
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
    lab.down(common)?;
    for node in &lab.nodes {
        writeln!(out, "node {} is gone", node.node)?;
    }
    Ok(exit::OK)
}

/// Is the part of a file that is made or removed.
struct Lab {
    /// Marks the namespaces; the same for the same file.
    id: String,
    nodes: Vec<Topology>,
    /// Whether nodes of the file are left out.
    is_partial: bool,
}

impl Lab {
    fn load(file: &Path, only: Option<&str>) -> Result<Self, Failure> {
        let (config, source) = instance::load(file)?;
        let nodes = topologies(&config, &source, only)?;
        let path = file.canonicalize()?;
        let digest = hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        let is_partial = nodes.len() < config.nodes.len();
        Ok(Self {
            id: digest[..8].to_owned(),
            nodes,
            is_partial,
        })
    }

    fn up(&self, common: &Common, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
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
                .filter_map(|peer| peer.address)
                .collect();
            segment::join(&bridge, &node, &topology.node, topology.address, &peers)?;
            let report = netns::in_netns(&node, || bring_up(common, topology, file))??;
            write!(out, "{}", report.plan)?;
            writeln!(out, "node {} is up: ip netns exec {0} …", topology.node)?;
        }
        Ok(())
    }

    /// Removes as much as possible, and collects what was not.
    fn down(&self, common: &Common) -> Result<(), Failure> {
        let mut failures = Vec::new();
        let mut collect = |result: Result<(), Failure>| {
            if let Err(failure) = result {
                failures.push(failure.to_string());
            }
        };
        for topology in &self.nodes {
            collect(self.take_down_node(common, topology));
        }
        for name in self.namespaces() {
            collect(self.delete(name));
        }
        if !self.is_partial || !self.has_others() {
            collect(self.delete(&self.segment()));
        }
        named::remove_directory();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Failure::Several(failures))
        }
    }

    fn take_down_node(&self, common: &Common, topology: &Topology) -> Result<(), Failure> {
        let instance = Instance::new(common, &topology.node);
        if !self.is_ours(&topology.node) || !instance.exists() {
            return Ok(());
        }
        let node = netns::open(&Netns::Name(topology.node.clone()))?;
        netns::in_netns(&node, || take_down(&instance))??;
        Ok(())
    }

    /// Makes a namespace, or takes the one that this lab made before.
    fn create(&self, name: &str) -> Result<(), Failure> {
        match named::create(name, &self.id) {
            Err(error) if error.is_exists() && self.is_ours(name) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Deletes a namespace if this lab made it.
    fn delete(&self, name: &str) -> Result<(), Failure> {
        if self.is_ours(name) {
            Ok(named::delete(name, &self.id)?)
        } else {
            Ok(())
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        named::lab_of(name).is_ok_and(|lab| lab.as_deref() == Some(self.id.as_str()))
    }

    /// Tells whether another namespace of this lab is left besides the segment.
    fn has_others(&self) -> bool {
        let names = named::list().unwrap_or_default();
        names
            .iter()
            .any(|name| *name != self.segment() && self.is_ours(name))
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
    let resolve = |node: &str| {
        let resolved = resolve(config, Some(node), None);
        resolved.map_err(|errors| Failure::from(Report::new(source, &errors)))
    };
    wanted.into_iter().map(resolve).collect()
}
