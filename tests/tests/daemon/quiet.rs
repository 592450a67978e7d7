//! An agent that has nothing to do changes nothing and costs nothing.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::lab::node::OneNode;
use tests::lab::resident::Resident;
use tests::lab::trace::{changes, traced};

use super::{Kept, start, ticks};

/// How long an agent is watched: longer than the time between three of its looks.
const WATCHED: Duration = Duration::from_secs(11);

/// Processor time that it may take meanwhile, in clock ticks of 10 ms: of a binary that is not
/// optimised, on a busy machine.
const TICKS: u64 = 50;

/// What it sends to itself when a signal comes (`signal-hook`), and to the service manager; and the
/// socket that each agent makes for itself.
const HARMLESS: [&str; 7] = [
    r#"chmod("/run/ciliate/edge-1/ctl.sock", 0660)"#,
    r#"unlink("/run/ciliate/edge-1/ctl.sock")"#,
    r#", "", 0, MSG_DONTWAIT, NULL, 0)"#,
    r#", "X", 1, MSG_DONTWAIT, NULL, 0)"#,
    r#"STATUS=sets node edge-1 up\n""#,
    r#"READY=1\n""#,
    r#"STOPPING=1\n""#,
];

#[test]
fn agent_writes_nothing_when_nothing_changes() {
    let net = OneNode::prepared();
    for place in [&net.web, &net.db, &net.api] {
        // The kernel's own link-local addresses would become valid in the middle of the test.
        place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
    }
    // The lock of the agent and its folder stay.
    assert_eq!(start(&net).end(Signal::SIGTERM), Some(0));
    let before = net.inventory();

    let line = format!("run {}", net.file.display());
    let command = traced(&net.machine.folder, &line);
    let agent = Resident::start_command(&net.machine, &net.host, command);
    thread::sleep(WATCHED);
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));

    let mut changes = changes(&net.machine.folder);
    changes.retain(|call| !HARMLESS.iter().any(|harmless| call.contains(harmless)));
    assert!(changes.is_empty(), "should write nothing: {changes:#?}");
    before.expect_same(&net.inventory(), "after the agent");
}

#[test]
fn agent_is_idle_when_nothing_changes() {
    let kept = Kept::new();
    let (before, said) = (ticks(kept.agent.pid()), kept.agent.log());

    thread::sleep(WATCHED);

    let taken = ticks(kept.agent.pid()) - before;
    eprintln!("{taken} ticks in {WATCHED:?}");
    assert!(taken < TICKS, "{taken} ticks in {WATCHED:?} are too many");
    assert_eq!(kept.agent.log(), said, "should log nothing more");
    let lines = said.lines().count();
    assert_eq!(
        lines, 2,
        "host routing, and that the node is set up: {said}"
    );
}
