//! Where the pins of a node lie.
//!
//! ```text
//! <bpffs>/ciliate/<node>/v<schema>/maps/<MAP>
//!                                  programs/<digest>/<program>     CALL lies beside them
//!                                  links/<cilium_host hook>
//! ```

use std::path::{Path, PathBuf};

use datapath::abi::SCHEMA;

use crate::plan::object::Hook;

/// Knows the pins of one node.
#[derive(Clone, Debug)]
pub struct Pins {
    ours: PathBuf,
    node: PathBuf,
    root: PathBuf,
}

impl Pins {
    /// Names the pins of a node below a BPF file system.
    pub fn new(bpffs: &Path, node: &str) -> Self {
        let ours = bpffs.join("ciliate");
        let node = ours.join(node);
        let root = node.join(format!("v{SCHEMA}"));
        Self { ours, node, root }
    }

    /// Returns the folder of this layout's pins.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folders that hold `root`, innermost first; each goes when it is empty.
    pub fn parents(&self) -> [&Path; 2] {
        [&self.node, &self.ours]
    }

    /// Tells whether no other node has pins beside this one's.
    pub fn are_alone(&self) -> bool {
        let Ok(nodes) = std::fs::read_dir(&self.ours) else {
            return true;
        };
        nodes
            .filter_map(Result::ok)
            .all(|entry| entry.path() == self.node)
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// Returns the folder of the programs of one object.
    pub fn object(&self, digest: &str) -> PathBuf {
        self.programs().join(digest)
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Returns the pin of the tcx link of a hook of `cilium_host`.
    pub fn link(&self, hook: Hook) -> PathBuf {
        self.links().join(match hook {
            Hook::Ingress => "cilium_host_ingress",
            Hook::Egress => "cilium_host_egress",
        })
    }
}
