//! What others change is repaired, told and counted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::{OneNode, answers, ping, pins};
use tests::lab::outside::Outside;
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::lab::wait_until;
use tests::party::Family;

use super::{ANNOUNCED, Kept, UNANNOUNCED, repairs};

#[test]
fn announced_changes_are_repaired_within_a_second() {
    let kept = Kept::new();
    let net = &kept.net;

    for (place, damage) in [
        (&net.host, "tc filter del dev lxcweb ingress"),
        (&net.host, "tc qdisc del dev lxcdb clsact"),
        (&net.host, "ip link set lxcapi down"),
        (&net.host, "ip route del 10.0.1.0/24"),
        (&net.host, "ip address del 10.0.1.1/32 dev cilium_host"),
        (&net.host, "ip link del lxcdb"),
        (&net.host, "net/ipv4/conf/cilium_host/forwarding=0"),
        (&net.host, "net/ipv4/conf/cilium_host/rp_filter=1"),
        (&net.web, "ip route del default"),
        (&net.web, "ip -6 address del fd00:1::10/128 dev eth0"),
        (&net.api, "ip link del eth0"),
        (
            &net.host,
            &format!("rm {}/cilium_host_egress", pins().links().display()),
        ),
        (&net.host, &format!("rm -r {}", pins().root().display())),
        (&net.host, "ip link del cilium_host"),
    ] {
        kept.expect_repair(place, damage, ANNOUNCED);
    }
    net.ping_all();
}

#[test]
fn changes_that_nobody_announces_are_repaired_by_the_next_check() {
    let kept = Kept::new();
    let host = &kept.net.host;

    let damage = "net/ipv4/conf/cilium_host/send_redirects=1";
    kept.expect_repair(host, damage, UNANNOUNCED);
    kept.net.ping_all();
}

#[test]
fn repair_is_told_once_and_counted_by_status() {
    let kept = Kept::new();
    let before = kept.net.status();
    assert_eq!(
        before["drift"],
        serde_json::json!({"repairs": 0, "last": null})
    );

    kept.expect_repair(&kept.net.host, "ip link del lxcweb", ANNOUNCED);

    let status = kept.net.status();
    assert_eq!(status["drift"]["repairs"], 1, "{status:#}");
    let last = status["drift"]["last"].as_str().unwrap_or_default();
    assert!(last.contains("lxcweb"), "{status:#}");
    let log = kept.agent.log();
    assert_eq!(log.matches("repaired: ").count(), 1, "{log}");
}

#[test]
fn lost_announcements_make_the_agent_look_at_everything() {
    let net = OneNode::prepared();
    let mut command = Command::new(agent::binary());
    command.args(["--log-level", "debug", "run"]).arg(&net.file);
    let agent = Resident::start_command(&net.machine, &net.host, command);
    let kept = Kept { agent, net };
    let host = &kept.net.host;
    host.run("ip link add noise type veth peer name silence");
    let mut burst = String::new();
    for mtu in 1000..3000 {
        writeln!(burst, "link set noise mtu {mtu}").expect("a text grows");
    }
    let burst = kept.net.machine.write("burst", &burst);

    kept.agent.signal(Signal::SIGSTOP);
    host.run(&format!("ip -batch {}", burst.display()));
    host.run("tc filter del dev lxcweb ingress");
    let before = repairs();
    kept.agent.signal(Signal::SIGCONT);

    kept.agent.expect_log("announcements were lost");
    wait_until("what was lost is repaired", || repairs() > before);
    kept.net.ping_all();
}

#[test]
fn who_keeps_undoing_a_repair_is_named_and_others_are_repaired_meanwhile() {
    let kept = Kept::new();
    let (host, over) = (&kept.net.host, &AtomicBool::new(false));

    thread::scope(|scope| {
        scope.spawn(move || {
            // One process, which is still there when its changes are announced.
            let mut command = Command::new("tc");
            command
                .args(["-force", "-batch", "-"])
                .stdin(Stdio::piped());
            let started = host.inside(|| command.stderr(Stdio::null()).spawn());
            let mut fighter = started.expect("start tc");
            let mut orders = fighter.stdin.take().expect("a pipe");
            while !over.load(Ordering::Relaxed) {
                orders
                    .write_all(b"filter del dev lxcweb ingress\n")
                    .expect("order");
                thread::sleep(Duration::from_millis(100));
            }
            drop(orders);
            fighter.wait().expect("tc ends");
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kept.agent
                .expect_log("CIL0101: tc filter add dev lxcweb ingress");
            kept.agent.expect_log("perhaps tc (pid ");
            let before = repairs();
            host.run("ip link set lxcapi down");
            wait_until("the other endpoint is repaired", || repairs() > before);
            assert!(host.run("ip link show lxcapi").contains("UP"));
            let found = kept.net.ciliate("doctor", 1).stdout;
            for text in ["CIL0101: `tc filter add dev lxcweb ingress", "tc (pid "] {
                assert!(found.contains(text), "{found}");
            }
        }));
        over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    kept.expect_nothing_to_do();
}

#[test]
fn process_that_keeps_undoing_a_repair_is_named() {
    let kept = Kept::new();
    let mut command = Command::new("tc");
    command.args(["-force", "-batch", "-"]);
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut other = kept.net.host.inside(|| command.spawn()).expect("start tc");
    let mut stdin = other.stdin.take().expect("a pipe");

    wait_until("the agent has had enough", || {
        // What is not there cannot be removed.
        stdin
            .write_all(b"filter del dev lxcweb ingress\n")
            .expect("tc reads");
        thread::sleep(Duration::from_millis(50));
        kept.agent.log().contains("CIL0101: ")
    });
    let status = kept.net.status();
    drop(stdin);
    other.wait().expect("tc ends");

    let author = format!("tc (pid {}, started by ", other.id());
    let log = kept.agent.log();
    assert!(log.contains(&format!("perhaps {author}")), "{log}");
    let told = status["agent"]["spared"][0]["author"].as_str();
    assert!(
        told.is_some_and(|told| told.starts_with(&author)),
        "{status:#}"
    );
    kept.expect_nothing_to_do();
}

#[test]
fn endpoint_whose_namespace_goes_is_joined_again_when_it_comes() {
    let kept = Kept::new();
    let net = &kept.net;

    net.host.run("ip netns del db");
    kept.agent.expect_log("CIL0102: endpoint db");
    kept.expect_repair_alone(&net.host, "tc filter del dev lxcweb ingress", ANNOUNCED);
    ping(&net.web, net.address("api", Family::V4));
    net.host.run("ip netns add db");

    wait_until("db is joined again", || is_joined(&net.db));
    kept.expect_nothing_to_do();
    net.ping_all();
}

#[test]
fn endpoint_that_cannot_be_repaired_does_not_hinder_the_others() {
    let kept = Kept::new();
    let net = &kept.net;

    kept.agent.signal(Signal::SIGSTOP);
    net.web.run("ip link del eth0");
    net.web.run("ip link add eth0 type veth peer name other");
    net.host.run("ip link set lxcapi down");
    kept.agent.signal(Signal::SIGCONT);

    kept.agent.expect_log("CIL0103: ");
    wait_until("the other endpoint is repaired", || {
        net.host.run("ip link show lxcapi").contains(",UP")
    });
    ping(&net.db, net.address("api", Family::V4));
    net.web.run("ip link del eth0");
    wait_until("web is joined again", || {
        kept.agent
            .log()
            .contains("all of the node is looked at and repaired again")
    });
    kept.expect_nothing_to_do();
    net.ping_all();
}

#[test]
fn namespaces_that_come_and_go_do_not_end_the_agent() {
    let kept = Kept::new();
    let net = &kept.net;
    let stream = Stream::start(&net.web, &net.api, net.address("api", Family::V4));

    // More often, and the agent would take its time.
    for _ in 0..4 {
        net.host.run("ip netns del db");
        net.host.run("ip netns add db");
        thread::sleep(Duration::from_millis(30));
    }

    wait_until("db is joined again", || is_joined(&net.db));
    kept.expect_nothing_to_do();
    stream.expect_complete();
    net.ping_all();
}

pub(super) fn is_joined(db: &Namespace) -> bool {
    let addresses = db.attempt("ip address show dev eth0").stdout;
    addresses.contains("10.0.1.11") && addresses.contains("fd00:1::11")
}

#[test]
fn device_that_goes_hinders_no_other_repair_and_is_joined_again() {
    let net = Outside::new();
    net.write("bpf");
    let file = net.net.file.display().to_string();
    let agent = Resident::start(&net.net.machine, &net.net.host, &file);
    let far = Outside::far(Family::V4);
    let web = net.net.address("web", Family::V4);
    wait_until("the node is set up", || answers(&net.net.web, far));

    net.net.host.run("ip link delete up0");
    agent.expect_log("CIL0208");
    net.net.host.run("ip link delete lxcweb");

    wait_until("the endpoint is connected again", || {
        answers(&net.net.host, web)
    });
    net.join();
    wait_until("the device is joined again", || answers(&net.net.web, far));
    net.expect_traffic();
    let log = agent.log();
    assert!(!log.contains("CIL0103"), "nothing should fail: {log}");
}
