//! The unit under a real systemd, with all that it forbids.

use std::process::Command;

use tests::lab::agent;
use tests::lab::node::{FILE, OneNode, answers, ping};
use tests::lab::stream::Stream;
use tests::lab::systemd::Booted;
use tests::lab::wait_until;
use tests::party::Family;

#[test]
fn unit_sets_the_node_up_reloads_it_and_leaves_packets_to_the_kernel() {
    let net = OneNode::prepared();
    let booted = Booted::new(&net);

    let started = booted.systemctl("start ciliate");
    assert_eq!(started.code, Some(0), "{started:#?}");
    net.ping_all();
    assert_eq!(
        booted.property("StatusText"),
        "node edge-1: 3 of 3 endpoints connected"
    );
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    booted.write(&net, &FILE.replace("10.0.1.12", "10.0.1.13"));
    assert_eq!(booted.systemctl("reload ciliate").code, Some(0));
    wait_until("the file is taken anew", || {
        let new = "10.0.1.13".parse().expect("an address");
        answers(&net.host, new)
    });
    assert_eq!(booted.systemctl("restart ciliate").code, Some(0));
    assert_eq!(booted.systemctl("stop ciliate").code, Some(0));

    assert_eq!(booted.property("Result"), "success");
    ping(&net.host, net.address("web", Family::V6));
    stream.expect_complete();
}

#[test]
fn agent_that_is_killed_is_started_again_and_one_with_a_wrong_file_is_not() {
    let net = OneNode::prepared();
    let booted = Booted::new(&net);
    assert_eq!(booted.systemctl("start ciliate").code, Some(0));
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V6));

    let first = booted.property("MainPID");
    assert_eq!(booted.systemctl("kill --signal=KILL ciliate").code, Some(0));
    wait_until("another agent runs", || {
        booted.property("MainPID") != first && booted.property("SubState") == "running"
    });
    booted.write(&net, "[[node]]\nname = 1\n");
    assert_ne!(booted.systemctl("restart ciliate").code, Some(0));

    assert_eq!(booted.property("ExecMainStatus"), "78");
    assert_eq!(booted.property("SubState"), "failed");
    stream.expect_complete();
}

#[test]
fn watchdog_ends_an_agent_that_hangs() {
    let net = OneNode::prepared();
    let booted = Booted::new(&net);
    booted.run(
        "mkdir -p /run/systemd/system/ciliate.service.d && printf '[Service]\\nWatchdogSec=1\\n' \
         >/run/systemd/system/ciliate.service.d/impatient.conf && systemctl daemon-reload",
    );
    assert_eq!(booted.systemctl("start ciliate").code, Some(0));
    let first = booted.property("MainPID");

    assert_eq!(booted.systemctl("kill --signal=STOP ciliate").code, Some(0));

    wait_until("another agent runs", || {
        booted.property("MainPID") != first && booted.property("SubState") == "running"
    });
    assert_eq!(booted.property("NRestarts"), "1");
    net.ping_all();
}

/// The unit has mounts of its own, into which those of the machine have to come.
#[test]
fn namespaces_that_are_made_later_are_found_in_the_mounts_of_the_unit() {
    let net = OneNode::prepared();
    let booted = Booted::new(&net);
    // As systemd has it where it is not in a container.
    assert_eq!(booted.run("mount --make-rshared /").code, Some(0));
    assert_eq!(booted.systemctl("start ciliate").code, Some(0));
    let late = "10.0.1.20".parse().expect("an address");

    assert_eq!(booted.run("ip netns add late").code, Some(0));
    let endpoint = "[[endpoint]]\nname = \"late\"\nipv4 = \"10.0.1.20\"\n";
    booted.write(&net, &format!("{FILE}{endpoint}"));
    assert_eq!(booted.systemctl("reload ciliate").code, Some(0));
    wait_until("the late one is connected", || answers(&net.host, late));
    let replaced = booted.run("ip netns del late && ip netns add late");
    assert_eq!(replaced.code, Some(0), "{replaced:#?}");

    wait_until("the one in its place is connected", || {
        answers(&net.host, late)
    });
}

#[test]
fn networkd_that_is_restarted_costs_endpoints_nothing() {
    let net = OneNode::prepared();
    let booted = Booted::new(&net);
    assert_eq!(booted.systemctl("start ciliate").code, Some(0));
    booted.run(
        "printf '[Match]\\nType=ether\\n[Network]\\nLinkLocalAddressing=no\\n' \
         >/etc/systemd/network/50-all.network",
    );
    assert_eq!(booted.systemctl("start systemd-networkd").code, Some(0));
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    let sick = booted.run("/opt/ciliate doctor");
    let fixed = booted.run("/opt/ciliate doctor --fix");
    for _ in 0..3 {
        assert_eq!(booted.systemctl("restart systemd-networkd").code, Some(0));
    }

    assert_eq!(sick.code, Some(1), "{sick:#?}");
    assert!(sick.stdout.contains("CIL0308"), "{sick:#?}");
    assert_eq!(fixed.code, Some(0), "{fixed:#?}");
    stream.expect_complete();
    net.ping_all();
}

/// What the unit withholds, the agent must not need at its start either.
#[test]
fn agent_starts_with_the_capabilities_of_the_unit() {
    let net = OneNode::prepared();
    let unit = include_str!("../../../image/systemd/ciliate.service");
    let bound = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = bound.expect("the unit has a bound").split(' ');
    let kept = names.map(|name| name.replace("CAP_", ",+").to_lowercase());
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--bounding-set=-all{}", kept.collect::<String>()))
        .arg("--inh-caps=-all")
        .arg(agent::binary())
        .arg("run")
        .arg(&net.file);

    let agent = tests::lab::resident::Resident::start_command(&net.machine, &net.host, command);

    assert!(!agent.log().contains("CIL0150"), "{}", agent.log());
    net.ping_all();
}
