//! What the init system is told (`sd_notify(3)`).

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::lab::agent;
use tests::lab::node::{FILE, OneNode, answers};
use tests::lab::resident::Resident;
use tests::lab::wait_until;

use super::{Background, start};

/// The watchdog's patience in a test.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn agent_is_ready_when_packets_are_carried() {
    let net = OneNode::prepared();

    let _agent = start(&net);

    net.ping_all();
}

#[test]
fn reload_is_told_with_its_time_and_its_end() {
    let net = OneNode::prepared();
    let agent = start(&net);
    net.write(&FILE.replace("10.0.1.12", "10.0.1.13"));

    agent.signal(Signal::SIGHUP);

    let begins = agent.told();
    assert_eq!(begins[0], "RELOADING=1", "{begins:?}");
    let clock = begins[1].strip_prefix("MONOTONIC_USEC=").expect("a time");
    assert!(clock.parse::<u64>().is_ok(), "{begins:?}");
    assert_eq!(agent.told(), ["READY=1"]);
    net.ciliate("plan", 0);
}

#[test]
fn reload_of_a_wrong_file_ends_and_status_says_that_it_was_refused() {
    let net = OneNode::prepared();
    let agent = start(&net);
    net.write("[[node]]\nname = 1\n");

    agent.signal(Signal::SIGHUP);

    assert_eq!(agent.told()[0], "RELOADING=1");
    let ends = agent.told_all();
    assert_eq!(
        ends,
        [
            "STATUS=node edge-1: 3 of 3 endpoints connected; a new file was refused, the old one \
             holds",
            "READY=1"
        ]
    );
}

#[test]
fn status_says_which_namespace_is_missing() {
    let net = OneNode::prepared();
    let agent = start(&net);

    net.host.run("ip netns del db");

    assert_eq!(
        agent.told_all(),
        ["STATUS=node edge-1: 2 of 3 endpoints connected; the namespace of db is missing"]
    );
    net.host.run("ip netns add db");
    assert_eq!(
        agent.told_all(),
        ["STATUS=node edge-1: 3 of 3 endpoints connected"]
    );
}

#[test]
fn watchdog_is_fed_by_the_loop_and_starves_when_it_stands() {
    let net = OneNode::prepared();
    let mut command = Command::new(agent::binary());
    command
        .arg("run")
        .arg(&net.file)
        .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string());
    let agent = Resident::start_command(&net.machine, &net.host, command);

    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(agent.told(), ["WATCHDOG=1"]);
        assert!(start.elapsed() < PATIENCE, "should be fed in time");
    }
    agent.signal(Signal::SIGSTOP);
    agent.forget_told();
    let silence = agent.says_nothing_for(PATIENCE);
    agent.signal(Signal::SIGCONT);

    assert!(silence, "a loop that stands should not be fed");
    assert_eq!(agent.told(), ["WATCHDOG=1"]);
}

#[test]
fn manager_that_does_not_listen_holds_nobody_up() {
    let net = OneNode::prepared();
    let path = net.machine.folder.join("deaf");
    let _deaf = UnixDatagram::bind(&path).expect("bind a socket");
    let mut command = Command::new(agent::binary());
    command.arg("run").arg(&net.file);
    command.env("NOTIFY_SOCKET", &path).stderr(Stdio::null());

    let started = net.host.inside(|| command.spawn());
    let mut running = Background(started.expect("start the agent"));
    let pid = Pid::from_raw(i32::try_from(running.0.id()).expect("a pid"));
    wait_until("the agent keeps the node", || {
        let status = agent::ciliate(&net.host, "status").stdout;
        status.contains("repairs links")
    });
    for last in 13..21 {
        net.write(&FILE.replace("10.0.1.12", &format!("10.0.1.{last}")));
        kill(pid, Signal::SIGHUP).expect("send a signal");
        let new = format!("10.0.1.{last}").parse().expect("an address");
        wait_until("the file is taken", || answers(&net.host, new));
    }
    kill(pid, Signal::SIGTERM).expect("send a signal");

    assert_eq!(running.0.wait().expect("wait").code(), Some(0));
}

#[test]
fn end_is_told() {
    let net = OneNode::prepared();
    let agent = start(&net);

    agent.signal(Signal::SIGTERM);

    assert_eq!(agent.told(), ["STOPPING=1"]);
}
