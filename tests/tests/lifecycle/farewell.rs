//! `down` removes what is ours and nothing else; traffic needs no agent.

use std::fs;
use std::path::Path;

use tests::lab::agent;
use tests::lab::machine::{BPFFS, Machine};
use tests::lab::namespace::Namespace;
use tests::lab::node::{OneNode, pins};
use tests::lab::program::Counter;
use tests::lab::wait_until;

#[test]
fn down_leaves_nothing() {
    let net = OneNode::prepared();
    let before = net.inventory();
    net.converge();

    net.down();

    before.expect_same(&net.inventory(), "after down");
    agent::expect(&net.host, "down", 69);
}

#[test]
fn down_leaves_no_bpffs_where_there_was_none() {
    let net = OneNode::on(Machine::without_bpffs());
    let before = net.inventory();
    net.converge();

    net.down();

    before.expect_same(&net.inventory(), "after down");
}

#[test]
fn down_leaves_foreign_objects_alone() {
    let net = OneNode::prepared();
    let host = &net.host;
    host.run("ip link add lxcother type veth peer name uplink0");
    host.run("ip link set lxcother alias ciliate-like up");
    host.run("ip link set uplink0 up");
    host.run("ip address add 192.0.2.1/24 dev uplink0 noprefixroute");
    host.run("ip -6 address add 2001:db8::1/64 dev uplink0 nodad");
    host.run("ip route add 198.51.100.0/24 via 192.0.2.7 dev uplink0 onlink proto 192");
    host.run("ip rule add from 192.0.2.1 table 77 priority 1000");
    let counter = Counter::new();
    counter
        .program
        .attach_filter(host, "lxcother", "ingress", 1);
    Namespace::add("other");
    fs::create_dir(Path::new(BPFFS).join("other")).expect("make a foreign folder");
    fs::create_dir(Path::new(BPFFS).join("ciliate")).expect("make the common folder");
    fs::create_dir(Path::new(BPFFS).join("ciliate/edge-7")).expect("make another node's folder");
    fs::create_dir_all("/run/ciliate/edge-7").expect("make another node's folder");
    let before = net.inventory();
    net.converge();
    host.run("ip route add 203.0.113.0/24 dev uplink0 proto 192");
    host.run("ip route del 203.0.113.0/24 dev uplink0");

    agent::expect(host, "--node edge-1 down", 0);

    before.expect_same(&net.inventory(), "after down");
}

#[test]
fn down_works_with_a_broken_and_without_a_file() {
    let net = OneNode::prepared();
    let before = net.inventory();
    for text in [Some("[[node"), None] {
        net.write(tests::lab::node::FILE);
        net.apply();
        match text {
            Some(text) => net.write(text),
            None => fs::remove_file(&net.file).expect("remove the file"),
        }

        net.down();

        before.expect_same(&net.inventory(), "after down");
    }
}

#[test]
fn down_works_after_half_of_it_was_removed_by_hand() {
    let net = OneNode::prepared();
    let before = net.inventory();
    for damage in [
        "ip link del cilium_host",
        "ip link del lxcweb",
        &format!("rm -r {}", pins().maps().display()),
        "rm -r /sys/fs/bpf/ciliate",
        "rm -r /run/ciliate",
    ] {
        net.apply();
        net.host.run(damage);

        net.down();

        if damage.contains("/run/ciliate") {
            // Only the state file knew what it was.
            net.host.set_sysctl("net/ipv6/conf/all/forwarding", "0");
        }
        before.expect_same(&net.inventory(), &format!("after `{damage}` and down"));
    }
}

#[test]
fn endpoint_whose_namespace_is_gone_is_named_and_goes_with_down() {
    let net = OneNode::new();
    net.host.run("ip netns del api");

    let outcome = net.ciliate("apply", 71);
    assert!(
        outcome.stderr.contains("ip netns add api"),
        "should advise: {outcome:#?}"
    );
    // The kernel takes a namespace apart some time after its name went.
    wait_until("its link goes with it", || {
        !net.host.run("ip -br link show").contains("lxcapi")
    });
    Namespace::add("api");
    net.converge();
    net.host.run("ip netns del api");
    net.down();

    let left = net.host.run("ip -br link show type veth");
    assert_eq!(left, "", "no link should be left");
}

#[test]
fn traffic_goes_on_after_the_agent_has_ended() {
    let net = OneNode::new();

    // `apply` has ended long ago; even its files may go.
    fs::remove_dir_all("/run/ciliate").expect("remove the state");

    net.ping_all();
}

#[test]
fn host_pair_that_somebody_renamed_is_replaced_and_goes() {
    let net = OneNode::new();
    let rename = || {
        for (from, to) in [("cilium_host", "theirs0"), ("cilium_net", "theirs1")] {
            net.host.run(&format!("ip link set {from} down"));
            net.host.run(&format!("ip link set {from} name {to}"));
        }
    };
    let links = || net.host.run("ip -o link");
    rename();

    net.apply();

    assert!(!links().contains("theirs"), "{}", links());
    assert!(links().contains("cilium_host"), "{}", links());
    rename();
    net.down();
    assert!(!links().contains("theirs"), "{}", links());
}
