//! `ciliate init`: a commented file for the machine that it runs on, which passes `check`.

use std::io::{self, Write};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::exit;
use super::machine::Machine;
use crate::config;
use crate::config::family::{Family, nth};
use crate::config::name::sanitize;

/// Prints a file for this machine; returns the exit code.
///
/// # Errors
/// If the machine's addresses cannot be read, or `out` cannot be written.
pub fn init(out: &mut dyn Write) -> io::Result<u8> {
    out.write_all(file(&Machine::read()?).as_bytes())?;
    Ok(exit::OK)
}

/// Returns a file for a machine.
pub fn file(machine: &Machine) -> String {
    let name = sanitize(&machine.hostname);
    let ipv4 = free(machine, candidates4().map(IpNet::V4));
    let ipv6 = free(machine, candidates6().map(IpNet::V6));
    // An IPv6 prefix switches forwarding on for the whole machine: not without being asked.
    let has_ipv6 = machine
        .addresses
        .iter()
        .any(|net| is_global(net.addr()) && net.addr().is_ipv6());
    let address = match outside_address(machine) {
        Some(address) => format!("address = \"{address}\""),
        None => "# address = \"192.0.2.10\"".to_owned(),
    };
    let line = |prefix: Option<IpNet>, wanted: bool, key: &str| match prefix {
        Some(prefix) if wanted => format!("{key} = \"{prefix}\""),
        Some(prefix) => format!("# {key} = \"{prefix}\""),
        None => format!("# {key} = \"…\"   # every usual private prefix is in use here"),
    };
    let device = device(machine);
    let example = ipv4.and_then(|prefix| nth(prefix, 10));
    let example = example.map_or("10.0.1.10".to_owned(), |address| address.to_string());
    format!(
        r#"# ciliate: the network of this machine. Check an edit with `ciliate check`. Files in conf.d beside
# this one are merged into it; a running agent takes edits of all of them by itself.

# One file may describe several nodes; the agent plays the one that --node names, else the only
# one, else the one that has the machine's name. Every other node is a peer.
[[node]]
name = "{name}"

# Where other nodes reach this one.
{address}

# Addresses of its endpoints. The first one is the router's. Give one prefix or both; no two
# nodes may overlap. An IPv6 prefix switches IPv6 forwarding on for the whole machine.
{line4}
{line6}

# MTU of the links of endpoints, in bytes.
# mtu = 1500

# Links that face the outside. What endpoints send through one that masquerades gets its address.
# The port of a bond or a bridge is not one: name the bond or the bridge.
{device}

# An endpoint is a network namespace that the agent connects. `ip netns add web` makes one.
# [[endpoint]]
# name = "web"
# netns = "web"              # a name below /run/netns, a path, or a pid; by default the name
# ipv4 = "{example}"         # by default the lowest free address, which `ciliate plan` shows
# labels = {{ app = "web" }}

# [[endpoint]]
# name = "db"
# labels = {{ app = "db" }}

# How packets get from one link to the other: "bpf" skips the host's stack, "legacy" goes through
# it. "auto" is "bpf", unless that would bypass a firewall or a routing policy of this machine.
[routing]
host_routing = "auto"
# endpoint_routes = true     # a kernel route to each endpoint, for tools that look at the table

# Destinations that see the addresses of endpoints as they are. Other nodes of the file always do.
# [masquerade]
# exclude = ["10.0.0.0/8", "fd00::/8"]
# ports = "49152-65535"      # kept from the machine's own connections

# Who may open a connection to whom. In a direction of which a rule speaks, its endpoints are closed
# to everybody else. `ciliate policy test` says what would become of a connection.
# [policy]
# audit = true               # deny nothing, and count what would be denied

# [[policy.rule]]
# description = "web is reachable, and reaches only its database"
# endpoints = {{ app = "web" }}
# ingress = [{{ from = "world", ports = ["tcp/80", "tcp/443"] }}]
# egress = [{{ to = {{ app = "db" }}, ports = "tcp/5432" }}]

# What others may do with this machine itself: only audited, until `host` of [policy] is "enforce".
# [[policy.rule]]
# host = true
# ingress = [{{ from = ["world", "cluster"], ports = ["tcp/22", "icmp", "icmpv6"] }}]
"#,
        line4 = line(ipv4, true, Family::V4.key()),
        line6 = line(ipv6, has_ipv6, Family::V6.key()),
    )
}

/// Says that the agent can configure the device.
const DHCP: &str = "# dhcp = true                    # ask a server for its address; else somebody else gives it one";

/// Returns the table of the device through which the machine reaches the outside.
fn device(machine: &Machine) -> String {
    let usable = |name: &&String| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
            && config::is_device_name(name)
    };
    match machine.device.as_ref().filter(usable) {
        Some(name) => format!("[[device]]\nname = \"{name}\"\nmasquerade = true\n{DHCP}"),
        None => "# [[device]]\n# name = \"eth0\"\n# masquerade = true".to_owned(),
    }
}

/// Returns the address under which others are most likely to reach the machine.
fn outside_address(machine: &Machine) -> Option<IpAddr> {
    let global = || {
        machine
            .addresses
            .iter()
            .map(IpNet::addr)
            .filter(|ip| is_global(*ip))
    };
    global().find(IpAddr::is_ipv4).or_else(|| global().next())
}

fn is_global(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Returns the first candidate that touches no address and no route but default ones.
fn free(machine: &Machine, candidates: impl IntoIterator<Item = IpNet>) -> Option<IpNet> {
    let used = || {
        machine
            .addresses
            .iter()
            .chain(&machine.routes)
            .filter(|net| net.prefix_len() > 0)
    };
    candidates
        .into_iter()
        .find(|candidate| !used().any(|net| net.contains(candidate) || candidate.contains(net)))
}

/// Lists private networks (RFC 1918), those first that few sites use.
fn candidates4() -> impl Iterator<Item = Ipv4Net> {
    let tens = (0..=255_u8).flat_map(|b| (1..=255_u8).map(move |c| [10, b, c, 0]));
    let others = (16..=31_u8).map(|b| [172, b, 1, 0]);
    let last = (1..=255_u8).map(|c| [192, 168, c, 0]);
    tens.chain(others)
        .chain(last)
        .map(|octets| Ipv4Net::new_assert(octets.into(), 24))
}

/// Lists unique local networks (RFC 4193).
fn candidates6() -> impl Iterator<Item = Ipv6Net> {
    (1..=0xffff_u16).map(|n| Ipv6Net::new_assert([0xfd00, n, 0, 0, 0, 0, 0, 0].into(), 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::topology::resolve;

    fn machine(hostname: &str, addresses: &[&str], routes: &[&str]) -> Machine {
        let nets = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().expect("a prefix"))
                .collect()
        };
        Machine {
            hostname: hostname.to_owned(),
            addresses: nets(addresses),
            routes: nets(routes),
            device: None,
        }
    }

    fn parsed(machine: &Machine) -> Config {
        Config::parse("init.toml", &file(machine)).expect("a good file")
    }

    #[test]
    fn a_usual_machine_gets_its_name_and_address() {
        let machine = machine(
            "Edge-7.example.org",
            &["127.0.0.1/8", "192.0.2.10/24"],
            &["0.0.0.0/0"],
        );

        let topology = resolve(&parsed(&machine), None, None).expect("one node");

        assert_eq!(topology.node, "edge-7.example.org");
        assert_eq!(
            topology.addresses,
            ["192.0.2.10".parse::<IpAddr>().expect("an address")]
        );
        assert_eq!(topology.ipv4, "10.0.1.0/24".parse().ok());
        assert_eq!(topology.ipv6, None, "the machine has no IPv6 outside");
    }

    #[test]
    fn prefixes_keep_clear_of_addresses_and_routes() {
        let machine = machine(
            "a",
            &["10.0.1.5/24", "fd00:1::5/64"],
            &["10.0.2.0/23", "fd00:2::/32", "::/0"],
        );

        let topology = resolve(&parsed(&machine), None, None).expect("one node");

        assert_eq!(topology.ipv4, "10.0.4.0/24".parse().ok());
        assert_eq!(topology.ipv6, "fd00:3::/64".parse().ok());
    }

    #[test]
    fn a_machine_without_room_or_address_still_gets_a_file() {
        let machine = machine("", &[], &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);

        assert_eq!(parsed(&machine).nodes[0].ipv4, None);
    }

    #[test]
    fn the_commented_lines_are_good_as_well() {
        let text = file(&machine("a", &["192.0.2.10/24"], &[]));
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();

        let config = Config::parse("init.toml", &uncommented).expect("a good file");

        assert_eq!(config.endpoints.len(), 2);
        assert_eq!(config.devices.len(), 1);
        assert_eq!(config.masquerade.exclude.len(), 2);
        assert_eq!(config.policy.rules.len(), 2);
        assert!(config.policy.audit);
        let topology = resolve(&config, None, None).expect("a good file");
        let tables = &topology.policy.tables;
        assert!(tables.subjects.values().any(|subject| subject.policy != 0));
    }

    #[test]
    fn nobody_has_a_policy_without_asking_for_one() {
        let config = parsed(&machine("a", &["192.0.2.10/24"], &[]));

        assert!(config.policy.rules.is_empty());
    }

    #[test]
    fn the_device_of_the_default_route_masquerades() {
        let mut machine = machine("a", &["192.0.2.10/24"], &["0.0.0.0/0"]);
        machine.device = Some("bond0.100".to_owned());

        let config = parsed(&machine);

        assert_eq!(config.devices[0].name.get_ref(), "bond0.100");
        assert!(config.devices[0].masquerade);
    }

    #[test]
    fn this_machine_gets_a_good_file() {
        parsed(&Machine::read().expect("addresses"));
    }

    proptest! {
        #[test]
        fn every_machine_gets_a_good_file(
            hostname in ".{0,70}",
            addresses in proptest::collection::vec((any::<IpAddr>(), 0..=32_u8), 0..5),
            routes in proptest::collection::vec((any::<IpAddr>(), 0..=32_u8), 0..5),
            device in proptest::option::of("(lxc|lo|[a-z\"\\\\. é/]{0,16})"),
        ) {
            let nets = |pairs: Vec<(IpAddr, u8)>| {
                pairs.into_iter().filter_map(|(ip, len)| IpNet::new(ip, len).ok()).collect()
            };
            let (addresses, routes) = (nets(addresses), nets(routes));
            let machine = Machine { hostname, addresses, routes, device };

            prop_assert!(Config::parse("init.toml", &file(&machine)).is_ok());
        }
    }
}
