//! A new file: by HUP, and by `apply` beside the agent.

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::node::FILE;
use tests::lab::stream::Stream;
use tests::lab::wait_until;
use tests::party::Family;

use super::{ANNOUNCED, Kept, has_api, repairs, without_api};

#[test]
fn hup_makes_the_node_what_the_file_says_now_and_loses_no_packet_of_others() {
    let kept = Kept::new();
    let net = &kept.net;
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V6));

    net.write(without_api());
    kept.agent.signal(Signal::SIGHUP);
    kept.agent.expect_log("the file is taken anew");

    wait_until("api is gone", || !has_api(net));
    net.ciliate("plan", 0);
    assert_eq!(repairs(), 0, "an edit is no repair");
    stream.expect_complete();
}

#[test]
fn hup_with_a_wrong_file_keeps_the_old_one() {
    let kept = Kept::new();

    kept.net.write("[[node]]\nname = 1\n");
    kept.agent.signal(Signal::SIGHUP);
    kept.agent.expect_log("CIL0104: ");

    let log = kept.agent.log();
    assert!(log.contains("ciliate.toml:2:8: error"), "{log}");
    kept.net.write(FILE);
    kept.expect_repair(&kept.net.host, "ip link set lxcapi down", ANNOUNCED);
}

#[test]
fn node_is_kept_as_it_was_applied_last() {
    let kept = Kept::new();
    let net = &kept.net;

    let other = net.machine.write("other.toml", without_api());
    let plan = format!("plan {}", other.display());
    agent::expect(&net.host, &format!("apply {}", other.display()), 0);

    kept.agent.expect_log("other.toml was applied");
    assert!(!has_api(net), "the agent should not bring api back");
    kept.expect_repair_alone(&net.host, "ip link set lxcdb down", ANNOUNCED);
    assert!(!has_api(net), "nor later");
    agent::expect(&net.host, &plan, 0);
}

#[test]
fn apply_beside_an_agent_at_work_waits_for_it() {
    let kept = Kept::new();

    for _ in 0..10 {
        kept.net.host.run("tc filter del dev lxcweb ingress");
        kept.net.apply();
    }

    kept.expect_nothing_to_do();
}
