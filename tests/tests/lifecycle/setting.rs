//! Sysctls: set where packets need them, with care for IPv6, and given back.

use tests::frame::{Frame, Transport};
use tests::lab::namespace::Namespace;
use tests::lab::node::OneNode;
use tests::lab::outside::Outside;
use tests::lab::wait_until;
use tests::lab::wire::Wire;
use tests::party::{A, Family};

const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
const ACCEPT_RA: &str = "net/ipv6/conf/uplink0/accept_ra";

#[test]
fn sysctls_are_set_for_our_link_and_given_back() {
    let net = OneNode::prepared();
    net.host.set_sysctl("net/ipv4/conf/all/rp_filter", "0");
    net.host.set_sysctl("net/ipv4/conf/default/rp_filter", "1");

    net.apply();

    for (name, value) in [
        ("forwarding", "1"),
        ("rp_filter", "0"),
        ("send_redirects", "0"),
    ] {
        let path = format!("net/ipv4/conf/cilium_host/{name}");
        assert_eq!(net.host.sysctl(&path), value, "{path}");
    }
    assert_eq!(
        net.host.sysctl("net/ipv4/conf/all/forwarding"),
        "0",
        "only our link forwards"
    );
    assert_eq!(net.host.sysctl(FORWARDING), "1");
    net.down();
    assert_eq!(
        net.host.sysctl(FORWARDING),
        "0",
        "the original value should be back"
    );
    assert_eq!(net.host.sysctl("net/ipv4/conf/default/rp_filter"), "1");
}

#[test]
fn ipv6_forwarding_that_was_on_stays_on() {
    let net = OneNode::prepared();
    net.host.set_sysctl(FORWARDING, "1");

    let plan = net.ciliate("plan", 2);
    assert!(!plan.stdout.contains(FORWARDING), "{}", plan.stdout);
    net.apply();
    net.down();

    assert_eq!(net.host.sysctl(FORWARDING), "1", "it was not ours");
}

#[test]
fn value_that_somebody_changed_meanwhile_is_left_to_him() {
    let net = OneNode::new();
    net.host.set_sysctl(FORWARDING, "0");

    net.ciliate("plan", 2);
    net.converge();
    net.host.set_sysctl(FORWARDING, "0");
    net.down();

    assert_eq!(net.host.sysctl(FORWARDING), "0");
}

/// Strict filtering on all devices holds on ours, too: the larger of the two values counts.
#[test]
fn strict_reverse_path_filtering_of_the_machine_does_no_harm() {
    let net = OneNode::prepared();
    net.host.set_sysctl("net/ipv4/conf/all/rp_filter", "1");

    net.converge();
}

#[test]
fn default_route_from_a_router_advertisement_survives_forwarding() {
    let net = OneNode::prepared();
    let router = Namespace::add("router");
    net.host
        .run("ip link add uplink0 type veth peer name port0 netns router");
    net.host.run("ip link set uplink0 up");
    router.run("ip link set port0 up");
    advertise(&router);
    let route = || net.host.run("ip -6 route show default");
    wait_until("the default route comes", || route().contains("proto ra"));

    let plan = net.ciliate("plan", 2);
    let place = |word: &str| {
        plan.stdout
            .find(word)
            .unwrap_or_else(|| panic!("{word}: {}", plan.stdout))
    };
    assert!(place(ACCEPT_RA) < place(FORWARDING), "{}", plan.stdout);
    net.converge();

    assert_eq!(net.host.sysctl(ACCEPT_RA), "2");
    assert!(
        route().contains("proto ra"),
        "the default route should stay: {}",
        route()
    );
    net.host.run("ip -6 route flush proto ra");
    advertise(&router);
    wait_until("the default route comes again", || {
        route().contains("proto ra")
    });
    net.ciliate("plan", 0);
    net.down();
    assert_eq!(
        net.host.sysctl(ACCEPT_RA),
        "1",
        "the original value should be back"
    );
    assert_eq!(
        net.host.sysctl(FORWARDING),
        "0",
        "the original value should be back"
    );
    assert!(
        route().contains("proto ra"),
        "the default route should stay: {}",
        route()
    );
}

/// Sends one advertisement of a router that lives for half an hour (RFC 4861 §4.2).
fn advertise(router: &Namespace) {
    let body = [64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let all_nodes = "ff02::1".parse().expect("an address");
    let own: std::net::IpAddr = "fe80::1".parse().expect("an address");
    let message = Transport::icmp(Family::V6, 134, 0, &body);
    let frame = Frame::to_address(&A, all_nodes, message)
        .source(own)
        .hop_limit(255);
    let wire = Wire::open(router, "port0");
    wire.send(
        &frame
            .from_mac([2, 0, 0, 0, 0, 0x99])
            .to_mac([0x33, 0x33, 0, 0, 0, 1])
            .bytes(),
    );
}

#[test]
fn ports_that_others_reserve_later_stay_reserved() {
    const PORTS: &str = "net/ipv4/ip_local_reserved_ports";
    let net = Outside::new();
    net.net.host.set_sysctl(PORTS, "9000,60000-60010");
    net.apply("bpf");
    assert_eq!(net.net.host.sysctl(PORTS), "9000,49152-65535");

    net.net.host.set_sysctl(PORTS, "8080,9000,49152-65535");

    net.net.ciliate("plan", 0);
    net.net.host.set_sysctl(PORTS, "8080,9000");
    net.net.apply();
    assert_eq!(net.net.host.sysctl(PORTS), "8080,9000,49152-65535");
    net.net.down();
    assert_eq!(net.net.host.sysctl(PORTS), "8080,9000");
}
