//! The real binary, killed at every call by which it writes down how far it is: journal, state,
//! copy and record of a trial. The next run converges each time.
//!
//! A step of a plan lies between two of these calls, so that a run dies before or after each. A run is
//! killed at the first such call, the next one at a later one, until one reaches its end.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::OneNode;
use tests::lab::resident::Resident;
use tests::lab::trial::{self, Trial};
use tests::lab::wait_until;

const FOLDER: &str = "/run/ciliate/edge-1";

/// Files below the folder in which a run writes down how far it is, and their folders.
const FILES: [&str; 11] = [
    "",
    "/journal",
    "/lock",
    "/state.json",
    "/state.json.tmp",
    "/edition.json",
    "/edition.json.tmp",
    "/trial",
    "/trial/lock",
    "/trial/record.json",
    "/trial/record.json.tmp",
];

/// The calls that write there; each is counted by itself.
const CALLS: [&str; 5] = ["write", "rename", "unlink", "mkdir", "rmdir"];

/// Says, whatever its value, that each of these calls counts, and not only every other one.
const EVERYWHERE: &str = "CILIATE_KILL_EVERYWHERE";

/// More than a run has of any of these calls.
const MOST_CALLS: usize = 300;

/// Is a small node, so that all of this takes a minute.
const SMALL: &str = r#"
[[node]]
name = "edge-1"
ipv4 = "10.0.1.0/24"

[[endpoint]]
name = "web"
"#;

/// Is what is tried beside it.
const MORE: &str = r#"
[[endpoint]]
name = "db"
"#;

const NOTHING: [&str; 0] = [];

#[test]
fn trial_that_is_killed_anywhere_is_taken_back_by_the_next_run() {
    let net = prepared();
    // So that the agent has its folder.
    start_agent(&net, false);
    let (before, files) = (net.inventory(), left());

    let calls = kill_everywhere(|call, number| {
        net.write(&format!("{SMALL}{MORE}"));
        let was_killed = try_traced(&net, call, number);
        let is_unfinished = Path::new(FOLDER).join("trial/record.json").exists();
        match number % 3 {
            0 => {}
            1 => drop(net.apply()),
            _ => start_agent(&net, !is_unfinished && was_killed && !is_rejected()),
        }
        net.write(SMALL);
        net.apply();
        net.ciliate("plan", 0);
        assert_eq!(left(), files, "{call} {number}");
        was_killed
    });

    assert!(calls > 40, "{calls} points are too few: two a step");
    before.expect_same(&net.inventory(), "after all of it");
}

#[test]
fn trial_of_a_new_node_that_is_killed_anywhere_leaves_nothing() {
    let net = prepared();
    let before = net.inventory();

    let calls = kill_everywhere(|call, number| {
        let was_killed = try_traced(&net, call, number);
        if number % 2 == 0 {
            net.apply();
            net.ciliate("plan", 0);
        }
        take_down(&net);
        assert_eq!(left(), NOTHING, "{call} {number}");
        was_killed
    });

    assert!(calls > 80, "{calls} points are too few: two a step");
    fs::remove_file(net.machine.folder.join("trial.log")).expect("remove the log");
    before.expect_same(&net.inventory(), "after all of it");
}

#[test]
fn down_that_is_killed_at_any_file_is_completed_by_the_next_run() {
    let net = prepared();
    let before = net.inventory();

    let calls = kill_everywhere(|call, number| {
        net.apply();
        let outcome = net.host.execute(&mut traced(call, number, "down"));
        if number % 2 == 0 {
            net.apply();
            net.ciliate("plan", 0);
        }
        take_down(&net);
        assert_eq!(left(), NOTHING, "{call} {number}");
        outcome.code != Some(0)
    });

    assert!(calls > 20, "{calls} points are too few: two a step");
    before.expect_same(&net.inventory(), "after all of it");
}

/// Makes the namespaces, and the file of a small node.
fn prepared() -> OneNode {
    let net = OneNode::prepared();
    for place in [&net.web, &net.db] {
        // The kernel's own link-local addresses would become valid in the middle of the test.
        place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
    }
    net.write(SMALL);
    net
}

/// Kills one run at each call of each kind, or at every other one where time is short; tells how many
/// calls there were. `run` tells whether its run was killed.
fn kill_everywhere(mut run: impl FnMut(&str, usize) -> bool) -> usize {
    let stride = if env::var_os(EVERYWHERE).is_some() {
        1
    } else {
        2
    };
    let mut calls = 0;
    for call in CALLS {
        let mut numbers = (1..MOST_CALLS).step_by(stride);
        let end = numbers.find(|number| !run(call, *number));
        calls += end.expect("a run should have fewer calls") - 1;
    }
    eprintln!("{calls} calls, every {stride}. was the end of a run");
    calls
}

/// Tries the file of a node, and rejects it as soon as it is applied; tells whether the guard was
/// killed before its end.
fn try_traced(net: &OneNode, call: &str, number: usize) -> bool {
    let line = format!("try {}", net.file.display());
    let command = traced(call, number, &line);
    let mut trial = Trial::start_command(&net.machine, &net.host, "edge-1", command);
    wait_until("it is applied, or over", || {
        trial.is_over() || trial.record()["phase"] == "waiting"
    });
    let guard = trial.record()["pid"].as_u64();
    if let (false, Some(guard)) = (trial.is_over(), guard) {
        trial::signal(u32::try_from(guard).expect("a pid"), Signal::SIGINT);
    }
    let code = trial.code();
    assert!(
        matches!(code, Some(71 | 75)),
        "{call} {number}, {code:?}: {}",
        trial.log()
    );
    code == Some(71)
}

/// Returns a command that kills the agent at such a call.
fn traced(call: &str, number: usize, line: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null"]);
    for file in FILES {
        command.args(["-P", &format!("{FOLDER}{file}")]);
    }
    command
        .arg(format!("--trace={call}"))
        .arg(format!("--inject={call}:signal=KILL:when={number}"))
        .arg(agent::binary())
        .args(line.split(' '));
    command
}

/// Starts an agent with the file and ends it; it must keep the node with `db` or without.
fn start_agent(net: &OneNode, has_db: bool) {
    let agent = Resident::start(&net.machine, &net.host, &net.file.display().to_string());
    let links = net.host.run("ip -br link show");
    assert_eq!(links.contains("lxcdb"), has_db, "{links}{}", agent.log());
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
}

/// Tells whether the state remembers a file that was taken back.
fn is_rejected() -> bool {
    let text = fs::read(format!("{FOLDER}/state.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&text).unwrap_or_default();
    state["rejected"].is_string()
}

/// Takes the node down, however little is left of it.
fn take_down(net: &OneNode) {
    let is_left = || !left().is_empty();
    if is_left() && agent::ciliate(&net.host, "down").code == Some(69) && is_left() {
        // What is left is no node any more, and goes with the next one.
        net.apply();
        net.down();
    }
}

/// Lists what is below the folder of all nodes. A file that was never renamed means nothing, and is
/// written over.
fn left() -> Vec<String> {
    let found = Namespace::own().attempt("find /run/ciliate");
    let files = found.stdout.lines().filter(|file| {
        let extension = Path::new(file).extension();
        extension.is_none_or(|extension| extension != "tmp")
    });
    let mut files: Vec<String> = files.map(str::to_owned).collect();
    files.sort();
    files
}
