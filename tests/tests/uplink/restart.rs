//! What a lease survives: an agent that is killed, and a file that asks for something else.

use nix::sys::signal::Signal;
use tests::lab::dhcp::{DhcpServer, REQUEST, Script};
use tests::lab::stream::Stream;
use tests::lab::wait_until;

use super::{BEYOND, LENT, Uplink};

#[test]
fn killed_agent_comes_back_to_its_lease_without_a_gap() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, Script::default());
    let agent = net.run();
    net.expect_address(LENT);
    net.expect_way_out();
    let beyond = BEYOND.parse().expect("an address");
    let stream = Stream::start(&net.net.web, &net.world, beyond);
    let asked = server.asked().len();

    assert_eq!(agent.end(Signal::SIGKILL), None);
    let agent = net.run();

    wait_until("the server is asked whether the lease holds", || {
        server.asked().len() > asked
    });
    let first = server.asked().swap_remove(asked);
    assert_eq!(
        (first.kind, first.wish),
        (REQUEST, Some(LENT.parse().expect("an address")))
    );
    agent.expect_log("dhcp on up0: 192.0.2.77/24");
    stream.expect_complete();
    assert!(!agent.log().contains("repaired"), "{}", agent.log());
}

#[test]
fn lease_is_kept_while_the_server_says_nothing() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, Script::default());
    let agent = net.run();
    net.expect_address(LENT);
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    server.script().is_silent = true;

    let _agent = net.run();

    net.expect_way_out();
    assert!(net.addresses().contains(LENT));
}

#[test]
fn lease_that_another_server_refuses_after_a_restart_is_replaced() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, Script::default());
    let agent = net.run();
    net.expect_address(LENT);
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    server.script().address = [192, 0, 2, 78].into();

    let agent = net.run();

    net.expect_address("192.0.2.78");
    agent.expect_log("CIL0132");
    wait_until("the old address is gone", || {
        !net.addresses().contains(LENT)
    });
}

#[test]
fn file_that_asks_for_no_lease_any_more_takes_it_back() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, Script::default());
    let agent = net.run();
    net.expect_address(LENT);

    net.write("address = \"192.0.2.10/24\"\ngateway = \"192.0.2.1\"");
    agent.signal(Signal::SIGHUP);

    net.expect_address("192.0.2.10");
    wait_until("the lease is gone", || !net.addresses().contains(LENT));
    net.expect_way_out();
    assert!(net.lease().is_null());
    // What it takes to ask for one was given up with the last.
    net.write("dhcp = true");
    agent.signal(Signal::SIGHUP);
    agent.expect_log("the file needs CAP_NET_RAW");
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
    let _agent = net.run();
    net.expect_address(LENT);
    drop(server);
}

#[test]
fn device_that_goes_and_comes_back_gets_a_lease_again() {
    let net = Uplink::new("dhcp = true");
    let server = DhcpServer::start(&net.world, Script::default());
    let _agent = net.run();
    net.expect_address(LENT);
    drop(server);

    net.net.host.run("ip link del up0");
    net.net
        .host
        .run("ip link add up0 type veth peer name eth0 netns world");
    for line in [
        "ip link set eth0 up",
        "ip address add 192.0.2.1/24 dev eth0",
    ] {
        net.world.run(line);
    }
    let _server = DhcpServer::start(&net.world, Script::default());

    net.expect_address(LENT);
    net.expect_way_out();
}
