//! Where the pins of a node lie.
//!
//! ```text
//! <bpffs>/ciliate/<node>/v<schema>/maps/<MAP>
//!                                  programs/<digest>/<program>     CALL lies beside them
//!                        links/<device>_<hook>
//!                        former-v<schema>/                         what tables are taken over from
//!                        left-v<schema>/                           the same, once nothing works on it
//!                        abandoned/                                an exchange that was taken back
//! ```
//!
//! Links stay where they are whatever the layout of tables is: their programs are replaced in
//! place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use datapath::abi::SCHEMA;

use crate::plan::object::Hook;

/// How the folders of tables that others take the place of are called.
const IN_CHARGE: &str = "former-";
const LEFT: &str = "left-";

/// Describes tables that others take the place of.
#[derive(Clone, Debug)]
pub struct Former {
    pub pins: Pins,
    /// Number of their layout.
    pub layout: u32,
    /// Whether nothing works on them any more.
    pub is_left: bool,
}

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

    /// Returns the folder of everything that is the node's.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Returns the folder of all nodes, which goes when it is empty.
    pub fn parent(&self) -> &Path {
        &self.ours
    }

    /// Returns the tables that those of this layout take, or took, the place of.
    pub fn former(&self) -> Option<Former> {
        self.entries().into_iter().find_map(|name| {
            let is_left = name.starts_with(LEFT);
            let rest = name.strip_prefix(LEFT).or(name.strip_prefix(IN_CHARGE))?;
            Some(Former {
                pins: self.at(&name),
                layout: layout(rest)?,
                is_left,
            })
        })
    }

    /// Lists the layouts of the node's tables, whoever is in charge of them.
    pub fn layouts(&self) -> BTreeSet<u32> {
        let names = self.entries().into_iter();
        names
            .filter_map(|name| {
                let rest = name.strip_prefix(LEFT).or(name.strip_prefix(IN_CHARGE));
                layout(rest.unwrap_or(&name))
            })
            .collect()
    }

    /// Returns the tables of another layout that are in charge, and their layout.
    pub fn foreign(&self) -> Option<(Self, u32)> {
        let mut found = self.entries().into_iter();
        found.find_map(|name| {
            let layout = layout(&name).filter(|layout| *layout != SCHEMA)?;
            Some((self.at(&name), layout))
        })
    }

    /// Returns where tables of this layout lie while others take their place.
    pub fn in_charge(&self, layout: u32) -> PathBuf {
        self.node.join(format!("{IN_CHARGE}v{layout}"))
    }

    /// Returns where they lie then.
    pub fn left(&self, layout: u32) -> PathBuf {
        self.node.join(format!("{LEFT}v{layout}"))
    }

    /// Returns where tables lie that were to take the place of others, and did not.
    pub fn abandoned(&self) -> PathBuf {
        self.node.join("abandoned")
    }

    /// Returns where the tables of a layout belong.
    pub fn of_layout(&self, layout: u32) -> PathBuf {
        self.node.join(format!("v{layout}"))
    }

    fn at(&self, name: &str) -> Self {
        Self {
            root: self.node.join(name),
            ..self.clone()
        }
    }

    fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.node).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
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
        self.node.join("links")
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

/// Returns the layout that the name of a folder speaks of.
fn layout(name: &str) -> Option<u32> {
    name.strip_prefix('v')?.parse().ok()
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
