//! `NetworkManager`: which of our links it has not been told to leave alone
//! (`NetworkManager.conf(5)`).

use std::path::{Path, PathBuf};

use super::folder;
use super::ini::{Entry, entries};
use super::pattern::matches;

/// Tells whether `NetworkManager` runs, or is started at boot.
pub fn is_used(root: &Path) -> bool {
    super::is_used(root, "run/NetworkManager", "NetworkManager.service")
}

/// Finds a link that `NetworkManager` would manage; `None` also if it is not used here.
pub fn managed<'a>(root: &Path, links: &'a [String]) -> Option<&'a String> {
    if !is_used(root) {
        return None;
    }
    let list = unmanaged(root);
    links.iter().find(|link| !is_left(&list, link))
}

/// Returns the list of devices to leave alone, of all files together.
fn unmanaged(root: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = folder::files(root, "NetworkManager/conf.d", "conf");
    files.insert(0, root.join("etc/NetworkManager/NetworkManager.conf"));
    let mut list = Vec::new();
    for file in files {
        for entry in entries(&folder::text(&file)) {
            take(&mut list, &entry);
        }
    }
    list
}

fn take(list: &mut Vec<String>, entry: &Entry<'_>) {
    if entry.section != "keyfile" {
        return;
    }
    let devices = entry.value.split([';', ',']).map(str::trim);
    let devices = devices
        .filter(|device| !device.is_empty())
        .map(str::to_owned);
    match entry.key {
        "unmanaged-devices" => *list = devices.collect(),
        "unmanaged-devices+" => list.extend(devices),
        _ => {}
    }
}

fn is_left(list: &[String], link: &str) -> bool {
    let fits = |device: &str| match device.split_once(':') {
        Some(("interface-name", name)) => match name.strip_prefix('=') {
            Some(name) => name == link,
            None => matches(name.trim_start_matches('~'), link),
        },
        Some(("driver" | "type", kind)) => matches(kind, "veth"),
        Some(_) => false,
        None => device == "*" || device == link,
    };
    let is_excepted = |device: &String| device.strip_prefix("except:").is_some_and(fits);
    list.iter().any(|device| fits(device)) && !list.iter().any(is_excepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        let mut list = Vec::new();
        for entry in entries(text) {
            take(&mut list, &entry);
        }
        list
    }

    #[test]
    fn our_own_file_leaves_our_links_alone() {
        let ours = include_str!("../../../../image/NetworkManager/conf.d/10-ciliate.conf");

        for link in ["lxcweb", "cilium_host", "cilium_net"] {
            assert!(is_left(&list(ours), link), "{link}");
        }
        assert!(!is_left(&list(ours), "eth0"));
    }

    #[test]
    fn list_grows_by_a_plus_and_has_exceptions() {
        let text = "[keyfile]\nunmanaged-devices=type:veth\nunmanaged-devices+=mac:02:00;except:interface-name:lxcdb\n";

        assert!(is_left(&list(text), "lxcweb"));
        assert!(!is_left(&list(text), "lxcdb"));
        assert!(!is_left(&list("[main]\nunmanaged-devices=*\n"), "lxcweb"));
    }
}
