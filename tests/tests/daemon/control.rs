//! What the agent answers at its control socket, and to whom.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::namespace::Outcome;
use tests::lab::node::{FILE, OneNode};
use tests::lab::resident::Resident;

use super::{ANNOUNCED, Kept, start, without_api};

const SOCKET: &str = "/run/ciliate/edge-1/ctl.sock";

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

fn connect() -> UnixStream {
    let socket = UnixStream::connect(SOCKET).expect("connect to the agent");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket has a timeout");
    socket
}

/// Returns the line that the agent answers.
fn answer(socket: UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(socket)
        .read_line(&mut line)
        .expect("an answer");
    line
}

impl Kept {
    /// Runs a verb as somebody else, with these groups.
    fn execute_as(&self, user: &str, groups: &str, verb: &str) -> Outcome {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", user, "--regid", user, groups])
            .arg(agent::binary())
            .arg(verb);
        self.net.host.execute(&mut command)
    }
}

#[test]
fn status_tells_what_the_agent_knows() {
    let kept = Kept::new();
    let net = &kept.net;

    let first = net.status()["agent"].clone();
    assert_eq!(first["pid"], kept.agent.pid());
    assert_eq!(first["last_reload"], serde_json::Value::Null);
    assert!(
        first["since"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z')),
        "{first:#}"
    );
    assert_eq!(first["drift"]["repairs"], 0);
    net.write(without_api());
    agent::expect(&net.host, "reload", 0);

    let second = net.status()["agent"].clone();
    let reload = &second["last_reload"];
    assert_eq!(reload["result"], "applied", "{second:#}");
    assert!(
        reload["took_us"].as_u64().is_some_and(|took| took > 0),
        "{second:#}"
    );
    let text = agent::expect(&net.host, "status", 0).stdout;
    let line = format!("agent         process {} since ", kept.agent.pid());
    assert!(
        text.contains(&line) && text.contains("last reload: applied"),
        "{text}"
    );
}

#[test]
fn status_works_without_an_agent() {
    let net = OneNode::new();

    let status = net.status();

    assert_eq!(status["agent"], serde_json::Value::Null);
    assert_eq!(status["config"]["state"], "applied");
    assert_eq!(status["config"]["file"], net.file.display().to_string());
    let text = agent::expect(&net.host, "status", 0).stdout;
    assert!(text.contains("agent         none answers"), "{text}");
}

#[test]
fn status_does_not_wait_for_ever_for_an_agent_that_hangs() {
    let kept = Kept::new();

    kept.agent.signal(Signal::SIGSTOP);
    let outcome = agent::expect(&kept.net.host, "status", 0);
    kept.agent.signal(Signal::SIGCONT);

    assert!(outcome.stderr.contains("ask the agent at"), "{outcome:#?}");
    assert!(
        outcome.stdout.contains("agent         none answers"),
        "{outcome:#?}"
    );
}

#[test]
fn reload_says_what_became_of_the_file() {
    let Kept { agent, net } = Kept::new();
    let reload = |code| agent::expect(&net.host, "reload", code);

    let nothing = reload(0).stdout;
    assert!(
        nothing.starts_with("node edge-1: nothing to do, in "),
        "{nothing}"
    );
    net.write(without_api());
    let applied = reload(0).stdout;
    assert!(applied.starts_with("node edge-1: applied, "), "{applied}");
    net.write("[[node]]\nname = 1\n");
    let refused = reload(78).stderr;
    let place = format!("{}:2:8: error: ", net.file.display());
    assert!(
        refused.starts_with(&place),
        "for editors to find: {refused}"
    );
    net.api.run("ip link add eth0 type veth peer name other");
    net.write(FILE);
    let failed = reload(71).stderr;
    assert!(failed.contains("eth0"), "{failed}");
    net.ping_all();

    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    let nobody = reload(69).stderr;
    assert!(
        nobody.contains("no agent answers at /run/ciliate/edge-1/ctl.sock"),
        "{nobody}"
    );
    net.down();
    reload(69);
}

#[test]
fn nothing_is_on_trial() {
    let _kept = Kept::new();

    let mut socket = connect();
    socket
        .write_all(b"{\"request\":\"confirm\"}\n")
        .expect("ask");

    assert_eq!(
        answer(socket),
        "{\"reply\":\"confirm\",\"confirmed\":false}\n"
    );
}

#[test]
fn only_root_and_the_group_may_ask() {
    let kept = Kept::new();
    let mode = fs::metadata(SOCKET)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);

    let stranger = kept.execute_as("65534", "--clear-groups", "reload");
    assert_eq!(stranger.code, Some(77), "{stranger:#?}");
    let member = kept.execute_as("65534", "--groups=0", "reload");
    assert_eq!(member.code, Some(0), "{member:#?}");
    // Whoever opens the door does not let them in.
    fs::set_permissions(SOCKET, Permissions::from_mode(0o666)).expect("set the mode");
    let stranger = kept.execute_as("65534", "--clear-groups", "reload");

    assert_eq!(stranger.code, Some(77), "{stranger:#?}");
    assert!(
        stranger
            .stderr
            .contains("user 65534 may not speak with the agent"),
        "{stranger:#?}"
    );
    kept.agent.expect_log("CIL0112: process ");
}

#[test]
fn requests_that_are_none_are_told_and_hinder_nobody() {
    let kept = Kept::new();

    let mut long = connect();
    // The agent hangs up in the middle.
    let _ = long.write_all(&vec![b'x'; 1 << 20]);
    assert!(answer(long).contains("at most 4096 bytes"));
    let mut nonsense = connect();
    nonsense.write_all(b"reload\n").expect("ask");
    assert!(answer(nonsense).contains("\"reply\":\"error\""));

    agent::expect(&kept.net.host, "reload", 0);
}

#[test]
fn clients_that_never_ask_or_never_read_keep_the_agent_from_nothing() {
    let kept = Kept::new();

    let silent: Vec<_> = (0..8).map(|_| connect()).collect();
    let deaf: Vec<_> = (0..7)
        .map(|_| {
            let mut socket = connect();
            socket
                .write_all(b"{\"request\":\"status\"}\n")
                .expect("ask");
            socket
        })
        .collect();

    let host = &kept.net.host;
    kept.expect_repair(host, "tc filter del dev lxcweb ingress", ANNOUNCED);
    agent::expect(host, "reload", 0);
    drop((silent, deaf));
}

#[test]
fn agent_replaces_the_socket_of_one_that_was_killed() {
    let Kept { agent, net } = Kept::new();
    assert_eq!(agent.end(Signal::SIGKILL), None);
    assert!(Path::new(SOCKET).exists(), "it is left behind");
    agent::expect(&net.host, "reload", 69);

    let agent = start(&net);
    agent::expect(&net.host, "reload", 0);

    assert_eq!(agent.end(Signal::SIGKILL), None);
    net.down();
    assert!(
        !Path::new("/run/ciliate").exists(),
        "nothing should be left"
    );
}

#[test]
fn agent_goes_on_without_a_socket_where_its_path_would_be_too_long() {
    let net = OneNode::prepared();
    let states = format!("/run/{}", "long".repeat(25));
    let mut command = Command::new(agent::binary());
    command.args(["--state-dir", &states, "run"]).arg(&net.file);

    let agent = Resident::start_command(&net.machine, &net.host, command);

    agent.expect_log("CIL0111: make control socket /run/long");
    net.ping_all();
    agent::expect(&net.host, &format!("--state-dir {states} reload"), 69);
    agent::expect(&net.host, &format!("--state-dir {states} status"), 0);
}

#[test]
fn dump_prints_the_maps_as_they_are() {
    let net = OneNode::new();
    net.ping_all();

    let dump = agent::json(&net.host, "dump");

    let maps = dump["maps"].as_array().expect("a list");
    let entries = |name: &str| {
        let map = maps.iter().find(|map| map["name"] == name).expect(name);
        map["entries"].as_array().expect("a list").clone()
    };
    let endpoints = entries("ENDPOINTS");
    assert!(endpoints.len() >= 3, "{endpoints:#?}");
    let addresses = entries("LOCAL4");
    let web = addresses.iter().any(|entry| entry["key"] == "0a00010a");
    assert!(web, "10.0.1.10 should be there: {addresses:#?}");
    assert!(!entries("FLOWS6").is_empty());
}

#[test]
fn usr1_tells_the_log_what_the_agent_knows() {
    let kept = Kept::new();

    kept.agent.signal(Signal::SIGSTOP);
    kept.net.host.run("ip link set lxcapi down");
    kept.agent.signal(Signal::SIGUSR1);
    kept.agent.signal(Signal::SIGCONT);
    kept.agent.expect_log("descriptors are open");

    let log = kept.agent.log();
    for line in [
        &format!("dump: process {} since ", kept.agent.pid()),
        "ciliate.toml is applied since ",
        "dump: looks at the node in ",
        "dump: differs: ip link set lxcapi up",
        "dump: map FLOWS4: ",
    ] {
        assert!(log.contains(line), "{line:?} is missing: {log}");
    }
}
