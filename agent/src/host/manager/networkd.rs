//! systemd-networkd: which of our links it would configure, and whether it removes what it did not
//! make (`systemd.network(5)`, `networkd.conf(5)`).
//!
//! The first file in the order of names whose `[Match]` fits a link is the one that counts for it;
//! a link that none fits is left alone. Since version 248 networkd removes, whenever it starts, the
//! routes and rules of others, unless it is told not to.

use std::path::{Path, PathBuf};

use super::folder;
use super::ini::{Entry, entries, is_on};
use super::pattern::matches;

/// Keys of `[Match]` that our links do not have.
const OF_HARDWARE: [&str; 6] = [
    "MACAddress",
    "PermanentMACAddress",
    "Path",
    "WLANInterfaceType",
    "SSID",
    "BSSID",
];

/// Says what networkd would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networkd {
    /// A link that it would configure, with the file that says so.
    pub configures: Option<(String, PathBuf)>,
    /// Whether it removes routes of others when it starts.
    pub removes_routes: bool,
}

/// Tells whether networkd runs, or is started at boot.
pub fn is_used(root: &Path) -> bool {
    super::is_used(root, "run/systemd/netif", "systemd-networkd.service")
}

/// Reads what networkd would do to these links; `None` if it is not used here.
pub fn read(root: &Path, links: &[String]) -> Option<Networkd> {
    if !is_used(root) {
        return None;
    }
    let files = folder::files(root, "systemd/network", "network");
    let files: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|path| (path.clone(), folder::text(&path)))
        .collect();
    let configures = links.iter().find_map(|link| {
        let (path, text) = files.iter().find(|(_, text)| fits(&entries(text), link))?;
        (!leaves_alone(&entries(text))).then(|| (link.clone(), path.clone()))
    });
    Some(Networkd {
        configures,
        removes_routes: removes_routes(root),
    })
}

/// Tells whether the `[Match]` of a file fits a link that is a veth; conditions on the machine are
/// taken to hold.
fn fits(entries: &[Entry<'_>], link: &str) -> bool {
    let mut conditions = entries.iter().filter(|entry| entry.section == "Match");
    conditions.all(|condition| match condition.key {
        "Name" => any(condition.value, link),
        "Type" => any(condition.value, "ether"),
        "Kind" | "Driver" => any(condition.value, "veth"),
        key => !OF_HARDWARE.contains(&key),
    })
}

fn any(patterns: &str, name: &str) -> bool {
    let (patterns, inverted) = match patterns.strip_prefix('!') {
        Some(patterns) => (patterns, true),
        None => (patterns, false),
    };
    let mut patterns = patterns.split_whitespace();
    patterns.any(|pattern| matches(pattern, name)) != inverted
}

fn leaves_alone(entries: &[Entry<'_>]) -> bool {
    let mut of_link = entries.iter().rev();
    let last = of_link.find(|entry| (entry.section, entry.key) == ("Link", "Unmanaged"));
    last.is_some_and(|entry| is_on(entry.value))
}

fn removes_routes(root: &Path) -> bool {
    let mut files = vec![root.join("etc/systemd/networkd.conf")];
    files.extend(folder::files(root, "systemd/networkd.conf.d", "conf"));
    let mut removes = true;
    for file in files {
        for entry in entries(&folder::text(&file)) {
            if (entry.section, entry.key) == ("Network", "ManageForeignRoutes") {
                removes = is_on(entry.value);
            }
        }
    }
    removes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str, link: &str) -> (bool, bool) {
        let entries = entries(text);
        (fits(&entries, link), leaves_alone(&entries))
    }

    #[test]
    fn our_own_file_leaves_our_links_alone() {
        let ours = include_str!("../../../../image/systemd/network/10-ciliate.network");

        for link in ["lxcweb", "cilium_host", "cilium_net"] {
            assert_eq!(network(ours, link), (true, true), "{link}");
        }
        assert!(!network(ours, "eth0").0);
    }

    #[test]
    fn file_fits_a_link_by_all_of_its_conditions() {
        for (text, expected) in [
            ("[Match]\nName=*\n", true),
            ("[Match]\nType=ether\nName=en* eth*\n", false),
            ("[Match]\nName=!lo\n", true),
            ("[Match]\nName=!lxc* lo\n", false),
            ("[Match]\nKind=veth\n", true),
            ("[Match]\nType=wlan\n", false),
            ("[Match]\nMACAddress=02:00:00:00:00:01\n", false),
            ("[Network]\nDHCP=yes\n", true),
        ] {
            assert_eq!(network(text, "lxcweb").0, expected, "{text}");
        }
    }
}
