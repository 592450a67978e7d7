//! `plan` only reads, and so does an `apply` that has nothing to do.

use std::fs;
use std::path::Path;

use tests::lab::node::{OneNode, pins};
use tests::lab::trace::changes_of;

const STATE: &str = "/run/ciliate/edge-1/state.json";

#[test]
fn second_apply_writes_nothing_and_the_plan_after_it_is_empty() {
    let net = OneNode::new();
    let before = (net.inventory(), modified(STATE));

    let line = format!("apply {}", net.file.display());
    let (outcome, changes) = changes_of(&net.host, &net.machine.folder, &line);

    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(changes.is_empty(), "should write nothing: {changes:#?}");
    before
        .0
        .expect_same(&net.inventory(), "after the second apply");
    assert_eq!(
        before.1,
        modified(STATE),
        "the state file should not be touched"
    );
    net.ciliate("plan", 0);
}

#[test]
fn plan_only_reads_on_an_empty_node() {
    let net = OneNode::prepared();
    let before = net.inventory();

    expect_read_only_plan(&net, 2);

    before.expect_same(&net.inventory(), "after the plan");
    assert!(
        !Path::new("/run/ciliate").exists(),
        "no folder should be made"
    );
}

#[test]
fn plan_only_reads_on_a_node_that_is_as_it_should_be() {
    let net = OneNode::new();

    expect_read_only_plan(&net, 0);
}

#[test]
fn plan_only_reads_on_a_drifted_node() {
    let net = OneNode::prepared();
    for place in [&net.web, &net.db, &net.api] {
        // The kernel's own link-local addresses would become valid in the middle of the test.
        place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
    }
    net.apply();
    net.host.run("tc filter del dev lxcweb ingress");
    net.web.run("ip route del default");
    net.host.run("ip link set lxcdb down");
    net.host
        .set_sysctl("net/ipv4/conf/cilium_host/forwarding", "0");
    net.host.run("ip address del 10.0.1.1/32 dev cilium_host");
    let before = net.inventory();

    expect_read_only_plan(&net, 2);

    before.expect_same(&net.inventory(), "after the plan");
    net.converge();
}

#[test]
fn plan_names_each_drifted_object_and_apply_repairs_it() {
    let net = OneNode::new();
    for (place, damage, word) in [
        (
            &net.host,
            "tc filter del dev lxcweb ingress",
            "from_container",
        ),
        (&net.host, "tc qdisc del dev lxcdb clsact", "from_container"),
        (&net.web, "ip route del default", "default"),
        (
            &net.web,
            "ip -6 address del fd00:1::10/128 dev eth0",
            "fd00:1::10",
        ),
        (&net.host, "ip link del lxcapi", "lxcapi"),
        (&net.host, "ip route del 10.0.1.0/24", "10.0.1.0/24"),
        (
            &net.host,
            &format!("rm {}/cilium_host_egress", pins().links().display()),
            "from_host",
        ),
        (
            &net.host,
            &format!("rm -r {}", pins().root().display()),
            "programs",
        ),
        (
            &net.host,
            &format!("rm {}", pins().map("FLOWS4").display()),
            "programs",
        ),
        (&net.host, "ip link del cilium_host", "cilium_host"),
        (&net.db, "ip link set eth0 mtu 1400", "lxcdb"),
        (&net.db, "ip link del eth0", "lxcdb"),
    ] {
        place.run(damage);

        let plan = net.ciliate("plan", 2);

        assert!(
            plan.stdout.contains(word),
            "after `{damage}` should name {word}: {}",
            plan.stdout
        );
        net.converge();
    }
}

fn expect_read_only_plan(net: &OneNode, code: i32) {
    let line = format!("plan {}", net.file.display());
    let (outcome, changes) = changes_of(&net.host, &net.machine.folder, &line);

    assert_eq!(outcome.code, Some(code), "{outcome:#?}");
    assert!(changes.is_empty(), "should write nothing: {changes:#?}");
}

fn modified(path: &str) -> std::time::SystemTime {
    fs::metadata(path)
        .and_then(|file| file.modified())
        .expect("the file is there")
}
