//! The life of a lease with a server that does what a test wants: got, renewed, refused, lost.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::dhcp::{DISCOVER, DhcpServer, REQUEST, Script};
use tests::lab::wait_until;

use super::{LENT, Uplink};

/// A lease of a few seconds, which is renewed after two.
fn short() -> Script {
    Script {
        lease_secs: 6,
        renew_secs: 2,
        rebind_secs: 4,
        ..Script::default()
    }
}

#[test]
fn server_that_loses_and_delays_answers_is_waited_for_and_endpoints_are_up_meanwhile() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(
        &net.world,
        Script {
            loses: 1,
            delay: Duration::from_millis(300),
            ..Script::default()
        },
    );

    let agent = net.run();

    assert_eq!(
        net.addresses(),
        "",
        "the agent should be ready before the lease"
    );
    net.net.ping_all();
    net.expect_address(LENT);
    net.expect_way_out();
    net.expect_nothing_to_do();
    assert_eq!(server.asked()[0].kind, DISCOVER);
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    assert!(net.addresses().contains(LENT), "the address should stay");
    net.down();
    assert_eq!(net.addresses(), "");
    assert_eq!(net.routes(), "");
}

#[test]
fn lease_is_renewed_in_place_and_that_is_no_repair() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, short());
    let agent = net.run();
    net.expect_address(LENT);

    let own: Ipv4Addr = LENT.parse().expect("an address");
    wait_until("the lease is renewed twice", || {
        server
            .asked()
            .iter()
            .filter(|asked| asked.own == own)
            .count()
            >= 2
    });

    net.expect_way_out();
    net.expect_nothing_to_do();
    assert!(!agent.log().contains("repaired"), "{}", agent.log());
    for code in ["CIL0130", "CIL0132"] {
        assert!(!agent.log().contains(code), "{}", agent.log());
    }
    let told = agent.log().matches("dhcp on up0: 192.0.2.77").count();
    assert_eq!(told, 1, "renewals are nothing to tell: {}", agent.log());
    assert_eq!(net.lease()["server"], "192.0.2.1");
}

#[test]
fn server_that_dies_costs_the_address_and_is_asked_until_it_lives() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, short());
    let agent = net.run();
    net.expect_address(LENT);

    server.script().is_silent = true;
    agent.expect_log_within("CIL0130", Duration::from_secs(15));
    net.expect_no_address();
    wait_until("its routes are gone", || net.routes().is_empty());
    net.net.ping_all();
    assert_eq!(net.lease()["state"], "waiting");
    assert_eq!(server.asked().last().expect("asked").kind, DISCOVER);
    server.script().is_silent = false;

    net.expect_address(LENT);
    net.expect_way_out();
}

#[test]
fn lease_that_is_refused_is_given_up_and_another_address_is_taken() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, short());
    let agent = net.run();
    net.expect_address(LENT);

    server.script().address = [192, 0, 2, 78].into();

    net.expect_address("192.0.2.78");
    wait_until("the old address is gone", || {
        !net.addresses().contains(LENT)
    });
    agent.expect_log("CIL0132");
    net.expect_way_out();
    net.expect_nothing_to_do();
}

#[test]
fn silence_is_told_once() {
    let net = Uplink::new("dhcp = true");

    let agent = net.run();

    agent.expect_log_within("no server answers", Duration::from_secs(15));
    net.net.ping_all();
    assert_eq!(net.lease()["state"], "waiting");
}

#[test]
fn server_is_told_the_name_of_the_node_or_another_or_none() {
    for (keys, name) in [
        ("dhcp = true", Some("edge-1")),
        (
            "dhcp = { host_name = \"router.example\" }",
            Some("router.example"),
        ),
        ("dhcp = { host_name = false }", None),
    ] {
        let net = Uplink::new(keys);
        let server = DhcpServer::start(&net.world, Script::default());

        net.net.apply();

        for asked in server.asked() {
            assert_eq!(asked.host_name.as_deref(), name, "{keys}");
        }
    }
}

#[test]
fn classless_routes_and_mtu_are_taken() {
    let net = Uplink::new("dhcp = true");
    let routes = vec![
        24, 198, 51, 100, 192, 0, 2, 1, // by the router
        32, 203, 0, 113, 1, 192, 0, 2, 1, // one host
        16, 169, 254, 0, 0, 0, 0, // on the link
    ];
    let options = vec![
        (3, vec![192, 0, 2, 200]), // which they replace
        (121, routes),
        (26, vec![5, 0x78]),
    ];
    let _server = DhcpServer::start(
        &net.world,
        Script {
            options,
            ..Script::default()
        },
    );

    net.net.apply();

    net.net.ciliate("plan", 0);
    let routes = net.routes();
    for route in [
        "198.51.100.0/24 via 192.0.2.1",
        "203.0.113.1 via 192.0.2.1",
        "169.254.0.0/16",
    ] {
        assert!(routes.contains(route), "{route}: {routes}");
    }
    assert!(!routes.contains("default"), "{routes}");
    assert!(
        net.net
            .host
            .run("ip link show dev up0")
            .contains("mtu 1400")
    );
    net.expect_way_out();
    net.down();
    assert!(
        net.net
            .host
            .run("ip link show dev up0")
            .contains("mtu 1500")
    );
}

#[test]
fn no_default_route_is_taken_where_none_is_asked_for() {
    let net = Uplink::new("dhcp = { default_route = false }");
    let _server = DhcpServer::start(&net.world, Script::default());

    net.net.apply();

    net.expect_address(LENT);
    assert!(!net.routes().contains("default"), "{}", net.routes());
}

#[test]
fn name_servers_are_written_where_that_is_asked_for_and_taken_back() {
    let path = "/run/resolv.conf";
    let net = Uplink::new(&format!("dhcp = {{ resolv_conf = \"{path}\" }}"));
    fs::write(path, "nameserver 127.0.0.1\n").expect("write a file");
    let mut script = Script::default();
    script.options.push((6, vec![192, 0, 2, 53]));
    script.options.push((15, b"example.net".to_vec()));
    let _server = DhcpServer::start(&net.world, script);
    let read = || fs::read_to_string(path).expect("read a file");
    let agent = net.run();

    wait_until("the name server is there", || {
        read().contains("nameserver 192.0.2.53\nsearch example.net\n")
    });
    fs::remove_file(path).expect("remove a file");
    wait_until("it is there again", || {
        fs::read_to_string(path).is_ok_and(|text| text.contains("192.0.2.53"))
    });
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    net.down();

    assert_eq!(read(), "nameserver 127.0.0.1\n");
}

#[test]
fn apply_waits_for_a_lease_and_says_that_nobody_renews_it() {
    let net = Uplink::new("dhcp = { timeout = \"5s\" }");
    let _server = DhcpServer::start(&net.world, Script::default());

    let before = net.net.ciliate("plan", 2).stdout;
    let outcome = net.net.apply();

    assert!(before.contains("dhcp on up0"), "{before}");
    assert!(outcome.stdout.contains("CIL0133"), "{outcome:#?}");
    net.expect_address(LENT);
    assert!(
        ["599sec", "600sec", "598sec"]
            .iter()
            .any(|left| net.addresses().contains(left)),
        "{}",
        net.addresses()
    );
    net.net.ciliate("plan", 0);
    let lease = net.lease();
    assert_eq!(
        (&lease["address"], &lease["state"]),
        (&"192.0.2.77/24".into(), &"bound".into())
    );
    assert!(
        lease["renew_in"].as_u64().is_some_and(|secs| secs <= 300),
        "{lease}"
    );
    assert!(
        lease["expires_in"].as_u64().is_some_and(|secs| secs <= 600),
        "{lease}"
    );
    assert!(
        lease["since"]
            .as_str()
            .is_some_and(|text| text.ends_with('Z')),
        "{lease}"
    );
    net.net.apply();
    let status = agent::expect(&net.net.host, "status", 0).stdout;
    assert!(
        status.contains("dhcp: lease of 192.0.2.77/24 by 192.0.2.1: bound"),
        "{status}"
    );
}

#[test]
fn apply_without_a_server_sets_the_rest_up() {
    let net = Uplink::new("dhcp = { timeout = \"1s\" }");

    let outcome = net.net.apply();

    assert!(outcome.stderr.contains("CIL0131"), "{outcome:#?}");
    net.net.ping_all();
    net.net.ciliate("plan", 0);
}

#[test]
fn plan_asks_nobody() {
    let net = Uplink::new("dhcp = true");
    net.net.host.run("ip link set up0 up");
    let server = DhcpServer::start(&net.world, Script::default());

    net.net.ciliate("plan", 2);

    assert_eq!(server.asked(), []);
}

#[test]
fn every_request_after_an_offer_asks_for_what_was_offered() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, Script::default());

    net.net.apply();

    let asked = server.asked();
    let request = asked
        .iter()
        .find(|asked| asked.kind == REQUEST)
        .expect("a request");
    assert_eq!(request.wish, Some(LENT.parse().expect("an address")));
    assert!(request.own.is_unspecified());
}
