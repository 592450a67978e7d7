//! What an endpoint may not say: nothing of it arrives, and each is counted under its reason.
//!
//! `web` is the one that lies, through a packet socket on its `eth0`. Behind every lie it sends
//! two true datagrams, one to `db` and one to the node: these, and nothing else, must arrive.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use datapath::verdict::DropReason;
use tests::frame::{Frame, SYN, Transport, UDP};
use tests::lab::namespace::Namespace;
use tests::lab::node::{OneNode, ping};
use tests::lab::program;
use tests::lab::uninterrupted;
use tests::lab::wire::Wire;
use tests::party::{Family, Who};

const BROADCAST: [u8; 6] = [0xff; 6];
/// Where true datagrams go.
const PORT: u16 = 9_000;
/// What true datagrams hold is as long as this.
const TRUTH_LEN: u16 = 77;

/// Selects the packets that get a tag.
const MARK: u32 = 5;

/// Is a node with captures at both far sides of `web`.
struct Stage {
    net: OneNode,
    web: Who,
    db: Who,
    host: Who,
    mouth: Wire,
    at_db: Wire,
    at_host: Wire,
    /// So that true datagrams are answered by no error.
    _ears: Vec<UdpSocket>,
}

impl Stage {
    fn new() -> Self {
        let net = OneNode::new();
        let mut ears = Vec::new();
        for family in Family::BOTH {
            for (place, name) in [(&net.db, "db"), (&net.host, "host")] {
                // Both sides know their neighbours afterwards and ask for nobody.
                ping(&net.web, net.address(name, family));
                let address = SocketAddr::new(net.address(name, family), PORT);
                ears.push(place.inside(|| UdpSocket::bind(address)).expect("bind"));
            }
        }
        Self {
            web: net.who("web"),
            db: net.who("db"),
            host: net.who("host"),
            mouth: Wire::open(&net.web, "eth0"),
            at_db: Wire::open(&net.db, "eth0"),
            at_host: Wire::open(&net.host, "cilium_host"),
            net,
            _ears: ears,
        }
    }

    /// Sends a lie: it arrives nowhere and counts as `reason`.
    fn expect_drop(&self, what: &str, lie: &[u8], reason: DropReason) {
        let before = self.net.drops(reason);

        self.mouth.send(lie);

        self.expect_only_truth(what);
        self.net.expect_drops(reason, before, 1);
    }

    /// Sends true datagrams: nothing else may arrive.
    fn expect_only_truth(&self, what: &str) {
        for (to, far) in [(&self.db, &self.at_db), (&self.host, &self.at_host)] {
            let truth = Transport::udp(PORT, PORT, TRUTH_LEN);
            self.mouth
                .send(&Frame::new(&self.web, to, Family::V4, truth).bytes());
            let mut seen = far.received_until("the true datagram", |frame| {
                frame.carries(UDP) && frame.payload().len() == usize::from(TRUTH_LEN) + 8
            });
            seen.retain(|frame| !is_group_report(&frame.bytes));
            assert_eq!(
                seen.len(),
                1,
                "{what} should not arrive at {}: {seen:02x?}",
                to.name
            );
        }
    }

    fn datagram(&self, to: &Who, family: Family) -> Frame {
        Frame::new(&self.web, to, family, Transport::udp(5_000, PORT, 20))
    }
}

/// Tells whether a frame is one of the reports on multicast groups that the kernel sends by itself
/// when a link comes up: IPv6 with hop-by-hop options, to a group.
fn is_group_report(frame: &[u8]) -> bool {
    frame.starts_with(&[0x33, 0x33]) && frame[12..14] == [0x86, 0xdd] && frame[20] == 0
}

#[test]
fn frames_from_a_foreign_mac_are_dropped() {
    let stage = Stage::new();

    for family in Family::BOTH {
        for to in [stage.db, stage.host] {
            let lie = stage.datagram(&to, family).from_mac([2, 0, 0, 0, 0, 0x66]);
            stage.expect_drop("the frame", &lie.bytes(), DropReason::InvalidSourceMac);
        }
    }
}

#[test]
fn packets_from_a_foreign_address_are_dropped() {
    let stage = Stage::new();
    let api = stage.net.who("api");

    for family in Family::BOTH {
        for source in [family.world(), api.ip(family), family.router()] {
            for to in [stage.db, stage.host] {
                let lie = stage.datagram(&to, family).source(source);
                stage.expect_drop("the packet", &lie.bytes(), DropReason::InvalidSourceIp);
            }
        }
    }
}

#[test]
fn frames_to_the_mac_of_somebody_else_are_dropped() {
    let stage = Stage::new();

    for family in Family::BOTH {
        for mac in [
            stage.db.mac,
            stage.db.gateway_mac,
            stage.host.mac,
            [2, 9, 9, 9, 9, 9],
        ] {
            let lie = stage.datagram(&stage.db, family).to_mac(mac);
            stage.expect_drop("the frame", &lie.bytes(), DropReason::InvalidDestinationMac);
        }
    }
}

#[test]
fn forged_arp_messages_are_dropped() {
    let stage = Stage::new();
    let (web, db) = (stage.web, stage.db);
    let router = ipv4(Family::V4.router());

    for operation in [1, 2] {
        for (mac, address) in [
            (web.mac, router),
            (web.mac, ipv4(db.ip(Family::V4))),
            (db.mac, ipv4(web.ip(Family::V4))),
        ] {
            for to in [BROADCAST, web.gateway_mac] {
                let lie = arp(&web, to, operation, (mac, address), router);
                stage.expect_drop("the message", &lie, DropReason::ForgedArp);
            }
        }
    }
    ping(&stage.net.db, web.ip(Family::V4));
}

#[test]
fn forged_neighbour_advertisements_are_dropped() {
    let stage = Stage::new();
    let (web, db) = (stage.web, stage.db);

    for (target, mac) in [
        (db.ip(Family::V6), web.mac),
        (Family::V6.router(), web.mac),
        (web.ip(Family::V6), db.mac),
    ] {
        let mut body = vec![0xa0, 0, 0, 0];
        body.extend(ipv6(target));
        body.extend([2, 1]);
        body.extend(mac);
        let advertisement = Transport::icmp(Family::V6, 136, 0, &body);
        let lie = Frame::new(&web, &db, Family::V6, advertisement).hop_limit(255);
        stage.expect_drop(
            "the advertisement",
            &lie.bytes(),
            DropReason::ForgedNeighbour,
        );
    }
}

#[test]
fn router_advertisements_and_redirects_are_dropped() {
    let stage = Stage::new();
    let all_nodes: IpAddr = "ff02::1".parse().expect("an address");
    let own: IpAddr = "fe80::1".parse().expect("an address");

    let advertisement = Transport::icmp(Family::V6, 134, 0, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    for (to, mac) in [
        (all_nodes, [0x33, 0x33, 0, 0, 0, 1]),
        (stage.db.ip(Family::V6), stage.web.gateway_mac),
    ] {
        let lie = Frame::to_address(&stage.web, to, advertisement.clone());
        let lie = lie.source(own).to_mac(mac).hop_limit(255).bytes();
        stage.expect_drop("the advertisement", &lie, DropReason::ForbiddenIcmp6);
    }
    let body = [vec![0; 4], ipv6(own), ipv6(stage.db.ip(Family::V6))].concat();
    let redirect = Transport::icmp(Family::V6, 137, 0, &body);
    let lie = Frame::new(&stage.web, &stage.db, Family::V6, redirect)
        .hop_limit(255)
        .bytes();
    stage.expect_drop("the redirect", &lie, DropReason::ForbiddenIcmp6);
}

#[test]
fn ipv4_redirects_about_nothing_are_dropped() {
    let stage = Stage::new();
    let quote = Frame::new(&stage.db, &stage.host, Family::V4, Transport::udp(1, 2, 8)).quote();

    let redirect = Transport::icmp(Family::V4, 5, 1, &[vec![10, 0, 1, 10], quote].concat());
    let lie = Frame::new(&stage.web, &stage.db, Family::V4, redirect).bytes();

    stage.expect_drop("the redirect", &lie, DropReason::UnrelatedIcmpError);
}

#[test]
fn tagged_frames_are_dropped_with_the_tag_in_the_frame() {
    let stage = Stage::new();

    for family in Family::BOTH {
        let mut lie = stage.datagram(&stage.db, family).bytes();
        lie.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        stage.expect_drop("the tagged frame", &lie, DropReason::Vlan);
    }
    for tag in [[0x88, 0xa8], [0x81, 0x00]] {
        let mut lie = stage.datagram(&stage.db, Family::V4).bytes();
        lie.splice(12..12, [tag[0], tag[1], 0, 5, 0x81, 0, 0, 6]);
        stage.expect_drop("the frame with two tags", &lie, DropReason::Vlan);
    }
}

/// A VLAN sub-interface hands its tag over beside the frame, which itself says IPv4 or IPv6.
#[test]
fn tagged_frames_are_dropped_with_the_tag_in_the_metadata() {
    let stage = Stage::new();
    program::tagger(MARK, 5).attach_filter(&stage.net.web, "eth0", "egress", 1);
    let marked = Wire::open(&stage.net.web, "eth0");
    marked.set_mark(MARK);

    for family in Family::BOTH {
        let before = stage.net.drops(DropReason::Vlan);
        let at_link = Wire::open(&stage.net.host, "lxcweb");
        marked.send(&stage.datagram(&stage.db, family).bytes());

        let seen = at_link.receive("the tagged frame", |frame| frame.vlan == Some(5));
        assert_ne!(
            seen.ethertype(),
            0x8100,
            "the tag should travel beside the frame"
        );
        stage.expect_only_truth("the tagged frame");
        stage.net.expect_drops(DropReason::Vlan, before, 1);
    }
}

#[test]
fn icmp_errors_about_packets_that_it_did_not_get_are_dropped() {
    let stage = Stage::new();
    let api = stage.net.who("api");

    for family in Family::BOTH {
        // A flow of others, which is there, and one of nobody's.
        ping(&stage.net.db, api.ip(family));
        stage.at_db.forget();
        for transport in [
            Transport::udp(PORT, 5_000, 8),
            Transport::tcp(80, 4_000, SYN),
        ] {
            let quote = Frame::new(&stage.db, &api, family, transport).quote();
            let kind = if family == Family::V4 { 3 } else { 1 };
            let error = Transport::error(family, kind, 3, &quote);
            let lie = Frame::new(&stage.web, &stage.db, family, error).bytes();
            stage.expect_drop("the error", &lie, DropReason::UnrelatedIcmpError);
        }
    }
}

/// The error would be true if `api` sent it: it got the packet.
#[test]
fn icmp_errors_about_the_flows_of_others_are_dropped() {
    let stage = Stage::new();
    let api = stage.net.who("api");

    for family in Family::BOTH {
        let (at_db, at_api) = (
            bound(&stage.net, "db", family),
            bound(&stage.net, "api", family),
        );
        exchange(&at_db, &at_api);
        let ports = [&at_db, &at_api].map(|socket| socket.local_addr().expect("bound").port());
        let quote = Frame::new(
            &stage.db,
            &api,
            family,
            Transport::udp(ports[0], ports[1], 8),
        )
        .quote();
        let kind = if family == Family::V4 { 3 } else { 1 };
        let error = Transport::error(family, kind, 3, &quote);

        let lie = Frame::new(&stage.web, &stage.db, family, error).bytes();

        stage.at_db.forget();
        stage.expect_drop("the error", &lie, DropReason::UnrelatedIcmpError);
        exchange(&at_db, &at_api);
    }
}

#[test]
fn tuple_of_anothers_flow_does_not_pass() {
    let stage = Stage::new();
    let api = stage.net.who("api");

    for family in Family::BOTH {
        let (at_db, at_api) = (
            bound(&stage.net, "db", family),
            bound(&stage.net, "api", family),
        );
        exchange(&at_api, &at_db);
        let ports = [&at_api, &at_db].map(|socket| socket.local_addr().expect("bound").port());
        let lie = Frame::new(
            &stage.web,
            &stage.db,
            family,
            Transport::udp(ports[0], ports[1], 20),
        );
        let lie = lie.source(api.ip(family));

        stage.at_db.forget();
        stage.expect_drop("the packet", &lie.bytes(), DropReason::InvalidSourceIp);
        let lie = lie.from_mac(api.mac);
        stage.expect_drop("the packet", &lie.bytes(), DropReason::InvalidSourceMac);
    }
}

#[test]
fn packet_from_outside_in_the_name_of_an_endpoint_does_not_pass() {
    let stage = Stage::new();
    let host = &stage.net.host;
    let outside = Namespace::add("outside");
    host.run("ip link add out0 type veth peer name out1 netns outside");
    host.run("ip link set out0 up");
    outside.run("ip link set out1 up");
    host.set_sysctl("net/ipv4/conf/out0/forwarding", "1");
    host.set_sysctl("net/ipv4/conf/all/rp_filter", "0");
    host.set_sysctl("net/ipv4/conf/out0/rp_filter", "0");
    let mouth = Wire::open(&outside, "out1");

    for family in Family::BOTH {
        let (at_db, at_api) = (
            bound(&stage.net, "db", family),
            bound(&stage.net, "api", family),
        );
        exchange(&at_api, &at_db);
        let ports = [&at_api, &at_db].map(|socket| socket.local_addr().expect("bound").port());
        let transport = Transport::udp(ports[0], ports[1], 20);
        let lie = Frame::new(&stage.net.who("api"), &stage.db, family, transport)
            .from_mac(outside.mac("out1"))
            .to_mac(host.mac("out0"));
        let before = stage.net.drops(DropReason::InvalidSourceIp);

        stage.at_db.forget();
        mouth.send(&lie.bytes());

        stage
            .net
            .expect_drops(DropReason::InvalidSourceIp, before, 1);
        stage.expect_only_truth("the packet from outside");
    }
}

fn bound(net: &OneNode, name: &str, family: Family) -> UdpSocket {
    let place = if name == "db" { &net.db } else { &net.api };
    let address = SocketAddr::new(net.address(name, family), 0);
    place.inside(|| UdpSocket::bind(address)).expect("bind")
}

/// Sends a datagram each way, so that the flow is known.
fn exchange(one: &UdpSocket, other: &UdpSocket) {
    let ends = [one, other].map(|socket| socket.local_addr().expect("bound"));
    let mut bytes = [0; 8];
    for (from, to, address) in [(one, other, ends[1]), (other, one, ends[0])] {
        to.set_read_timeout(Some(tests::lab::PATIENCE))
            .expect("a socket has a timeout");
        from.send_to(b"datagram", address).expect("send");
        uninterrupted(|| to.recv(&mut bytes)).expect("the datagram should arrive");
    }
}

fn arp(
    from: &Who,
    to: [u8; 6],
    operation: u8,
    sender: ([u8; 6], [u8; 4]),
    target: [u8; 4],
) -> Vec<u8> {
    let mut bytes = [to, from.mac].concat();
    bytes.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    bytes.extend(sender.0);
    bytes.extend(sender.1);
    bytes.extend([0; 6]);
    bytes.extend(target);
    bytes
}

fn ipv4(address: IpAddr) -> [u8; 4] {
    let IpAddr::V4(address) = address else {
        panic!("an IPv4 address")
    };
    address.octets()
}

fn ipv6(address: IpAddr) -> Vec<u8> {
    let IpAddr::V6(address) = address else {
        panic!("an IPv6 address")
    };
    address.octets().to_vec()
}
