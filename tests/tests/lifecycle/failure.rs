//! A run that fails leaves what was there before, and says what was in the way.

use std::path::Path;

use tests::lab::node::{FILE, OneNode};
use tests::lab::stream::Stream;
use tests::party::Family;

#[test]
fn apply_is_undone_when_a_step_fails_half_way() {
    let net = OneNode::prepared();
    occupy_eth0(&net);
    let before = net.inventory();

    let outcome = net.ciliate("apply", 71);

    assert!(
        outcome.stderr.contains("eth0"),
        "should name what is in the way: {outcome:#?}"
    );
    before.expect_same(&net.inventory(), "after the failure");
    assert!(
        !Path::new("/run/ciliate").exists(),
        "no folder should be left"
    );
}

#[test]
fn edit_is_undone_when_a_step_fails_half_way() {
    let net = OneNode::prepared();
    let (without_api, _) = FILE
        .rsplit_once("[[endpoint]]")
        .expect("the file has endpoints");
    net.write(without_api);
    net.apply();
    occupy_eth0(&net);
    let before = net.inventory();

    net.write(&FILE.replace("10.0.1.10", "10.0.1.20"));
    net.ciliate("apply", 71);

    before.expect_same(&net.inventory(), "after the failure");
    net.write(without_api);
    net.ciliate("plan", 0);
    net.ping_all();
}

#[test]
fn failed_addition_of_an_endpoint_loses_no_packet_of_others() {
    let net = OneNode::prepared();
    let (without_api, _) = FILE
        .rsplit_once("[[endpoint]]")
        .expect("the file has endpoints");
    net.write(without_api);
    net.apply();
    occupy_eth0(&net);
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V6));

    net.write(FILE);
    net.ciliate("apply", 71);

    stream.expect_complete();
}

#[test]
fn foreign_links_with_our_names_are_refused_by_name() {
    for name in ["cilium_host", "cilium_net", "lxcweb"] {
        let net = OneNode::prepared();
        net.host
            .run(&format!("ip link add {name} type veth peer name other"));
        let before = net.inventory();

        for verb in ["plan", "apply"] {
            let outcome = net.ciliate(verb, 71);
            assert!(
                outcome.stderr.contains(name),
                "should name {name}: {outcome:#?}"
            );
        }
        before.expect_same(&net.inventory(), "after the refusal");
    }
}

#[test]
fn missing_namespaces_are_all_named_at_once() {
    let net = OneNode::prepared();
    net.host.run("ip netns del db");
    net.host.run("ip netns del api");

    let outcome = net.ciliate("apply", 71);

    for name in ["db", "api"] {
        let advice = format!("ip netns add {name}");
        assert!(
            outcome.stderr.contains(&advice),
            "should advise {advice}: {outcome:#?}"
        );
    }
}

#[test]
fn second_agent_at_a_time_is_told_who_is_at_work() {
    let net = OneNode::new();
    let directory = Path::new("/run/ciliate/edge-1");
    let lock = ciliate::host::lock::Lock::take(directory).expect("take the lock");

    let outcome = net.ciliate("apply", 71);

    let holder = format!("process {}", std::process::id());
    assert!(
        outcome.stderr.contains(&holder),
        "should name {holder}: {outcome:#?}"
    );
    drop(lock);
    net.converge();
}

/// Puts a link named `eth0` into the namespace of the last endpoint.
fn occupy_eth0(net: &OneNode) {
    net.api.run("ip link add eth0 type veth peer name other");
}
