//! A kernel route to each endpoint: what the host's table shows, and that packets follow it.

use tests::lab::conversation::{pattern, transfer_seen};
use tests::lab::node::{answers, ping};
use tests::lab::offload::Offload;
use tests::lab::outside::Outside;
use tests::lab::stream::Stream;
use tests::party::Family;

/// What a transfer consists of, in bytes.
const TRANSFER_LEN: usize = 4 << 20;

/// Sets a node up with a route to each endpoint.
fn routed(host_routing: &str) -> Outside {
    let net = Outside::new();
    write(&net, host_routing, true);
    net.net.apply();
    net
}

fn write(net: &Outside, host_routing: &str, endpoint_routes: bool) {
    net.write(host_routing);
    let file = std::fs::read_to_string(&net.net.file).expect("read the file");
    net.net
        .write(&format!("{file}endpoint_routes = {endpoint_routes}\n"));
}

/// Returns the link by which the host reaches an endpoint.
fn way(net: &Outside, name: &str, family: Family) -> String {
    let address = net.net.address(name, family);
    let route = net.net.host.run(&format!("ip -o route get {address}"));
    let (_, rest) = route.split_once(" dev ").expect("a device");
    rest.split(' ').next().expect("a word").to_owned()
}

/// Moves data between the host and an endpoint, both ways.
fn transfer_with_host(net: &Outside) {
    let inside = &net.net;
    for family in Family::BOTH {
        let (web, router) = (
            inside.address("web", family),
            inside.address("host", family),
        );
        let (data, seen) = transfer_seen(&inside.host, &inside.web, web, TRANSFER_LEN);
        assert!(data == pattern(TRANSFER_LEN), "{web} should get it all");
        assert_eq!(seen.ip(), router, "the host should speak as the router");
        let (data, seen) = transfer_seen(&inside.web, &inside.host, router, TRANSFER_LEN);
        assert!(data == pattern(TRANSFER_LEN), "{router} should get it all");
        assert_eq!(seen.ip(), web);
    }
}

#[test]
fn everything_passes_in_both_modes_and_families() {
    for mode in ["bpf", "legacy"] {
        for offload in Offload::BOTH {
            let net = routed(mode);
            for place in [&net.net.host, &net.world, &net.net.web, &net.net.db] {
                offload.set_in(place);
            }

            assert_eq!(net.host_routing().0, mode, "should be kept");
            for family in Family::BOTH {
                assert_eq!(way(&net, "web", family), "lxcweb");
                assert_eq!(way(&net, "api", family), "lxcapi");
            }
            net.expect_traffic();
            transfer_with_host(&net);
            net.net.ciliate("plan", 0);
        }
    }
}

#[test]
fn connections_of_the_host_are_counted_once_and_take_the_fast_path() {
    let net = routed("bpf");
    let web = net.net.address("web", Family::V4);

    net.net.host.run(&format!("ping -n -c 20 -i 0.01 {web}"));

    let flows = tests::lab::agent::json(&net.net.host, "flows");
    let flows = flows.as_array().expect("a list");
    let sent = flows
        .iter()
        .find(|flow| flow["from"] == "host" && flow["destination"] == web.to_string());
    let packets = sent.expect("the host's flow is known")["packets"].as_u64();
    assert_eq!(packets, Some(20), "{sent:#?}");
}

#[test]
fn routes_come_and_go_without_a_loss() {
    let net = Outside::new();
    net.apply("bpf");
    let inside = &net.net;
    let streams: Vec<Stream> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            [
                Stream::start(&inside.host, &inside.web, inside.address("web", family)),
                Stream::start(&inside.web, &net.world, Outside::far(family)),
            ]
        })
        .collect();

    for turn in 0..6 {
        write(&net, "bpf", turn % 2 == 0);
        net.net.apply();
    }

    streams.into_iter().for_each(Stream::expect_complete);
    assert_eq!(way(&net, "web", Family::V4), "cilium_host");
    let routes = net.net.host.run("ip route show proto 193");
    assert!(!routes.contains("lxc"), "none should be left: {routes}");
}

#[test]
fn route_that_somebody_deletes_comes_back_and_address_without_an_endpoint_is_refused() {
    let net = routed("bpf");
    net.net.host.run("ip route del 10.0.1.10");

    net.net.ciliate("plan", 2);
    net.net.converge();

    assert_eq!(way(&net, "web", Family::V4), "lxcweb");
    let nobody = "10.0.1.99".parse().expect("an address");
    assert!(!answers(&net.net.host, nobody), "nobody has it");
    net.net.down();
    let routes = net.net.host.run("ip route show proto 193");
    assert_eq!(routes, "", "nothing should be left");
}

#[test]
fn strict_filter_of_all_links_is_warned_of_and_its_cure_works() {
    let net = routed("bpf");
    net.net.host.set_sysctl("net/ipv4/conf/all/rp_filter", "1");
    let web = net.net.address("web", Family::V4);

    let found = net.net.ciliate("doctor", 1).stdout;

    assert!(found.contains("CIL0207"), "{found}");
    assert!(
        !answers(&net.net.host, web),
        "or there is nothing to warn of"
    );
    let command = found
        .lines()
        .find(|line| line.contains("sysctl -w"))
        .expect("a command");
    net.net.host.run(command.trim());
    ping(&net.net.host, web);
    net.net.ciliate("doctor", 0);
}
