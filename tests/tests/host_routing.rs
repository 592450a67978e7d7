//! How packets get from one device to the other: past the host's stack or through it, and why.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::lab::conversation::bound;
use tests::lab::namespace::Namespace;
use tests::lab::node::ping;
use tests::lab::offload::Offload;
use tests::lab::outside::Outside;
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::lab::uninterrupted;
use tests::party::Family;

/// A firewall that lets nothing pass to a port.
const FIREWALL: &str = "table inet filter {
 chain forward {
  type filter hook forward priority 0; policy accept
  ip saddr 10.0.1.0/24 tcp dport 25 drop
 }
}
";
/// What is said of it.
const RULE: &str = "nftables: table inet filter, chain forward, handle 2: ";
/// Counts what the stack forwards.
const COUNTER: &str = "table inet count {
 counter forwarded { }
 chain forward {
  type filter hook forward priority 0; policy accept
  counter name forwarded
 }
}
";
const SWITCHES: usize = 20;
/// Datagrams every half millisecond: about 50,000 a second, for a sleep is longer than asked for.
const BURST: u64 = 40;
/// How long packets go one way before they are sent the other.
const TURN: Duration = Duration::from_millis(50);
/// How long the agent may take to notice what nobody announces: twice the time between its looks.
const FOLLOWED: Duration = Duration::from_secs(10);

fn load(net: &Outside, ruleset: &str) {
    let file = net.net.machine.write("rules.nft", ruleset);
    net.net.host.run(&format!("nft -f {}", file.display()));
}

/// Returns how many packets the node's stack has forwarded.
fn forwarded(host: &Namespace) -> u64 {
    let text = host.run("nft -j list counter inet count forwarded");
    let json: Value = serde_json::from_str(&text).expect("nft prints JSON");
    let listed = json["nftables"].as_array().expect("a list");
    let counter = listed.iter().find_map(|entry| entry.get("counter"));
    counter.expect("is there")["packets"]
        .as_u64()
        .expect("a number")
}

#[test]
fn auto_goes_through_the_stack_for_a_firewall_and_names_its_rule() {
    let net = Outside::new();
    load(&net, FIREWALL);
    net.write("auto");

    let plan = net.net.ciliate("plan", 2).stdout;
    let applied = net.net.apply();

    let (mode, reason) = net.host_routing();
    assert_eq!(mode, "legacy");
    assert!(reason.contains(RULE), "{reason}");
    let said = format!("Host routing: legacy ({reason}).");
    assert!(plan.contains(&said), "{said} {plan}");
    assert!(applied.stderr.contains(&reason), "{reason} {applied:#?}");
    let again = net.net.ciliate("plan", 0).stdout;
    assert!(again.contains(&said), "{said} {again}");
    net.expect_traffic();
}

#[test]
fn bpf_is_refused_for_a_firewall_in_the_same_words() {
    let net = Outside::new();
    load(&net, FIREWALL);
    net.write("auto");
    net.net.apply();
    let (_, reason) = net.host_routing();
    let (_, rule) = reason.split_once(": ").expect("a colon before the rule");
    net.write("bpf");

    for verb in ["plan", "apply"] {
        let refused = net.net.ciliate(verb, 71);
        assert!(refused.stderr.contains(rule), "{rule} {refused:#?}");
    }

    assert_eq!(net.host_routing(), ("legacy".into(), reason), "should stay");
    net.expect_traffic();
}

#[test]
fn plan_and_status_agree_whatever_is_asked() {
    let net = Outside::new();

    for (asked, mode) in [("auto", "bpf"), ("bpf", "bpf"), ("legacy", "legacy")] {
        net.apply(asked);

        let (seen, reason) = net.host_routing();
        assert_eq!(seen, mode, "of {asked}");
        let plan = net.net.ciliate("plan", 0).stdout;
        let said = format!("Host routing: {mode} ({reason}).");
        assert!(plan.contains(&said), "{said} {plan}");
    }
}

#[test]
fn legacy_takes_everything_through_the_stack() {
    for offload in Offload::BOTH {
        let net = Outside::new();
        net.apply("legacy");
        for place in [&net.net.host, &net.world, &net.net.web, &net.net.db] {
            offload.set_in(place);
        }
        load(&net, COUNTER);

        net.expect_traffic();

        assert!(forwarded(&net.net.host) > 0, "the stack should forward");
    }
}

#[test]
fn bpf_takes_nothing_through_the_stack() {
    for offload in Offload::BOTH {
        let net = Outside::new();
        net.apply("bpf");
        for place in [&net.net.host, &net.world, &net.net.web, &net.net.db] {
            offload.set_in(place);
        }
        // Neighbours that are not known yet are found by the stack.
        for family in Family::BOTH {
            ping(&net.net.host, Outside::far(family));
        }
        load(&net, COUNTER);

        net.expect_traffic();

        let count = forwarded(&net.net.host);
        assert_eq!(count, 0, "the stack should forward nothing");
    }
}

#[test]
fn firewall_that_is_obeyed_drops_what_it_drops() {
    let net = Outside::new();
    load(&net, &FIREWALL.replace("tcp dport 25", "udp dport 53"));
    net.apply("auto");
    let far = Outside::far(Family::V4);
    let server = net.world.inside(|| std::net::UdpSocket::bind((far, 53)));
    let server = server.expect("bind");
    server
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a socket has a timeout");

    let client = bound(&net.net.web, net.net.address("web", Family::V4));
    client.send_to(b"question", (far, 53)).expect("send");

    assert!(
        uninterrupted(|| server.recv(&mut [0; 64])).is_err(),
        "should not arrive"
    );
    net.expect_traffic();
}

/// Waits until the node's packets go this way, which the agent finds out by itself.
fn expect_mode(net: &Outside, mode: &str) {
    let start = Instant::now();
    while net.host_routing().0 != mode {
        assert!(
            start.elapsed() < FOLLOWED,
            "{mode}, not {:?}",
            net.host_routing()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn agent_follows_a_firewall_that_comes_and_goes() {
    let net = Outside::new();
    net.write("auto");
    let file = net.net.file.display().to_string();
    let agent = Resident::start(&net.net.machine, &net.net.host, &file);
    expect_mode(&net, "bpf");

    load(&net, FIREWALL);
    expect_mode(&net, "legacy");
    let (_, reason) = net.host_routing();
    assert!(reason.contains(RULE), "{reason}");
    agent.expect_log(&reason);
    net.expect_traffic();

    net.net.host.run("nft delete table inet filter");
    expect_mode(&net, "bpf");
    net.expect_traffic();
}

/// Starts streams that every way of the node's packets is part of.
fn streams(net: &Outside) -> Vec<Stream> {
    let inside = &net.net;
    let mut started = Vec::new();
    for family in Family::BOTH {
        started.push(Stream::start(&inside.web, &net.world, Outside::far(family)));
        started.push(Stream::start(
            &inside.web,
            &inside.db,
            inside.address("db", family),
        ));
        started.push(Stream::start(
            &inside.host,
            &inside.api,
            inside.address("api", family),
        ));
    }
    started
}

#[test]
fn switching_loses_nothing() {
    let net = Outside::new();
    net.apply("bpf");
    let streams = streams(&net);

    for turn in 0..SWITCHES {
        let mode = ["legacy", "bpf"][turn % 2];
        net.apply(mode);
        assert_eq!(net.host_routing().0, mode);
    }

    streams.into_iter().for_each(Stream::expect_complete);
}

#[test]
fn switching_loses_nothing_of_a_fast_stream() {
    let net = Outside::new();
    net.apply("bpf");
    let far = Outside::far(Family::V4);
    let stream = Stream::start_bursts(&net.net.web, &net.world, far, BURST);

    for turn in 0..SWITCHES {
        net.apply(["legacy", "bpf"][turn % 2]);
        thread::sleep(TURN);
    }

    stream.expect_complete();
}

#[test]
fn agent_that_switches_loses_nothing() {
    let net = Outside::new();
    net.write("bpf");
    let file = net.net.file.display().to_string();
    let agent = Resident::start(&net.net.machine, &net.net.host, &file);
    let streams = streams(&net);

    for turn in 0..SWITCHES {
        let mode = ["legacy", "bpf"][turn % 2];
        net.write(mode);
        agent.signal(nix::sys::signal::Signal::SIGHUP);
        tests::lab::wait_until("the agent has switched", || net.host_routing().0 == mode);
        thread::sleep(TURN);
    }

    streams.into_iter().for_each(Stream::expect_complete);
}
