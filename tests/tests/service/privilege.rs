//! What the agent may do once its node is set up.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode, answers};
use tests::lab::resident::Resident;
use tests::lab::trace::{calls, traced};
use tests::lab::wait_until;
use tests::party::Family;

use super::{Background, start};

/// Numbers of capabilities (`linux/capability.h`).
const NET_ADMIN: u64 = 1 << 12;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// What every agent keeps.
const ALWAYS: u64 = NET_ADMIN | BPF | PERFMON;

/// A node that connects nobody.
const LONELY: &str = "[[node]]\nname = \"edge-1\"\nipv4 = \"10.0.1.0/24\"\n";

#[test]
fn agent_keeps_what_its_file_needs_and_no_more() {
    let net = OneNode::prepared();

    let agent = start(&net);

    let status = kernel_status(agent.pid());
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let kept = mask(&status[set]);
        assert_eq!(kept, ALWAYS | SYS_ADMIN, "{set} {kept:x}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(mask(&status[set]), 0, "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Threads"], "1", "no thread keeps more");
    net.ping_all();
}

#[test]
fn status_lists_what_the_agent_may_do_with_the_reasons() {
    let net = OneNode::prepared();
    let agent = start(&net);

    let status = net.status();
    let text = agent::expect(&net.host, "status", 0).stdout;

    assert_eq!(
        names(&status),
        ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"]
    );
    let reason = status["capabilities"][1]["reason"].as_str();
    assert_eq!(
        reason,
        Some("enters the network namespaces of web, db, api")
    );
    for name in names(&status) {
        assert!(text.contains(&name), "{text}");
    }
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    assert!(names(&net.status()).is_empty(), "none runs");
}

#[test]
fn agent_without_endpoints_may_enter_no_namespace_and_says_so_when_it_shall() {
    let net = OneNode::prepared();
    net.write(LONELY);
    let agent = start(&net);
    assert_eq!(mask(&kernel_status(agent.pid())["CapPrm"]), ALWAYS);

    net.host.run("ip link del cilium_host");
    wait_until("the link is repaired", || {
        net.host.attempt("ip link show cilium_host").code == Some(0)
    });
    net.write(FILE);
    agent.signal(Signal::SIGHUP);

    agent.expect_log("CIL0104");
    agent
        .expect_log("the file needs CAP_SYS_ADMIN (enters the network namespaces of web, db, api)");
    agent.expect_log("restart the agent");
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    let _agent = start(&net);
    net.ping_all();
}

#[test]
fn privilege_that_a_new_file_no_longer_needs_is_given_up() {
    let net = OneNode::prepared();
    let agent = start(&net);

    net.write(LONELY);
    agent.signal(Signal::SIGHUP);

    wait_until("CAP_SYS_ADMIN is given up", || {
        mask(&kernel_status(agent.pid())["CapPrm"]) == ALWAYS
    });
    assert_eq!(names(&net.status()).len(), 3);
}

#[test]
fn endpoint_that_is_named_by_its_process_is_found_by_an_agent_that_may_trace() {
    let net = OneNode::prepared();
    let sleeper = sleeper(&net.web);
    let place = format!("name = \"web\"\nnetns = {}", sleeper.0.id());
    net.write(&FILE.replace("name = \"web\"", &place));

    let agent = start(&net);
    let kept = mask(&kernel_status(agent.pid())["CapPrm"]);
    let web = net.address("web", Family::V4);
    net.host.run("ip link del lxcweb");

    wait_until("web is connected again", || answers(&net.host, web));
    let status = net.status();
    assert_eq!(kept, ALWAYS | SYS_ADMIN | SYS_PTRACE);
    assert!(
        names(&status).contains(&"CAP_SYS_PTRACE".to_owned()),
        "{status:#}"
    );
}

#[test]
fn agent_starts_no_program() {
    let net = OneNode::prepared();
    let command = traced(&net.machine.folder, &format!("run {}", net.file.display()));
    let agent = Resident::start_command(&net.machine, &net.host, command);

    let web = net.address("web", Family::V4);
    net.host.run("ip link del lxcweb");
    wait_until("web is connected again", || answers(&net.host, web));
    net.write(&FILE.replace("10.0.1.12", "10.0.1.13"));
    agent.signal(Signal::SIGHUP);
    agent.expect_log("the file is taken anew");
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));

    let calls = calls(&net.machine.folder);
    let started: Vec<_> = calls
        .iter()
        .filter(|call| ["execve", "execveat", "fork", "vfork"].contains(&call.as_str()))
        .collect();
    assert_eq!(started, ["execve"], "only the agent itself");
}

/// Starts a process that does nothing in a namespace.
fn sleeper(place: &Namespace) -> Background {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Background(place.inside(|| command.spawn()).expect("start sleep"))
}

/// Reads what the kernel shows of a process.
fn kernel_status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn mask(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal, 16).expect("a mask")
}

fn names(status: &serde_json::Value) -> Vec<String> {
    let list = status["capabilities"].as_array().expect("a list");
    let names = list.iter().filter_map(|entry| entry["name"].as_str());
    names.map(str::to_owned).collect()
}
