//! How an agent begins, or why it does not.

use std::fs;
use std::path::Path;
use std::thread;

use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::{OneNode, answers, ping};
use tests::lab::outside::Outside;
use tests::lab::resident::Resident;
use tests::lab::wait_until;
use tests::party::Family;

use super::repair::is_joined;
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

/// Starts the agent of a node whose device is gone.
fn start_without_device(net: &Outside) -> Resident {
    let file = net.net.file.display().to_string();
    Resident::start(&net.net.machine, &net.net.host, &file)
}

#[test]
fn agent_is_ready_when_a_device_that_is_required_has_come() {
    let net = Outside::new();
    net.write("bpf");
    net.net.host.run("ip link delete up0");
    let log = net.net.machine.folder.join("log");

    let agent = thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the agent waits", || {
                let said = fs::read_to_string(&log).unwrap_or_default();
                said.contains("device up0 is missing: waiting for it")
            });
            net.join();
        });
        start_without_device(&net)
    });

    // Its addresses come later than the device.
    wait_until("packets pass", || {
        Family::BOTH
            .map(Outside::far)
            .iter()
            .all(|far| answers(&net.net.web, *far))
    });
    net.expect_traffic();
    assert!(!agent.log().contains("CIL0208"), "{}", agent.log());
}

#[test]
fn agent_does_not_wait_for_a_device_that_is_not_required() {
    let net = Outside::new();
    net.write("bpf");
    let text = fs::read_to_string(&net.net.file).expect("read the file");
    net.net
        .write(&text.replace("[[device]]", "[[device]]\nrequired = false"));
    net.net.host.run("ip link delete up0");

    let agent = start_without_device(&net);

    assert!(agent.log().contains("CIL0208"), "{}", agent.log());
    net.net.ping_all();
    net.join();
    wait_until("the device is joined", || {
        answers(&net.net.web, Outside::far(Family::V4))
    });
    net.expect_traffic();
}

#[test]
fn agent_that_waits_for_a_device_ends_when_it_is_asked_to() {
    let net = Outside::new();
    net.write("bpf");
    net.net.host.run("ip link delete up0");
    let mut command = std::process::Command::new(agent::binary());
    command.arg("run").arg(&net.net.file);
    let mut child = net.net.host.inside(|| command.spawn()).expect("start");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));

    wait_until("it has its lock", || {
        Path::new("/run/ciliate/edge-1/agent/lock").exists()
    });
    // A signal that comes before the agent takes signals over ends it as well.
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("send a signal");

    wait_until("it ends", || child.try_wait().expect("wait").is_some());
    assert!(
        !Path::new("/sys/fs/bpf/ciliate").exists(),
        "nothing was begun"
    );
}

#[test]
fn endpoint_whose_namespace_is_missing_at_the_start_is_joined_when_it_comes() {
    let net = OneNode::prepared();
    net.host.run("ip netns del db");
    let file = net.file.display().to_string();

    let agent = Resident::start(&net.machine, &net.host, &file);

    agent.expect_log("CIL0102: endpoint db");
    ping(&net.web, net.address("api", Family::V4));
    net.host.run("ip netns add db");
    wait_until("db is joined", || is_joined(&net.db));
    net.ping_all();
}
