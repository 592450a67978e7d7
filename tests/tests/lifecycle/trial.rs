//! A file on trial: confirmed, taken back, and what does not end it.

use std::fs;

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::inventory::Inventory;
use tests::lab::node::{FILE, OneNode};
use tests::lab::trial::{self, Trial, is_alive};
use tests::lab::wait_until;

/// Longer than any test that does not wait for it.
const LONG: u32 = 60;

/// Is a node without `api`, and its file edited in place, so that it has one.
struct Edited {
    net: OneNode,
    before: Inventory,
}

impl Edited {
    fn new() -> Self {
        let net = OneNode::prepared();
        for place in [&net.web, &net.db, &net.api] {
            // The kernel's own link-local addresses would become valid in the middle of the test.
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        net.write(&without_api());
        net.converge();
        let before = net.inventory();
        net.write(FILE);
        Self { net, before }
    }

    fn line(&self, timeout: u32) -> String {
        format!("try {} --timeout {timeout}", self.net.file.display())
    }

    fn start(&self, timeout: u32) -> Trial {
        let net = &self.net;
        Trial::start(&net.machine, &net.host, "edge-1", &self.line(timeout)).wait_for_answer()
    }

    fn start_at_a_terminal(&self, timeout: u32) -> Trial {
        let net = &self.net;
        let line = self.line(timeout);
        Trial::at_a_terminal(&net.machine, &net.host, "edge-1", &line).wait_for_answer()
    }

    fn expect_kept(&self, means: &str) {
        assert!(has_api(&self.net), "{means} should keep api");
        self.net.ciliate("plan", 0);
        self.net.ping_all();
        self.net.write(&without_api());
        self.net.apply();
        self.net.write(FILE);
        self.before.expect_same(&self.net.inventory(), means);
    }

    fn expect_taken_back(&self, means: &str) {
        self.before.expect_same(&self.net.inventory(), means);
        let file = fs::read_to_string(&self.net.file).expect("read the file");
        assert_eq!(
            file, FILE,
            "{means}: the operator's file should stay as it is"
        );
        self.net.write(&without_api());
        self.net.ciliate("plan", 0);
        self.net.write(FILE);
    }
}

/// Is a way to confirm a trial.
type Means = fn(&Edited, &mut Trial);

#[test]
fn what_is_confirmed_is_kept_whoever_confirms_it() {
    let edited = Edited::new();

    let by_verb: Means = |edited, _| {
        agent::expect(&edited.net.host, "confirm", 0);
    };
    let by_signal: Means = |_, trial| trial::signal(trial.front(), Signal::SIGUSR1);
    let to_the_guard: Means = |_, trial| trial::signal(trial.guard(), Signal::SIGUSR1);
    for (name, confirm) in [
        ("`ciliate confirm`", by_verb),
        ("USR1", by_signal),
        ("USR1 to the guard", to_the_guard),
    ] {
        let mut trial = edited.start(LONG);
        confirm(&edited, &mut trial);
        assert_eq!(trial.code(), Some(0), "{name}: {}", trial.log());
        edited.expect_kept(name);
    }
    for keys in ["\n", "y\n"] {
        let mut trial = edited.start_at_a_terminal(LONG);
        trial.types(keys);
        assert_eq!(trial.code(), Some(0), "{keys:?}");
        edited.expect_kept(keys);
    }
    agent::expect(&edited.net.host, "confirm", 69);
}

#[test]
fn what_is_rejected_is_taken_back_at_once_and_the_file_stays() {
    let edited = Edited::new();

    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for to_the_guard in [false, true] {
            let mut trial = edited.start(LONG);
            let pid = if to_the_guard {
                trial.guard()
            } else {
                trial.front()
            };
            trial::signal(pid, signal);
            assert_eq!(trial.code(), Some(75), "{signal}: {}", trial.log());
            edited.expect_taken_back(signal.as_str());
        }
    }
    for keys in ["\x03", "n\n"] {
        let mut trial = edited.start_at_a_terminal(LONG);
        trial.types(keys);
        assert_eq!(trial.code(), Some(75), "{keys:?}");
        edited.expect_taken_back(keys);
    }
}

#[test]
fn what_nobody_confirms_is_taken_back_at_the_deadline() {
    let edited = Edited::new();

    let mut trial = edited.start(1);

    assert_eq!(trial.code(), Some(75), "{}", trial.log());
    edited.expect_taken_back("the deadline");
    let log = trial.log();
    let says = |text: &str| assert!(log.contains(text), "should say {text:?}: {log}");
    says("Node edge-1 is on trial until ");
    says("ciliate.toml still says what was tried");
}

#[test]
fn terminal_that_goes_ends_nothing_and_the_deadline_does() {
    let edited = Edited::new();
    let mut trial = edited.start_at_a_terminal(2);
    let guard = trial.guard();

    trial.hang_up();

    assert_eq!(trial.code(), Some(75), "it should wait for the deadline");
    assert!(!is_alive(guard), "the guard should end with it");
    edited.expect_taken_back("the deadline");

    let mut trial = edited.start_at_a_terminal(LONG);
    trial.hang_up();
    agent::expect(&edited.net.host, "confirm", 0);
    assert_eq!(trial.code(), Some(0), "a new connection should confirm it");
    edited.expect_kept("`ciliate confirm`");
}

#[test]
fn guard_goes_on_whatever_becomes_of_the_process_at_the_terminal() {
    let edited = Edited::new();

    for end in [Signal::SIGKILL, Signal::SIGQUIT, Signal::SIGSTOP] {
        let trial = edited.start_at_a_terminal(2);
        let guard = trial.guard();
        trial::signal(trial.front(), end);
        wait_until("the guard has taken it back", || trial.record().is_null());
        wait_until("the guard is gone", || !is_alive(guard));
        drop(trial);
        edited.expect_taken_back(end.as_str());
    }
}

#[test]
fn terminal_that_takes_no_output_does_not_hold_the_guard_up() {
    const CTRL_S: &str = "\x13";
    let edited = Edited::new();
    let mut trial = edited.start_at_a_terminal(2);

    trial.types(CTRL_S);

    wait_until("it is taken back", || trial.record().is_null());
    trial.hang_up();
    assert_eq!(trial.code(), Some(75));
    edited.expect_taken_back("the deadline");
}

#[test]
fn node_that_was_not_there_before_is_gone_again() {
    let net = OneNode::prepared();
    let before = net.inventory();
    let line = format!("try {} --timeout 1", net.file.display());

    let mut trial = Trial::start(&net.machine, &net.host, "edge-1", &line).wait_for_answer();
    net.ping_all();
    assert_eq!(trial.code(), Some(75), "{}", trial.log());

    fs::remove_file("/run/test/trial.log").expect("remove the log");
    before.expect_same(&net.inventory(), "after the deadline");
    agent::expect(&net.host, "status", 69);
}

#[test]
fn file_that_is_wrong_or_cannot_be_applied_changes_nothing() {
    let edited = Edited::new();
    let net = &edited.net;

    net.write("[[node]]\nnmae = \"edge\"\n");
    net.ciliate("try", 78);
    net.write(&format!("{FILE}[[endpoint]]\nname = \"nobody\"\n"));
    net.ciliate("try", 71);
    agent::expect(&net.host, "try /nonexistent.toml", 78);
    for timeout in ["0", "2d", "x"] {
        net.ciliate(&format!("try --timeout {timeout}"), 64);
    }

    net.write(FILE);
    edited.expect_taken_back("a trial that did not begin");
    agent::expect(&net.host, "confirm", 69);
}

#[test]
fn trial_of_what_is_there_already_needs_no_confirmation() {
    let net = OneNode::new();

    let outcome = net.ciliate("try", 0);

    assert!(outcome.stdout.contains("Nothing to do"), "{outcome:#?}");
    agent::expect(&net.host, "confirm", 69);
}

#[test]
fn nobody_else_changes_a_node_on_trial_and_status_shows_it() {
    let edited = Edited::new();
    let (net, mut trial) = (&edited.net, edited.start(LONG));
    let guard = trial.guard();

    for verb in ["apply", "try", "down"] {
        let line = if verb == "down" {
            verb.to_owned()
        } else {
            format!("{verb} {}", net.file.display())
        };
        let refused = agent::expect(&net.host, &line, 71);
        let text = format!("a trial by process {guard} runs until ");
        assert!(refused.stderr.contains(&text), "{refused:#?}");
    }
    let status = &net.status()["trial"];
    assert_eq!(status["pid"], guard);
    assert_eq!(status["is_abandoned"], false);
    let left = status["left_secs"].as_u64().expect("a number");
    assert!((LONG / 2..=LONG).contains(&u32::try_from(left).expect("small")));
    let deadline = status["deadline"].as_str().unwrap_or_default();
    assert!(
        deadline.starts_with("20") && deadline.ends_with('Z'),
        "{status:#}"
    );
    let text = agent::expect(&net.host, "status", 0).stdout;
    assert!(text.contains("`ciliate confirm` keeps it"), "{text}");

    trial::signal(guard, Signal::SIGINT);
    assert_eq!(trial.code(), Some(75));
    assert!(net.status()["trial"].is_null());
}

#[test]
fn trial_whose_guard_is_killed_is_taken_back_by_whoever_comes_next() {
    let edited = Edited::new();
    let net = &edited.net;

    let told = |stderr: &str| assert!(stderr.contains("CIL0120: "), "{stderr}");
    for verb in ["apply", "try --timeout 1"] {
        edited.start(LONG).kill();
        assert!(has_api(net), "nobody has taken it back yet");
        assert_eq!(net.status()["trial"]["is_abandoned"], true);
        agent::expect(&net.host, "confirm", 69);

        net.write(&without_api());
        told(&net.ciliate(verb, 0).stderr);
        net.write(FILE);

        edited.expect_taken_back(verb);
    }
    edited.start(LONG).kill();
    net.down();
    assert!(
        !net.inventory().contains("ciliate"),
        "nothing should be left"
    );
}

#[test]
fn trial_without_its_guard_of_a_node_that_was_not_there_before_is_taken_back_first() {
    let net = OneNode::prepared();
    let before = net.inventory();
    let line = format!("try {}", net.file.display());
    let trial = Trial::start(&net.machine, &net.host, "edge-1", &line).wait_for_answer();
    trial.kill();

    let outcome = net.apply();

    assert!(outcome.stderr.contains("CIL0120: "), "{outcome:#?}");
    net.converge();
    net.down();
    fs::remove_file("/run/test/trial.log").expect("remove the log");
    before.expect_same(&net.inventory(), "after down");
}

#[test]
fn who_waits_for_a_guard_is_told_that_it_was_killed() {
    let edited = Edited::new();
    let mut trial = edited.start(LONG);

    trial::signal(trial.guard(), Signal::SIGKILL);

    assert_eq!(trial.code(), Some(71));
    assert!(
        trial.log().contains("SIGKILL ended the guard"),
        "{}",
        trial.log()
    );
    edited.net.write(&without_api());
    edited.net.apply();
    edited.net.write(FILE);
    edited.expect_taken_back("`ciliate apply`");
}

#[test]
fn trial_that_cannot_be_taken_back_at_once_is_when_it_can_be() {
    const DEVICE: &str = "[[device]]\nname = \"d0\"\n";
    let net = OneNode::prepared();
    for line in [
        "ip link add d0 type veth peer name d1",
        "ip link set d0 up",
        "ip link add br0 type bridge",
    ] {
        net.host.run(line);
    }
    let with_device = net.machine.write("device.toml", &format!("{FILE}{DEVICE}"));
    let with_device = with_device.display().to_string();
    agent::expect(&net.host, &format!("apply {with_device}"), 0);
    let line = format!("try {}", net.file.display());
    let start = || Trial::start(&net.machine, &net.host, "edge-1", &line).wait_for_answer();

    let mut trial = start();
    net.host.run("ip link set d0 master br0");
    trial::signal(trial.guard(), Signal::SIGINT);
    wait_until("it fails", || trial.log().contains("CIL0121: "));
    net.host.run("ip link set d0 nomaster");
    assert_eq!(trial.code(), Some(75), "{}", trial.log());
    agent::expect(&net.host, &format!("plan {with_device}"), 0);

    let trial = start();
    net.host.run("ip link set d0 master br0");
    trial.kill();
    let applied = net.apply();
    for code in ["CIL0120: ", "CIL0121: "] {
        assert!(applied.stderr.contains(code), "{applied:#?}");
    }
    net.converge();
    assert!(net.status()["trial"].is_null(), "apply is the way out");
}

#[test]
fn trial_begins_only_where_it_is_known_what_to_go_back_to() {
    let edited = Edited::new();
    let net = &edited.net;
    let edition = "/run/ciliate/edge-1/edition.json";
    fs::remove_file(edition).expect("it is there");

    let refused = net.ciliate("try", 71);
    assert!(refused.stderr.contains("is not recorded"), "{refused:#?}");
    assert!(!has_api(net), "nothing should be changed");

    // The file still says what was applied.
    net.write(&without_api());
    let other = net.machine.write("other.toml", FILE);
    let line = format!("try {} --timeout 1", other.display());
    agent::expect(&net.host, &line, 75);
    fs::remove_file(other).expect("remove a file");
    net.write(FILE);
    edited.expect_taken_back("the deadline");
}

fn without_api() -> String {
    let (without_api, _) = FILE
        .rsplit_once("[[endpoint]]")
        .expect("the file has endpoints");
    without_api.to_owned()
}

fn has_api(net: &OneNode) -> bool {
    net.host.run("ip -br link show").contains("lxcapi")
}
