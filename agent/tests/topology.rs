//! From a file to one node: what is chosen, and what an edit leaves alone.

use std::collections::BTreeSet;

use ciliate::config::{Config, Kind};
use ciliate::plan::object::{Mac, Netns};
use ciliate::topology::{Endpoint, HostRouting, Topology, resolve};
use proptest::prelude::*;

const LAB: &str = r#"
[[node]]
name = "edge-1"
address = "192.0.2.10"
ipv4 = "10.0.1.0/24"
ipv6 = "fd00:1::/64"

[[node]]
name = "edge-2"
ipv4 = "10.0.2.0/24"
mtu = 9000

[[endpoint]]
node = "edge-1"
name = "web"
ipv4 = "10.0.1.2"
labels = { app = "web", tier = "front" }

[[endpoint]]
node = "edge-2"
name = "web-2"
netns = 4711
labels = { tier = "front", app = "web" }

[[endpoint]]
node = "edge-1"
name = "db"
netns = "/run/netns/database"

[routing]
host_routing = "bpf"
"#;

fn config(text: &str) -> Config {
    Config::parse("lab.toml", text).expect("a good file")
}

fn node(text: &str, name: &str) -> Topology {
    resolve(&config(text), Some(name), None).expect("the node is in the file")
}

fn message(config: &Config, node: Option<&str>, hostname: Option<&str>) -> String {
    let errors = resolve(config, node, hostname).expect_err("no such node");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind, Kind::NodeChoice);
    format!(
        "{}; {}",
        errors[0].message,
        errors[0].help.clone().unwrap_or_default()
    )
}

#[test]
fn a_node_has_its_routers_its_endpoints_and_its_peers() {
    let topology = node(LAB, "edge-1");

    assert_eq!(
        topology.addresses,
        ["192.0.2.10"
            .parse::<std::net::IpAddr>()
            .expect("an address")]
    );
    assert_eq!(topology.router4, "10.0.1.1".parse().ok());
    assert_eq!(topology.router6, "fd00:1::1".parse().ok());
    assert_eq!(topology.mtu, 1500);
    assert_eq!(topology.host_routing, HostRouting::Bpf);
    assert_ne!(topology.host_mac, topology.net_mac);
    let names: Vec<_> = topology
        .endpoints
        .iter()
        .map(|endpoint| endpoint.name.as_str())
        .collect();
    assert_eq!(names, ["web", "db"]);
    assert_eq!(topology.peers.len(), 1);
    assert_eq!(topology.peers[0].name, "edge-2");
    assert_eq!(topology.peers[0].ipv4, "10.0.2.0/24".parse().ok());
}

#[test]
fn an_endpoint_without_an_address_gets_the_lowest_free_one_of_each_family() {
    let topology = node(LAB, "edge-1");

    let [web, db] = topology.endpoints.as_slice() else {
        panic!("two endpoints");
    };
    assert_eq!(web.ipv4, "10.0.1.2".parse().ok());
    assert_eq!(db.ipv4, "10.0.1.3".parse().ok());
    assert_eq!(web.ipv6, "fd00:1::2".parse().ok());
    assert_eq!(db.ipv6, "fd00:1::3".parse().ok());
}

#[test]
fn a_node_without_ipv6_gives_none() {
    let topology = node(LAB, "edge-2");

    assert_eq!(topology.router6, None);
    assert_eq!(topology.endpoints[0].ipv6, None);
    assert_eq!(topology.mtu, 9000);
}

#[test]
fn namespaces_are_names_paths_or_pids() {
    let edge_1 = node(LAB, "edge-1");

    assert_eq!(
        edge_1.endpoints[0].netns,
        Netns::Name("web".to_owned()),
        "the default is the name"
    );
    assert_eq!(
        edge_1.endpoints[1].netns,
        Netns::Path("/run/netns/database".into())
    );
    assert_eq!(node(LAB, "edge-2").endpoints[0].netns, Netns::Pid(4711));
}

#[test]
fn endpoints_know_where_they_are_defined() {
    assert_eq!(node(LAB, "edge-1").endpoints[1].place, "lab.toml:27:8");
}

#[test]
fn equal_labels_share_an_identity_across_nodes() {
    let (one, two) = (node(LAB, "edge-1"), node(LAB, "edge-2"));

    assert_eq!(one.endpoints[0].identity, two.endpoints[0].identity);
    assert_ne!(one.endpoints[0].identity, one.endpoints[1].identity);
}

#[test]
fn the_given_node_comes_before_the_only_one_and_the_hosts_name() {
    let config = config(LAB);

    let chosen = |node, host| resolve(&config, node, host).map(|topology| topology.node);

    assert_eq!(
        chosen(Some("edge-2"), Some("edge-1")),
        Ok("edge-2".to_owned())
    );
    assert_eq!(chosen(None, Some("edge-1")), Ok("edge-1".to_owned()));
    assert_eq!(
        chosen(None, Some("Edge-2.example.org")),
        Ok("edge-2".to_owned())
    );
}

#[test]
fn the_only_node_needs_no_name() {
    let config = config("[[node]]\nname = \"edge-1\"\n");

    let topology = resolve(&config, None, Some("something-else")).expect("one node");

    assert_eq!(topology.node, "edge-1");
}

#[test]
fn a_node_that_cannot_be_told_is_an_error_that_lists_them() {
    let config = config(LAB);

    assert_eq!(
        message(&config, None, Some("attic")),
        "the file has several nodes, and none has this machine's name `attic`; \
         choose one with --node: edge-1, edge-2"
    );
    assert_eq!(
        message(&config, None, None),
        "the file has several nodes; choose one with --node: edge-1, edge-2"
    );
    assert_eq!(
        message(&config, Some("attic"), Some("edge-1")),
        "the file has no node `attic`, which --node asks for; \
         choose one with --node: edge-1, edge-2"
    );
}

const OUTSIDE: &str = r#"
[[node]]
name = "edge-1"
address = ["192.0.2.10", "2001:db8::10"]
ipv4 = "10.0.1.0/24"

[[node]]
name = "edge-2"
address = ["192.0.2.11", "2001:db8::11"]
ipv4 = "10.0.2.0/24"
ipv6 = "fd00:2::/64"

[[device]]
node = "edge-1"
name = "eth0"
masquerade = true
masquerade_address = "2001:db8::99"

[[device]]
node = "edge-2"
name = "eth1"

[[endpoint]]
node = "edge-1"
name = "web"
labels = { app = "web" }

[[endpoint]]
node = "edge-2"
name = "web-2"
labels = { app = "web" }

[masquerade]
exclude = ["192.0.2.0/24"]
ports = "50000-60000"
"#;

#[test]
fn a_device_belongs_to_its_node_and_has_an_address_of_its_own_where_it_asks_for_one() {
    let (one, two) = (node(OUTSIDE, "edge-1"), node(OUTSIDE, "edge-2"));

    assert_eq!(one.devices.len(), 1);
    assert!(one.devices[0].masquerade);
    assert_eq!(one.devices[0].masquerade4, None, "the device's own");
    assert_eq!(one.devices[0].masquerade6, "2001:db8::99".parse().ok());
    assert_eq!(two.devices[0].name, "eth1");
    assert_eq!(two.peers[0].addresses, one.addresses);
}

#[test]
fn a_node_without_a_device_that_masquerades_does_not_translate() {
    let ports = |name| {
        node(OUTSIDE, name)
            .masquerade
            .map(|masquerade| masquerade.ports)
    };

    assert_eq!(ports("edge-1"), Some((50_000, 60_000)));
    assert_eq!(ports("edge-2"), None);
}

#[test]
fn peers_and_their_endpoints_are_known_by_their_addresses() {
    let one = node(OUTSIDE, "edge-1");
    let known = |prefix: &str| {
        let prefix = one.policy.tables.prefixes[&prefix.parse().expect("a prefix")];
        (prefix.identity, prefix.excluded)
    };

    let web = one.endpoints[0].identity;
    assert_eq!(known("10.0.2.2/32"), (web, true), "the same labels");
    assert_eq!(known("fd00:2::2/128"), (web, true));
    assert_eq!(known("10.0.1.0/24"), (9, true), "its own pool");
    assert_eq!(known("192.0.2.0/24"), (9, true), "excluded");
    assert_eq!(known("192.0.2.11/32"), (6, true), "a peer");
    assert_eq!(known("192.0.2.10/32"), (1, true), "itself, excluded");
    assert_eq!(known("2001:db8::10/128"), (1, false), "itself");
    assert_eq!(known("0.0.0.0/0"), (9, false), "the rest of the world");
    assert_eq!(known("::/0"), (10, false));
    assert_eq!(one.policy.tables.prefixes.len(), 12);
}

#[test]
fn tables_of_bindings_hold_two_entries_for_each_port() {
    let bindings = |ports: &str, more: &str| {
        let text = OUTSIDE.replace("50000-60000", ports) + more;
        node(&text, "edge-1").bindings()
    };

    assert_eq!(bindings("50000-60000", ""), 32_768, "the least");
    assert_eq!(bindings("1024-30000", ""), 2 * 28_977);
    assert_eq!(bindings("1024-30000", "[maps]\nbindings = 1024"), 1024);
}

/// Is an endpoint of a generated file: name, node, label.
type Sketch = (String, bool, Option<u8>);

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let name = "e[a-z0-9]{1,20}";
    let sketch = (name, any::<bool>(), proptest::option::of(0..4_u8));
    proptest::collection::vec(sketch, 1..25).prop_map(|mut sketches| {
        let mut seen = BTreeSet::new();
        sketches.retain(|(name, _, _)| seen.insert(name.clone()));
        sketches
    })
}

fn file(sketches: &[Sketch]) -> String {
    use std::fmt::Write as _;
    let mut text = "[[node]]\nname = \"node-1\"\nipv4 = \"10.0.1.0/24\"\nipv6 = \"fd00:1::/64\"\n\
                    [[node]]\nname = \"node-2\"\nipv4 = \"10.0.2.0/24\"\n"
        .to_owned();
    for (name, first, label) in sketches {
        let node = if *first { "node-1" } else { "node-2" };
        writeln!(text, "[[endpoint]]\nnode = \"{node}\"\nname = \"{name}\"").expect("a string");
        if let Some(label) = label {
            writeln!(text, "labels = {{ app = \"{label}\" }}").expect("a string");
        }
    }
    text
}

fn endpoints(sketches: &[Sketch]) -> Vec<Endpoint> {
    let text = file(sketches);
    let nodes = ["node-1", "node-2"].into_iter();
    nodes.flat_map(|name| node(&text, name).endpoints).collect()
}

/// Returns what must not depend on other endpoints.
fn lasting(endpoint: &Endpoint) -> (u32, String, Mac, Mac) {
    (
        endpoint.identity,
        endpoint.link.clone(),
        endpoint.mac,
        endpoint.lxc_mac,
    )
}

proptest! {
    #[test]
    fn a_new_endpoint_changes_no_identity_link_or_address_of_another(
        sketches in sketches(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut fewer = sketches.clone();
        fewer.remove(at.index(sketches.len()));

        let after = endpoints(&sketches);

        // Two label sets may want one number; who yields is decided over the whole file.
        let alone = |sketch: &Sketch| endpoints(std::slice::from_ref(sketch))[0].identity;
        for (sketch, identity) in sketches.iter().map(|sketch| (sketch, alone(sketch))) {
            let of_file = after.iter().find(|endpoint| endpoint.name == sketch.0);
            prop_assume!(of_file.map(|endpoint| endpoint.identity) == Some(identity));
        }
        for before in endpoints(&fewer) {
            let same = after.iter().find(|endpoint| endpoint.name == before.name);
            prop_assert_eq!(same.map(lasting), Some(lasting(&before)));
        }
    }

    #[test]
    fn the_order_of_the_file_changes_addresses_only(sketches in sketches()) {
        let mut reversed = sketches.clone();
        reversed.reverse();

        let mut one = endpoints(&sketches);
        let mut other = endpoints(&reversed);

        one.sort_by(|a, b| a.name.cmp(&b.name));
        other.sort_by(|a, b| a.name.cmp(&b.name));
        for (one, other) in one.iter().zip(&other) {
            prop_assert_eq!((one.id, lasting(one)), (other.id, lasting(other)));
        }
    }

    #[test]
    fn what_must_differ_differs(sketches in sketches()) {
        let text = file(&sketches);

        for name in ["node-1", "node-2"] {
            let topology = node(&text, name);
            let all = &topology.endpoints;
            let ids: BTreeSet<_> = all.iter().map(|endpoint| endpoint.id).collect();
            let links: BTreeSet<_> = all.iter().map(|endpoint| &endpoint.link).collect();
            let macs: BTreeSet<_> = all.iter().flat_map(|e| [e.mac, e.lxc_mac]).collect();
            let v4: BTreeSet<_> = all.iter().filter_map(|endpoint| endpoint.ipv4).collect();

            prop_assert_eq!(ids.len(), all.len());
            prop_assert!(ids.iter().all(|id| *id >= 2 && u32::from(*id) < topology.endpoint_slots()));
            prop_assert_eq!(links.len(), all.len());
            prop_assert_eq!(macs.len(), 2 * all.len());
            prop_assert_eq!(v4.len(), all.len());
            prop_assert!(v4.iter().all(|address| Some(*address) > topology.router4));
        }
    }
}
