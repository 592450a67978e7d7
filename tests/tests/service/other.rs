//! What other managers of the network do when they start, reload or flush: endpoints keep talking,
//! or what is gone is back within a second.

use std::thread;
use std::time::{Duration, Instant};

use tests::lab::firewall::Kind;
use tests::lab::node::{OneNode, answers};
use tests::lab::outside::Outside;
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::lab::wait_until;
use tests::party::Family;

use super::start;

/// How long endpoints may be cut off, and what that is on a machine that others work on as well.
const REPAIRED: Duration = Duration::from_secs(1);
const BUSY: u32 = 3;

/// How long a stream flows around a disturbance.
const FLOW: Duration = Duration::from_millis(300);

/// Returns what our routes are, as text.
fn routes(net: &OneNode) -> String {
    let of = |family| net.host.run(&format!("ip {family} route show proto 193"));
    of("-4") + &of("-6")
}

#[test]
fn routes_that_networkd_flushes_are_back_within_a_second_and_endpoints_keep_talking() {
    let net = OneNode::prepared();
    let _agent = start(&net);
    let before = routes(&net);
    assert!(before.contains("10.0.1.0/24"), "{before}");
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    // As it does with `ManageForeignRoutes=yes`: every route and rule that is not its own.
    let start = Instant::now();
    for family in ["-4", "-6"] {
        net.host
            .attempt(&format!("ip {family} route flush proto 193"));
        net.host.attempt(&format!("ip {family} rule flush"));
        net.host
            .run(&format!("ip {family} rule add pref 32766 table main"));
        net.host
            .run(&format!("ip {family} rule add pref 0 table local"));
    }
    while routes(&net) != before {
        assert!(start.elapsed() < REPAIRED * BUSY, "should be repaired");
        thread::sleep(Duration::from_millis(5));
    }

    eprintln!("routes are back after {:?}", start.elapsed());
    stream.expect_complete();
    net.ping_all();
}

#[test]
fn flushed_rules_of_nftables_cost_endpoints_nothing() {
    let net = Outside::new();
    net.write("bpf");
    let file = net.net.file.display().to_string();
    let _agent = Resident::start(&net.net.machine, &net.net.host, &file);
    let (web, db) = (&net.net.web, &net.net.db);
    let near = Stream::start(web, db, net.net.address("db", Family::V4));
    let far = Stream::start(web, &net.world, Outside::far(Family::V4));
    thread::sleep(FLOW);

    for _ in 0..5 {
        net.net.host.run("nft flush ruleset");
        net.net.host.run("nft add table inet mine");
    }
    net.net.host.run("nft flush ruleset");
    thread::sleep(FLOW);

    near.expect_complete();
    far.expect_complete();
    net.expect_traffic();
}

#[test]
fn dockers_chains_cost_endpoints_nothing_that_are_routed_past_the_stack() {
    let net = Outside::new();
    net.write("bpf");
    let file = net.net.file.display().to_string();
    let agent = Resident::start(&net.net.machine, &net.net.host, &file);
    let (web, db) = (&net.net.web, &net.net.db);
    let near = Stream::start(web, db, net.net.address("db", Family::V4));
    let far = Stream::start(web, &net.world, Outside::far(Family::V4));

    let _docker = Kind::Docker.start(&net.net.machine);
    thread::sleep(REPAIRED);

    near.expect_complete();
    far.expect_complete();
    let api = net.net.address("api", Family::V4);
    net.net.host.run("ip link del lxcapi");
    wait_until("what else is damaged is repaired", || answers(web, api));
    eprintln!("{}", agent.log());
}
