//! Trials beside an agent: it keeps the node as tried, and then as before.

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::inventory::Inventory;
use tests::lab::node::{FILE, OneNode};
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::lab::trial::{self, Trial};
use tests::lab::wait_until;
use tests::party::Family;

use super::{ANNOUNCED, Kept, repairs, start};
use super::{has_api, without_api};

/// Longer than any test.
const LONG: u32 = 60;

/// Is a node without `api` that an agent keeps, and another file, in which it has one. The agent's own
/// file is not edited: that would be no trial.
struct Edited {
    agent: Resident,
    net: OneNode,
    file: String,
    before: Inventory,
}

impl Edited {
    fn new() -> Self {
        let net = OneNode::prepared();
        for place in [&net.web, &net.db, &net.api] {
            // The kernel's own link-local addresses would become valid in the middle of the test.
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        net.write(without_api());
        let agent = start(&net);
        // So that the agent has its file of repairs.
        net.host.run("ip link set lxcdb down");
        wait_until("db is repaired", || repairs() == 1);
        net.ping_all();
        let before = net.inventory();
        let file = net.machine.write("new.toml", FILE).display().to_string();
        Self {
            agent,
            net,
            file,
            before,
        }
    }

    fn start(&self, timeout: u32) -> Trial {
        let net = &self.net;
        let line = format!("try {} --timeout {timeout}", self.file);
        Trial::start(&net.machine, &net.host, "edge-1", &line).wait_for_answer()
    }

    /// Goes on as a node that is kept.
    fn into_kept(self) -> Kept {
        let Self { agent, net, .. } = self;
        Kept { agent, net }
    }
}

#[test]
fn agent_follows_a_trial_and_follows_it_back_and_repairs_both() {
    let edited = Edited::new();
    let net = &edited.net;
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    let mut trial = edited.start(LONG);
    edited.agent.expect_log("new.toml was applied");
    net.host.run("ip link set lxcapi down");
    wait_until("what is tried is repaired", || repairs() == 2);
    trial::signal(trial.guard(), Signal::SIGINT);
    assert_eq!(trial.code(), Some(75), "{}", trial.log());

    expect_taken_back(net, &edited.before);
    stream.expect_complete();
    let kept = edited.into_kept();
    kept.expect_repair_alone(&kept.net.host, "ip link set lxcdb down", ANNOUNCED);
    assert!(!has_api(&kept.net), "the agent should not bring api back");
    assert_eq!(repairs(), 3, "neither way of a trial is a repair");
}

#[test]
fn agent_keeps_what_was_confirmed() {
    let edited = Edited::new();

    let mut trial = edited.start(LONG);
    edited.agent.expect_log("new.toml was applied");
    agent::expect(&edited.net.host, "confirm", 0);
    assert_eq!(trial.code(), Some(0), "{}", trial.log());

    let kept = edited.into_kept();
    kept.expect_repair_alone(&kept.net.host, "ip link set lxcapi down", ANNOUNCED);
}

#[test]
fn agent_takes_a_trial_back_whose_guard_was_killed() {
    let edited = Edited::new();

    edited.start(LONG).kill();

    wait_until("the agent has noticed", || {
        edited.agent.log().contains("CIL0120: ") && !has_api(&edited.net)
    });
    expect_taken_back(&edited.net, &edited.before);
}

#[test]
fn agent_that_is_killed_with_the_guard_is_succeeded_by_one_that_takes_the_trial_back() {
    let edited = Edited::new();
    let trial = edited.start(LONG);
    edited.agent.signal(Signal::SIGKILL);
    trial.kill();
    let Edited {
        agent,
        net,
        file,
        before,
    } = edited;
    drop(agent);
    assert!(has_api(&net), "nobody has taken it back yet");

    // With the file that was tried, as if it had been edited in place.
    let start = || Resident::start(&net.machine, &net.host, &file);
    let agent = start();

    let log = agent.log();
    assert!(log.contains("CIL0120: "), "the trial is taken back: {log}");
    assert!(log.contains("CIL0122: "), "and not begun anew: {log}");
    expect_taken_back(&net, &before);
    agent.signal(Signal::SIGHUP);
    wait_until("who asks for it gets it", || has_api(&net));
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    let agent = start();
    assert!(has_api(&net) && !agent.log().contains("CIL0122"));
}

#[test]
fn agent_that_starts_during_a_trial_follows_what_becomes_of_it() {
    let edited = Edited::new();
    let mut trial = edited.start(LONG);
    let Edited {
        agent, net, before, ..
    } = edited;
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));

    let agent = start(&net);

    assert!(has_api(&net), "it should leave the trial alone");
    trial::signal(trial.guard(), Signal::SIGINT);
    assert_eq!(trial.code(), Some(75), "{}", trial.log());
    agent.expect_log("was applied");
    expect_taken_back(&net, &before);
}

#[test]
fn file_is_not_taken_anew_during_a_trial() {
    let edited = Edited::new();
    let mut trial = edited.start(LONG);

    edited.agent.expect_log("new.toml was applied");
    edited.net.machine.write("new.toml", without_api());
    edited.agent.signal(Signal::SIGHUP);
    edited.agent.expect_log("CIL0104: ");

    assert!(has_api(&edited.net), "it is still on trial");
    assert!(edited.agent.log().contains("a trial by process "));
    trial::signal(trial.guard(), Signal::SIGUSR1);
    assert_eq!(trial.code(), Some(0), "{}", trial.log());
}

#[test]
fn agent_does_not_keep_a_node_that_may_be_gone_after_its_trial() {
    let net = OneNode::prepared();
    let line = format!("try {}", net.file.display());
    let mut trial = Trial::start(&net.machine, &net.host, "edge-1", &line).wait_for_answer();

    let refused = net.ciliate("run", 71);

    assert!(
        refused.stderr.contains("a trial by process "),
        "{refused:#?}"
    );
    trial::signal(trial.guard(), Signal::SIGINT);
    assert_eq!(trial.code(), Some(75), "{}", trial.log());
    agent::expect(&net.host, "status", 69);
}

fn expect_taken_back(net: &OneNode, before: &Inventory) {
    let line = format!("plan {}", net.file.display());
    wait_until("nothing is left to do", || {
        agent::ciliate(&net.host, &line).code == Some(0)
    });
    before.expect_same(&net.inventory(), "after the trial");
}
