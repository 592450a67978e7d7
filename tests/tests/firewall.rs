//! Firewalls that drop what `legacy` host routing forwards, and translate what others send: what is
//! said of them, and that the very commands which the doctor prints let everything pass.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use datapath::verdict::DropReason;
use serde_json::Value;
use tests::lab::agent;
use tests::lab::conversation::bound;
use tests::lab::firewall::Kind;
use tests::lab::namespace::Namespace;
use tests::lab::node::answers;
use tests::lab::outside::Outside;
use tests::lab::uninterrupted;
use tests::party::Family;

/// Is somebody behind the node who is no endpoint.
const STRANGER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);

/// Returns the commands that the doctor prints against dropping firewalls.
fn prescribed(net: &Outside) -> Vec<String> {
    let line = format!("--json doctor {}", net.net.file.display());
    let told = agent::expect(&net.net.host, &line, 1).stdout;
    let told: Value = serde_json::from_str(&told).expect("`--json` prints JSON");
    let findings = told["findings"].as_array().expect("a list");
    let of_firewalls = findings.iter().filter(|found| found["code"] == "CIL0203");
    let commands = of_firewalls.flat_map(|found| found["commands"].as_array().expect("a list"));
    let commands = commands.map(|command| command.as_str().expect("a text").to_owned());
    commands.collect()
}

fn expect_cure(kind: Kind, place: &str) {
    let net = Outside::new();
    net.net.host.run("ip link add docker0 type bridge");
    let _firewall = kind.start(&net.net.machine);
    net.write("legacy");

    let plan = net.net.ciliate("plan", 2).stdout;
    let refused = net.net.ciliate("apply", 71);
    let text = net.net.ciliate("doctor", 1).stdout;
    let commands = prescribed(&net);

    assert!(plan.contains("Warning CIL0203"), "{kind:?}: {plan}");
    assert!(refused.stderr.contains("CIL0203"), "{kind:?}: {refused:#?}");
    let links = net.net.host.run("ip -o link");
    assert!(!links.contains("cilium_host"), "nothing should be there");
    assert!(!commands.is_empty(), "{kind:?}: {text}");
    assert!(commands[0].contains(place), "{kind:?}: {commands:#?}");
    for command in &commands {
        assert!(text.contains(command), "{command} should be in {text}");
        assert!(plan.contains(command), "{command} should be in {plan}");
        net.net.host.run(command);
    }
    let healthy = net.net.ciliate("doctor", 0).stdout;
    assert!(healthy.ends_with("Nothing found.\n"), "{kind:?}: {healthy}");
    net.net.apply();
    assert_eq!(net.host_routing().0, "legacy");
    net.expect_traffic();
}

#[test]
fn doctor_opens_a_file_of_nftables() {
    expect_cure(Kind::Nftables, "nft insert rule inet filter forward ");
}

#[test]
fn doctor_opens_dockers_chains() {
    expect_cure(Kind::Docker, "iptables -I DOCKER-USER ");
}

#[test]
fn doctor_opens_dockers_chains_of_legacy_iptables() {
    expect_cure(Kind::LegacyDocker, "iptables-legacy -I DOCKER-USER ");
}

#[test]
fn doctor_opens_ufw() {
    expect_cure(Kind::Ufw, "ufw route allow from ");
}

#[test]
fn doctor_opens_firewalld() {
    expect_cure(Kind::Firewalld, "firewall-cmd --permanent ");
}

#[test]
fn apply_goes_on_when_it_is_forced() {
    let net = Outside::new();
    let _firewall = Kind::Nftables.start(&net.net.machine);
    net.write("auto");
    net.net.ciliate("apply", 71);

    let forced = net.net.ciliate("apply --force", 0);

    assert!(
        forced.stderr.contains("CIL0203"),
        "should warn: {forced:#?}"
    );
    assert_eq!(net.host_routing().0, "legacy");
    let far = Outside::far(Family::V4);
    assert!(!answers(&net.net.web, far), "the firewall should be obeyed");
    for command in prescribed(&net) {
        net.net.host.run(&command);
    }
    net.expect_traffic();
}

#[test]
fn firewall_that_lets_connections_come_about_in_one_direction_stops_nothing() {
    let net = Outside::new();
    let _firewall = Kind::Nftables.start(&net.net.machine);
    for (family, pool) in [("ip", "10.0.1.0/24"), ("ip6", "fd00:1::/64")] {
        let rule = format!("inet filter forward {family} saddr {pool} accept");
        net.net.host.run(&format!("nft add rule {rule}"));
    }
    net.write("legacy");

    let plan = net.net.ciliate("plan", 2).stdout;
    net.net.apply();

    assert!(plan.contains("drops some of what"), "should warn: {plan}");
    net.expect_traffic();
}

#[test]
fn doctor_finds_nothing_on_a_healthy_machine_and_what_is_missing_on_another() {
    let net = Outside::new();
    net.write("bpf");

    let healthy = net.net.ciliate("doctor", 0).stdout;
    net.net.host.run("ip netns delete web");
    net.net.host.run("ip link set up0 down");
    let sick = net.net.ciliate("doctor", 1).stdout;

    assert!(healthy.contains("Nothing found."), "{healthy}");
    for told in [
        "CIL0102",
        "ip netns add web",
        "CIL0205",
        "ip link set up0 up",
    ] {
        assert!(sick.contains(told), "{told} should be in {sick}");
    }
}

#[test]
fn doctor_tells_what_plan_refuses_with_a_code_that_the_manual_knows() {
    let net = Outside::new();
    net.write("bpf");
    net.net.host.run("ip link set up0 name up1");

    let sick = net.net.ciliate("doctor", 1).stdout;
    net.net.ciliate("plan", 71);
    let explained = agent::expect(&net.net.host, "explain CIL0301", 0).stdout;

    assert!(
        sick.contains("CIL0301: device up0: there is no such link"),
        "{sick}"
    );
    assert!(explained.starts_with("CIL0301: "), "{explained}");
    agent::expect(&net.net.host, "explain CIL9999", 64);
}

/// Says something to the world from a port of somebody who is no endpoint, and tells whether an
/// answer comes.
fn is_answered(net: &Outside, from: &Namespace, port: u16) -> bool {
    let far = Outside::far(Family::V4);
    let server = bound(&net.world, far);
    let there = server.local_addr().expect("it is bound");
    let client = from.inside(|| UdpSocket::bind((STRANGER, port)).expect("bind"));
    for socket in [&client, &server] {
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a socket has a timeout");
    }
    client.send_to(b"question", there).expect("send");
    let (_, seen) = uninterrupted(|| server.recv_from(&mut [0; 64])).expect("arrives");
    assert_eq!(seen.ip(), Outside::near(Family::V4), "should be translated");
    server.send_to(b"answer", seen).expect("send");
    uninterrupted(|| client.recv(&mut [0; 64])).is_ok()
}

#[test]
fn nat_of_others_on_our_ports_is_warned_of_and_other_ports_help() {
    let net = Outside::new();
    let stranger = Namespace::add("stranger");
    for line in [
        "ip link add box0 type veth peer name eth0 netns stranger",
        "ip address add 172.17.0.1/24 dev box0",
        "ip link set box0 up",
        "nft add table ip nat",
        "nft add chain ip nat out { type nat hook postrouting priority 100 ; }",
        "nft add rule ip nat out ip saddr 172.17.0.0/24 oifname up0 masquerade",
    ] {
        net.net.host.run(line);
    }
    for line in [
        "ip link set eth0 up",
        "ip address add 172.17.0.2/24 dev eth0",
        "ip route add default via 172.17.0.1",
    ] {
        stranger.run(line);
    }
    net.net.host.set_sysctl("net/ipv4/ip_forward", "1");
    net.apply("bpf");

    let sick = net.net.ciliate("doctor", 1).stdout;
    let outside_the_range = is_answered(&net, &stranger, 40_000);
    let inside_the_range = is_answered(&net, &stranger, 50_000);

    assert!(sick.contains("CIL0206"), "{sick}");
    assert!(outside_the_range, "should be none of our business");
    assert!(!inside_the_range, "or there is nothing to warn of");
    assert!(net.net.drops(DropReason::NatNoBinding) > 0);
    net.net.host.run("nft flush chain ip nat out");
    let rule = "ip saddr 172.17.0.0/24 oifname up0 meta l4proto udp masquerade to :1024-49151";
    net.net.host.run(&format!("nft add rule ip nat out {rule}"));
    assert!(
        is_answered(&net, &stranger, 50_001),
        "should have another port"
    );
    net.net.ciliate("doctor", 0);
    net.expect_traffic();
}
