//! Where the pins of a node lie.
//!
//! ```text
//! <bpffs>/ciliate/<node>/v<schema>/maps/<MAP>
//!                                  programs/<digest>/<program>     CALL lies beside them
//!                                  links/<device>_<hook>
//! ```

use std::collections::BTreeSet;
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
        let node = ours.join(file_name(node));
        let root = node.join(format!("v{SCHEMA}"));
        Self { ours, node, root }
    }

    /// Lists the nodes that have pins below a BPF file system.
    pub fn nodes(bpffs: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(bpffs.join("ciliate"));
        let entries = entries.into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.map(|name| name_of(&name)).collect()
    }

    /// Tells whether the node has pins, of whatever layout.
    pub fn exist(&self) -> bool {
        self.node.is_dir()
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

    /// Returns the pin of the tcx link of a hook of this device, `cilium_host` included.
    pub fn link(&self, device: &str, hook: Hook) -> PathBuf {
        self.links()
            .join(format!("{}{}", file_name(device), suffix(hook)))
    }

    /// Lists the devices that have pinned tcx links, `cilium_host` included.
    pub fn linked(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.links()).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| {
                let mut hooks = [Hook::Ingress, Hook::Egress].into_iter();
                hooks.find_map(|hook| Some(name_of(name.strip_suffix(suffix(hook))?)))
            })
            .collect()
    }
}

/// Returns what a node or a device is called below a BPF file system, which reserves dots. No
/// name has a colon.
fn file_name(name: &str) -> String {
    name.replace('.', ":")
}

/// Returns the name of the node or device that a file stands for.
fn name_of(file_name: &str) -> String {
    file_name.replace(':', ".")
}

fn suffix(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "_ingress",
        Hook::Egress => "_egress",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_the_pins_of_their_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let pins = Pins::new(folder.path(), "edge-1");
        assert!(pins.linked().is_empty(), "no folder is no link");
        std::fs::create_dir_all(pins.links()).expect("create folder");
        for (device, hook) in [("eth0", Hook::Egress), ("bond0.100", Hook::Ingress)] {
            std::fs::write(pins.link(device, hook), "").expect("write");
        }

        let pin = pins.link("bond0.100", Hook::Ingress);
        assert!(
            pin.ends_with("links/bond0:100_ingress"),
            "{}",
            pin.display()
        );
        assert_eq!(
            pins.linked(),
            BTreeSet::from(["bond0.100".to_owned(), "eth0".to_owned()])
        );
    }
}
