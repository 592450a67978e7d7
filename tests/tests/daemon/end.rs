//! An agent that ends, however it does, changes nothing for traffic.

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::stream::Stream;
use tests::party::Family;

use super::{Kept, start};

#[test]
fn agents_come_and_go_and_no_packet_is_lost() {
    let Kept { agent, net } = Kept::new();
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    net.ping_all();
    assert_eq!(start(&net).end(Signal::SIGKILL), None);
    net.ping_all();
    assert_eq!(start(&net).end(Signal::SIGINT), Some(0));

    stream.expect_complete();
    net.ciliate("plan", 0);
}

#[test]
fn nothing_is_left_after_an_agent_and_down() {
    let Kept { agent, net } = Kept::new();
    net.host.run("tc filter del dev lxcweb ingress");
    agent.expect_log("repaired: ");

    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    net.down();

    let left = net.inventory();
    assert!(!left.contains("ciliate"), "nothing should be left");
    agent::expect(&net.host, "status", 69);
}

#[test]
fn node_is_not_taken_down_while_an_agent_keeps_it() {
    let kept = Kept::new();

    let outcome = agent::expect(&kept.net.host, "down", 71);

    let holder = format!("process {}", kept.agent.pid());
    assert!(
        outcome.stderr.contains("stop the agent first") && outcome.stderr.contains(&holder),
        "{outcome:#?}"
    );
    kept.net.ciliate("plan", 0);
}
