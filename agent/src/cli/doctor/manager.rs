//! What other managers of this machine's network will do to our links and routes.

use std::path::Path;

use crate::host::manager::sysctl_d::{self, Setting};
use crate::host::manager::{network_manager, networkd};
use crate::host::{HOST_LINK, NET_LINK};
use crate::plan::warning::Warning;
use crate::topology::Topology;

/// Writes the files that tell other managers to leave us alone.
const FIX: &str = "ciliate doctor --fix";

/// Where an assignment is made that comes after those of packages.
const OVERRIDE: &str = "/etc/sysctl.d/99-zz-forwarding.conf";

/// Lists what the files below `root` will do.
pub(super) fn findings(root: &Path, topology: &Topology) -> Vec<Warning> {
    let links = links(topology);
    let mut findings = Vec::new();
    if let Some(networkd) = networkd::read(root, &links) {
        if let Some((link, file)) = &networkd.configures {
            findings.push(networkd_configures(link, file));
        }
        if networkd.removes_routes {
            findings.push(networkd_removes_routes());
        }
    }
    findings.extend(network_manager::managed(root, &links).map(|link| unmanaged_missing(link)));
    findings.extend(sysctls(root, topology));
    findings
}

/// Returns the links that we make.
fn links(topology: &Topology) -> Vec<String> {
    let own = [HOST_LINK, NET_LINK].map(str::to_owned);
    let endpoints = topology.endpoints.iter();
    let endpoints = endpoints.map(|endpoint| endpoint.link.clone());
    endpoints.chain(own).collect()
}

fn fixable(code: &'static str, text: String, remedy: &str) -> Warning {
    Warning {
        commands: vec![FIX.to_owned()],
        ..Warning::new(code, text, remedy.to_owned())
    }
}

fn networkd_configures(link: &str, file: &Path) -> Warning {
    fixable(
        "CIL0308",
        format!(
            "systemd-networkd configures {link} as {} says: it may run DHCP there, and take our \
             addresses away",
            file.display()
        ),
        "have it leave our links alone",
    )
}

fn networkd_removes_routes() -> Warning {
    fixable(
        "CIL0309",
        "systemd-networkd removes the routes of others whenever it starts".to_owned(),
        "tell it to keep them (ManageForeignRoutes=no)",
    )
}

fn unmanaged_missing(link: &str) -> Warning {
    fixable(
        "CIL0310",
        format!("NetworkManager is not told to leave {link} alone: it may run DHCP there"),
        "add our links to its `unmanaged-devices`",
    )
}

/// Finds what is set otherwise than the node needs it whenever sysctls are set anew.
fn sysctls(root: &Path, topology: &Topology) -> Vec<Warning> {
    let settings = sysctl_d::read(root);
    let mut findings = Vec::new();
    for (path, wanted, is_ours) in wanted(topology) {
        if let Some(setting) = sysctl_d::find(&settings, &path)
            && setting.value != wanted
        {
            findings.push(other_sysctl(&path, wanted, is_ours, setting));
        }
    }
    findings
}

/// Lists sysctls with what they must be, and whether they are of links that we make.
fn wanted(topology: &Topology) -> Vec<(String, &'static str, bool)> {
    let mut wanted = Vec::new();
    if topology.ipv4.is_some() {
        // Of these each is copied to all links when it is written.
        for path in ["ip_forward", "conf/all/forwarding"] {
            wanted.push((format!("net/ipv4/{path}"), "1", false));
        }
        for device in &topology.devices {
            let path = format!("net/ipv4/conf/{}/forwarding", device.name);
            wanted.push((path, "1", false));
        }
        for link in [HOST_LINK, NET_LINK] {
            for (name, value) in [("forwarding", "1"), ("rp_filter", "0")] {
                wanted.push((format!("net/ipv4/conf/{link}/{name}"), value, true));
            }
        }
    }
    if topology.ipv6.is_some() {
        wanted.push(("net/ipv6/conf/all/forwarding".to_owned(), "1", false));
    }
    wanted
}

fn other_sysctl(path: &str, wanted: &str, is_ours: bool, setting: &Setting) -> Warning {
    let Setting { value, file, .. } = setting;
    let key = path.replace('/', ".");
    let text = format!(
        "{} sets {key} = {value} at boot and by `sysctl --system`; the node needs {wanted}",
        file.display()
    );
    if is_ours {
        return fixable("CIL0311", text, "have it set what we set");
    }
    let command = if file.starts_with("/etc") {
        let pattern = path.replace('/', "[./]");
        format!(r"sed -i '\|^-\?{pattern} *=|d' {}", file.display())
    } else {
        format!("echo '{key} = {wanted}' >>{OVERRIDE}")
    };
    Warning {
        commands: vec![command],
        ..Warning::new("CIL0311", text, "take that back".to_owned())
    }
}
