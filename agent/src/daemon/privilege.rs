//! What the resident agent may still do after its start, and why.
//!
//! The agent keeps its user, root, for the pins and the files of its state belong to it; of root's
//! powers it keeps what its file needs. What was given up cannot be had again: a file that needs
//! more is refused, and a restart of the agent, which costs no packet, takes it.
//!
//! Nothing here is needed to write below `/proc/sys/net`, to read the file, or to open pins: their
//! owner may.

use std::path::Path;

use caps::{Capability, CapsHashSet};

use crate::plan::object::Netns;
use crate::topology::Topology;

/// Is a capability, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub capability: Capability,
    pub reason: String,
}

fn need(capability: Capability, reason: impl Into<String>) -> Need {
    Need {
        capability,
        reason: reason.into(),
    }
}

/// Lists what keeping a node needs.
pub fn needs(topology: &Topology) -> Vec<Need> {
    let mut needs = vec![
        need(
            Capability::CAP_NET_ADMIN,
            "repairs links, addresses, routes and filters",
        ),
        need(Capability::CAP_BPF, "loads programs and fills maps"),
        need(
            Capability::CAP_PERFMON,
            "loads programs without the guards that some kernels refuse them with",
        ),
    ];
    let endpoints = &topology.endpoints;
    if !endpoints.is_empty() {
        let names = endpoints.iter().map(|endpoint| endpoint.name.as_str());
        needs.push(need(
            Capability::CAP_SYS_ADMIN,
            format!("enters the network namespaces of {}", some(names)),
        ));
    }
    let leased = topology
        .devices
        .iter()
        .filter(|device| device.uplink.dhcp.is_some());
    let names: Vec<&str> = leased.map(|device| device.name.as_str()).collect();
    if !names.is_empty() {
        needs.push(need(
            Capability::CAP_NET_RAW,
            format!("asks DHCP servers by {}", some(names.into_iter())),
        ));
    }
    let of_processes = endpoints
        .iter()
        .filter(|endpoint| is_of_a_process(&endpoint.netns));
    let names: Vec<&str> = of_processes
        .map(|endpoint| endpoint.name.as_str())
        .collect();
    if !names.is_empty() {
        needs.push(need(
            Capability::CAP_SYS_PTRACE,
            format!(
                "finds the network namespaces of the processes of {}",
                some(names.into_iter())
            ),
        ));
    }
    needs
}

/// Returns the needs that are not met by what is held.
pub fn unmet(needs: Vec<Need>, held: &CapsHashSet) -> Vec<Need> {
    let mut unmet = needs;
    unmet.retain(|need| !held.contains(&need.capability));
    unmet
}

/// The kernel shows a process's namespace to those who may trace it.
fn is_of_a_process(netns: &Netns) -> bool {
    match netns {
        Netns::Pid(_) => true,
        Netns::Path(path) => path.starts_with(Path::new("/proc")),
        Netns::Name(_) => false,
    }
}

/// Names the first few.
fn some<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let first: Vec<&str> = names.by_ref().take(3).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::topology::Resolver;

    fn topology(endpoints: &str) -> Topology {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ciliate.toml");
        let node = "[[node]]\nname = \"edge\"\nipv4 = \"10.0.1.0/24\"\n";
        std::fs::write(&file, format!("{node}{endpoints}")).unwrap();
        let (config, _) = config::load(&file).unwrap();
        Resolver::new(&config).resolve(None, None).unwrap()
    }

    fn names(needs: &[Need]) -> Vec<String> {
        needs
            .iter()
            .map(|need| need.capability.to_string())
            .collect()
    }

    #[test]
    fn node_without_endpoints_enters_no_namespace() {
        let needs = needs(&topology(""));

        assert_eq!(names(&needs), ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]);
    }

    #[test]
    fn namespaces_are_entered_and_those_of_processes_are_looked_for() {
        let named = needs(&topology("[[endpoint]]\nname = \"web\"\n"));
        let of_a_process = needs(&topology("[[endpoint]]\nname = \"web\"\nnetns = 7\n"));

        assert_eq!(names(&named)[3..], ["CAP_SYS_ADMIN"]);
        assert_eq!(
            names(&of_a_process)[3..],
            ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]
        );
        assert_eq!(named[3].reason, "enters the network namespaces of web");
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(some(["a", "b", "c"].into_iter()), "a, b, c");
        assert_eq!(
            some(["a", "b", "c", "d", "e"].into_iter()),
            "a, b, c and 2 more"
        );
    }
}
