//! How an agent begins, or why it does not.

use std::path::Path;

use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::OneNode;
use tests::lab::resident::Resident;

use super::{ANNOUNCED, Kept};

#[test]
fn second_agent_is_told_who_keeps_the_node() {
    let kept = Kept::new();

    let outcome = kept.net.ciliate("run", 71);

    let holder = format!("process {}", kept.agent.pid());
    assert!(
        outcome.stderr.contains("edge-1: an agent keeps it already")
            && outcome.stderr.contains(&holder),
        "{outcome:#?}"
    );
    kept.net.ping_all();
}

#[test]
fn agent_that_cannot_set_the_node_up_leaves_nothing() {
    let net = OneNode::prepared();
    net.api.run("ip link add eth0 type veth peer name other");
    let before = net.inventory();

    let outcome = net.ciliate("run", 71);

    assert!(outcome.stderr.contains("eth0"), "{outcome:#?}");
    before.expect_same(&net.inventory(), "after the failure");
    assert!(!Path::new("/run/ciliate").exists(), "no folder should stay");
}

#[test]
fn wrong_file_is_refused() {
    let net = OneNode::prepared();
    net.write("[[node]]\nname = 1\n");

    let outcome = net.ciliate("run", 78);

    assert!(outcome.stderr.contains("ciliate.toml:2:"), "{outcome:#?}");
}

#[test]
fn agent_keeps_a_node_in_the_namespace_that_it_was_set_up_in() {
    let net = OneNode::prepared();
    let node = Namespace::add("node");
    let file = net.file.display().to_string();
    agent::expect(&node, &format!("apply {file}"), 0);
    let agent = Resident::start(&net.machine, &net.host, &file);
    let kept = Kept { agent, net };

    kept.expect_repair(&node, "tc filter del dev lxcweb ingress", ANNOUNCED);
}
