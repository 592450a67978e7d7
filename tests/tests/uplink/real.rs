//! dnsmasq as the server, and routers that advertise themselves beside it.

use std::process::{Child, Command, Stdio};

use tests::lab::namespace::Namespace;
use tests::lab::wait_until;

use super::Uplink;

/// Is dnsmasq, which ends with this value.
struct Dnsmasq(Child);

impl Dnsmasq {
    /// Lends addresses on `eth0` of a namespace, with more arguments.
    fn start(place: &Namespace, more: &[&str]) -> Self {
        let mut command = Command::new("dnsmasq");
        command
            .args(["--conf-file=/dev/null", "--keep-in-foreground", "--port=0"])
            .args(["--no-hosts", "--no-resolv", "--no-ping", "--user=root"])
            .args(["--dhcp-authoritative", "--interface=eth0"])
            .args([
                "--dhcp-leasefile=/run/test/dnsmasq.leases",
                "--pid-file=/run/test/dnsmasq.pid",
            ])
            .arg("--dhcp-range=192.0.2.100,192.0.2.120,255.255.255.0,2m")
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let child = place.inside(|| command.spawn()).expect("start dnsmasq");
        let server = Self(child);
        wait_until("dnsmasq listens", || {
            !place.run("ss -Hluln sport = :67").is_empty()
        });
        server
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn lease_of_dnsmasq_carries_what_endpoints_send() {
    let net = Uplink::new("dhcp = true");
    let _server = Dnsmasq::start(&net.world, &["--dhcp-option=26,1400"]);

    let agent = net.run();

    net.expect_way_out();
    net.expect_nothing_to_do();
    let lease = net.lease();
    assert_eq!(lease["server"], "192.0.2.1");
    assert!(
        lease["expires_in"]
            .as_u64()
            .is_some_and(|secs| (110..=120).contains(&secs)),
        "{lease}"
    );
    assert!(
        net.net
            .host
            .run("ip link show dev up0")
            .contains("mtu 1400")
    );
    assert!(!agent.log().contains("CIL0134"), "{}", agent.log());
}

#[test]
fn dnsmasq_gives_more_time_to_who_asks_it_alone() {
    let net = Uplink::new("dhcp = true");
    let _server = Dnsmasq::start(&net.world, &["--dhcp-option=option:T1,3"]);
    let agent = net.run();
    net.expect_way_out();
    let left = || net.lease()["expires_in"].as_u64().expect("a number");

    wait_until("some of it is over", || left() <= 118);
    wait_until("all of it is left", || left() >= 119);

    net.expect_way_out();
    net.expect_nothing_to_do();
    assert!(!agent.log().contains("repaired"), "{}", agent.log());
}

#[test]
fn dnsmasq_knows_the_lease_after_a_restart_of_the_agent() {
    let net = Uplink::new("dhcp = true");
    let _server = Dnsmasq::start(&net.world, &[]);
    let agent = net.run();
    net.expect_way_out();
    let before = net.lease();
    drop(agent);

    let agent = net.run();
    agent.expect_log("dhcp on up0: ");

    assert_eq!(net.lease()["address"], before["address"]);
    assert_eq!(net.lease()["since"], before["since"]);
}

/// Is radvd, which ends with this value.
struct Radvd(Child);

impl Radvd {
    /// Advertises the world as a router every few seconds.
    fn start(net: &Uplink) -> Self {
        let text = "interface eth0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
                    prefix 2001:db8:2::/64 {}; };\n";
        let file = net.net.machine.write("radvd.conf", text);
        net.world.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        let mut command = Command::new("radvd");
        command
            .args(["--nodaemon", "--pidfile=/run/test/radvd.pid", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        Self(net.world.inside(|| command.spawn()).expect("start radvd"))
    }
}

impl Drop for Radvd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn way_that_a_router_advertises_stays_while_the_node_forwards() {
    let net = Uplink::new("dhcp = true");
    let _server = Dnsmasq::start(&net.world, &[]);
    net.net.host.set_sysctl("net/ipv6/conf/up0/accept_ra", "1");
    let _router = Radvd::start(&net);
    net.net.host.run("ip link set up0 up");
    let default = || net.net.host.run("ip -6 route show default");
    wait_until("the router has advertised itself", || {
        default().contains("proto ra")
    });

    let _agent = net.run();

    net.expect_way_out();
    assert_eq!(net.net.host.sysctl("net/ipv6/conf/all/forwarding"), "1");
    assert_eq!(net.net.host.sysctl("net/ipv6/conf/up0/accept_ra"), "2");
    // An advertisement that comes later is still heard.
    net.net.host.run("ip -6 route del default");
    wait_until("the next advertisement is heard", || {
        default().contains("proto ra")
    });
    net.expect_way_to("2001:db8:113::1");
}
