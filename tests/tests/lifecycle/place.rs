//! Where a node and its endpoints may be, and which families they have.

use std::process::{Child, Command};

use tests::lab::agent;
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode, ping};
use tests::lab::wait_until;
use tests::party::Family;

/// Is a process that lives in a namespace, and ends with this value.
struct Resident(Child);

impl Resident {
    fn new(place: &Namespace) -> Self {
        Self(
            place
                .inside(|| Command::new("sleep").arg("60").spawn())
                .expect("start a process"),
        )
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn endpoints_are_found_by_path_and_by_process() {
    let net = OneNode::prepared();
    let resident = Resident::new(&net.db);
    let before = net.inventory();
    let text = FILE
        .replace(
            "name = \"web\"",
            "name = \"web\"\nnetns = \"/run/netns/web\"",
        )
        .replace(
            "name = \"db\"",
            &format!("name = \"db\"\nnetns = {}", resident.0.id()),
        );
    net.write(&text);

    net.converge();
    net.down();

    before.expect_same(&net.inventory(), "after down");
}

#[test]
fn endpoint_of_a_process_that_is_gone_is_named() {
    let net = OneNode::prepared();
    let resident = Resident::new(&net.db);
    let pid = resident.0.id();
    net.write(&FILE.replace("name = \"db\"", &format!("name = \"db\"\nnetns = {pid}")));
    net.converge();
    drop(resident);

    let outcome = net.ciliate("apply", 71);

    assert!(
        outcome.stderr.contains(&format!("pid {pid}")),
        "{outcome:#?}"
    );
    net.down();
}

#[test]
fn node_with_ipv4_alone_leaves_ipv6_as_it_is() {
    let net = OneNode::prepared();
    net.write(&without("ipv6"));

    net.apply();

    net.ciliate("plan", 0);
    ping(&net.web, net.address("db", Family::V4));
    ping(&net.host, net.address("web", Family::V4));
    assert_eq!(net.host.sysctl("net/ipv6/conf/all/forwarding"), "0");
    assert!(!net.host.run("ip -6 route show").contains("cilium_host"));
    assert!(!net.web.run("ip -6 route show").contains("default"));
}

#[test]
fn node_with_ipv6_alone_leaves_ipv4_as_it_is() {
    let net = OneNode::prepared();
    net.write(&without("ipv4"));

    net.apply();

    net.ciliate("plan", 0);
    ping(&net.web, net.address("db", Family::V6));
    ping(&net.host, net.address("web", Family::V6));
    ping(&net.web, net.address("host", Family::V6));
    assert_eq!(net.host.sysctl("net/ipv4/conf/all/forwarding"), "0");
    assert!(!net.host.run("ip -4 route show").contains("cilium_host"));
}

/// Returns the file without the lines of a family.
fn without(family: &str) -> String {
    let lines = FILE.lines().filter(|line| !line.contains(family));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn namespace_of_the_node_itself_is_no_endpoint() {
    let net = OneNode::prepared();
    net.write(&FILE.replace(
        "name = \"db\"",
        "name = \"db\"\nnetns = \"/proc/self/ns/net\"",
    ));

    let outcome = net.ciliate("apply", 71);

    assert!(
        outcome.stderr.contains("db"),
        "should name the endpoint: {outcome:#?}"
    );
}

#[test]
fn node_in_a_namespace_is_found_from_outside_and_without_its_file() {
    let net = OneNode::on(Machine::new());
    let node = Namespace::add("node");
    let before = net.inventory();
    let line = format!("apply {}", net.file.display());
    agent::expect(&node, &line, 0);
    std::fs::remove_file(&net.file).expect("remove the file");
    ping(&net.web, [10, 0, 1, 11].into());

    for place in [&net.host, &net.web, &node] {
        let status = agent::json(place, "status");
        let endpoints = status["endpoints"].as_array().expect("a list");
        assert_eq!(endpoints.len(), 3, "{status:#}");
        assert!(
            endpoints
                .iter()
                .all(|endpoint| endpoint["state"] == "ready"),
            "{status:#}"
        );
        let flows = agent::json(place, "flows");
        assert!(
            !flows.as_array().expect("a list").is_empty(),
            "the echoes should be seen"
        );
    }
    agent::expect(&net.host, "down", 0);

    before.expect_same(&net.inventory(), "after down");
    assert_eq!(
        node.run("ip -br link show type veth"),
        "",
        "nothing should be left inside"
    );
}

#[test]
fn node_in_a_namespace_without_a_name_is_found_by_its_processes() {
    let net = OneNode::prepared();
    let before = net.inventory();
    net.apply();
    let resident = Resident::new(&net.host);

    let status = agent::json(&net.web, "status");
    assert_eq!(status["endpoints"].as_array().map(Vec::len), Some(3));
    agent::expect(&net.web, &format!("plan {}", net.file.display()), 0);
    agent::expect(&net.web, &format!("apply {}", net.file.display()), 0);
    agent::expect(&net.web, "down", 0);

    before.expect_same(&net.inventory(), "after down");
    drop(resident);
}

#[test]
fn node_whose_namespace_is_gone_is_removed_all_the_same() {
    let net = OneNode::prepared();
    let node = Namespace::add("node");
    agent::expect(&node, &format!("apply {}", net.file.display()), 0);
    net.host.run("ip netns del node");

    net.down();

    // What is pinned keeps a namespace until then.
    wait_until("the namespace is gone", || {
        !net.web.run("ip -br link show").contains("eth0")
    });
    assert!(
        !net.inventory().contains("/run/ciliate"),
        "no state should be left"
    );
    assert!(
        !net.inventory().contains("/sys/fs/bpf/ciliate"),
        "no pin should be left"
    );
}
