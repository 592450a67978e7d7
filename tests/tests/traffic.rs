//! What passes between endpoints and the node, as the far side sees it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport, UDP, checksum};
use tests::lab::conversation::{bound, exchange, pattern, transfer};
use tests::lab::node::{OneNode, answers, ping};
use tests::lab::wire::{Seen, Wire};
use tests::lab::{PATIENCE, wait_until};
use tests::party::{Family, Who};

const TCP: u8 = 6;
/// What a transfer consists of, in bytes.
const TRANSFER_LEN: usize = 16 << 20;
/// Longest frame that fits the MTU of 1,500 bytes.
const FRAME_LEN: usize = 1_514;
/// A protocol for experiments (RFC 3692), which has no ports.
const EXPERIMENTAL: u8 = 253;

#[test]
fn endpoints_see_each_other_one_hop_away_behind_their_gateway() {
    let net = OneNode::new();
    let db = net.who("db");
    let far = Wire::open(&net.db, "eth0");

    for family in Family::BOTH {
        let socket = bound(&net.db, db.ip(family));
        let client = bound(&net.web, net.address("web", family));
        // The first packet is decided about; those behind the answer take the fast path.
        for round in 0..6 {
            exchange(&client, &socket);
            let seen = far.receive("the datagram", |frame| frame.carries(UDP));
            assert_eq!(seen.hop_limit(), 63, "round {round} of {family:?}");
            assert_eq!(
                seen.from_mac(),
                db.gateway_mac,
                "the sender should be the gateway"
            );
            assert_eq!(seen.to_mac(), db.mac, "round {round} of {family:?}");
            expect_sound_header(&seen);
        }
    }
}

#[test]
fn echo_requests_pass_between_all_of_them() {
    let net = OneNode::new();
    let places = [
        ("web", &net.web),
        ("db", &net.db),
        ("api", &net.api),
        ("host", &net.host),
    ];

    for (from, place) in places {
        for (to, _) in places.iter().filter(|(to, _)| *to != from) {
            for family in Family::BOTH {
                assert!(
                    answers(place, net.address(to, family)),
                    "{from} → {to} {family:?}"
                );
            }
        }
    }
}

#[test]
fn tcp_passes_between_all_of_them() {
    let net = OneNode::new();

    for family in Family::BOTH {
        for (client, server, name) in [
            (&net.web, &net.db, "db"),
            (&net.web, &net.host, "host"),
            (&net.host, &net.api, "api"),
        ] {
            let data = transfer(client, server, net.address(name, family), 10_000);
            assert_eq!(data, pattern(10_000), "{name} should get what was sent");
        }
    }
}

#[test]
fn the_node_and_its_endpoints_meet_through_cilium_host() {
    let net = OneNode::new();
    let (web, host) = (net.who("web"), net.who("host"));
    let (at_host, at_web) = (
        Wire::open(&net.host, "cilium_host"),
        Wire::open(&net.web, "eth0"),
    );

    for family in Family::BOTH {
        let (near, far) = (
            bound(&net.host, host.ip(family)),
            bound(&net.web, web.ip(family)),
        );
        for _ in 0..3 {
            exchange(&near, &far);
            let seen = at_web.receive("the datagram", |frame| frame.carries(UDP));
            assert_eq!(seen.hop_limit(), 64, "the node itself is no hop");
            assert_eq!(seen.from_mac(), web.gateway_mac);
            assert_eq!(seen.to_mac(), web.mac);
            let answer = at_host.receive("the answer", |frame| frame.carries(UDP));
            assert_eq!(answer.hop_limit(), 64, "the node itself is no hop");
            assert_eq!(answer.to_mac(), host.mac);
        }
    }
}

#[test]
fn tcp_transfer_arrives_whole_in_packets_longer_than_the_mtu() {
    let net = OneNode::new();

    for family in Family::BOTH {
        for (client, server, name, link) in [
            (&net.web, &net.db, "db", "eth0"),
            (&net.web, &net.host, "host", "cilium_host"),
            (&net.host, &net.web, "web", "eth0"),
        ] {
            let far = Wire::open(server, link);
            let data = transfer(client, server, net.address(name, family), TRANSFER_LEN);

            assert!(
                data == pattern(TRANSFER_LEN),
                "{name} should get what was sent"
            );
            far.receive("a packet of several segments", |frame| {
                frame.carries(TCP) && frame.bytes.len() > FRAME_LEN
            });
        }
    }
}

#[test]
fn datagrams_in_fragments_arrive() {
    let net = OneNode::new();

    for family in Family::BOTH {
        for (from, to, name) in [
            (&net.web, &net.db, "db"),
            (&net.web, &net.host, "host"),
            (&net.host, &net.web, "web"),
        ] {
            let server = bound(to, net.address(name, family));
            let client = from
                .inside(|| UdpSocket::bind((unspecified(family), 0)))
                .expect("bind");
            let sent = pattern(5_000);
            client
                .send_to(&sent, server.local_addr().expect("bound"))
                .expect("send");

            let mut bytes = [0; 6_000];
            let len = server.recv(&mut bytes).expect("the datagram should arrive");
            assert!(bytes[..len] == sent, "{name} should get what was sent");
            from.run(&format!(
                "ping -n -c 2 -i 0.01 -W 2 -s 4000 {}",
                net.address(name, family)
            ));
        }
    }
}

#[test]
fn later_fragment_without_a_first_is_dropped_and_counted() {
    let net = OneNode::new();
    let (web, db) = (net.who("web"), net.who("db"));
    let (mouth, far) = (Wire::open(&net.web, "eth0"), Wire::open(&net.db, "eth0"));
    let _ear = ear(&net);
    let whole = |family| Frame::new(&web, &db, family, Transport::udp(5_000, 9_000, 2_000));

    for family in Family::BOTH {
        let before = net.drops(DropReason::FragmentNotFound);

        mouth.send(&whole(family).part(1_024..2_008).bytes());
        mouth.send(&truth(&web, &db));

        let seen = far.received_until("the true datagram", is_truth);
        assert_eq!(seen.len(), 1, "the fragment should not arrive: {seen:02x?}");
        net.expect_drops(DropReason::FragmentNotFound, before, 1);
    }
}

#[test]
fn packet_at_the_end_of_its_hop_limit_is_answered_by_the_router() {
    let net = OneNode::new();
    let (web, db) = (net.who("web"), net.who("db"));
    let (mouth, far) = (Wire::open(&net.web, "eth0"), Wire::open(&net.db, "eth0"));
    let _ear = ear(&net);

    for (family, kind) in [(Family::V4, 11), (Family::V6, 3)] {
        // As traceroute does.
        let last = Frame::new(&web, &db, family, Transport::udp(40_000, 33_434, 32)).hop_limit(1);
        mouth.send(&last.bytes());

        let answer = mouth.receive("time exceeded", |frame| frame.carries(family.icmp()));
        assert_eq!(answer.payload()[0], kind, "of {family:?}: {answer:02x?}");
        assert_eq!(source(&answer), family.router(), "the router should answer");
        assert!(
            answer.contains(&last.quote()[..8][4..]),
            "the packet should be quoted"
        );
        mouth.send(&truth(&web, &db));
        let seen = far.received_until("the true datagram", is_truth);
        assert_eq!(
            seen.len(),
            1,
            "the packet should go no further: {seen:02x?}"
        );

        let traced = net
            .web
            .attempt(&format!("ping -n -c 1 -W 2 -t 1 {}", db.ip(family)));
        let from = format!("From {}", family.router());
        assert!(
            traced.stdout.contains(&from),
            "the router should answer: {traced:#?}"
        );
    }
}

#[test]
fn closed_port_is_answered_by_the_endpoint() {
    let net = OneNode::new();

    for family in Family::BOTH {
        for name in ["db", "host"] {
            let target = SocketAddr::new(net.address(name, family), 9);
            let client = bound(&net.web, net.address("web", family));
            client.connect(target).expect("connect");
            client.send(b"anybody").expect("send");
            let error = client.recv(&mut [0; 8]).expect_err("nobody answers");
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{name} {family:?}: {error}"
            );
            let error = net
                .web
                .inside(|| TcpStream::connect_timeout(&target, PATIENCE));
            let error = error.expect_err("nobody listens");
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{name} {family:?}: {error}"
            );
        }
    }
}

#[test]
fn arp_is_answered_for_everybody_but_the_asker() {
    let net = OneNode::new();
    let web = net.who("web");
    let mouth = Wire::open(&net.web, "eth0");
    let (own, router) = ([10, 0, 1, 10], [10, 0, 1, 1]);

    mouth.send(&arp_request(&web, [0; 4], own)); // a probe (RFC 5227)
    mouth.send(&arp_request(&web, [0; 4], router));
    mouth.send(&arp_request(&web, own, own)); // an announcement
    mouth.send(&arp_request(&web, own, router));

    let seen = mouth.received_until("the answer", |frame| frame.ethertype() == 0x0806);
    let answer = [
        &[0, 1, 8, 0, 6, 4, 0, 2][..],
        &web.gateway_mac,
        &router,
        &web.mac,
        &own,
    ]
    .concat();
    assert_eq!(
        seen.len(),
        1,
        "only the last should be answered: {seen:02x?}"
    );
    assert_eq!(seen[0].bytes[14..42], answer);
    assert_eq!(seen[0].from_mac(), web.gateway_mac);
    assert_eq!(seen[0].to_mac(), web.mac);
}

#[test]
fn solicitation_is_answered_for_everybody_but_the_asker() {
    let net = OneNode::new();
    let web = net.who("web");
    let mouth = Wire::open(&net.web, "eth0");
    let (own, router) = (web.ip(Family::V6), Family::V6.router());

    mouth.send(&solicitation(&web, unspecified(Family::V6), own)); // a probe (RFC 4862)
    mouth.send(&solicitation(&web, unspecified(Family::V6), router));
    mouth.send(&solicitation(&web, own, own));
    mouth.send(&solicitation(&web, own, router));

    let seen = mouth.received_until("the answer", |frame| {
        frame.carries(58) && frame.payload()[0] == 136
    });
    assert_eq!(
        seen.len(),
        1,
        "only the last should be answered: {seen:02x?}"
    );
    let expected = [
        &[0xe0, 0, 0, 0],
        &octets(router)[..],
        &[2, 1],
        &web.gateway_mac,
    ]
    .concat();
    assert_eq!(seen[0].payload()[4..], expected);
    assert_eq!(seen[0].hop_limit(), 255);
    assert_eq!(source(&seen[0]), router);
    let covered = [
        &octets(router),
        &octets(own),
        &[0, 0, 0, 32, 0, 0, 0, 58][..],
        seen[0].payload(),
    ];
    assert_eq!(
        checksum(&covered.concat()),
        0,
        "the checksum should be right"
    );
}

#[test]
fn addresses_are_usable_at_once_and_routes_carry_the_mtu() {
    let net = OneNode::new();

    let addresses = net.web.run("ip -6 -o address show dev eth0");
    let ours = addresses
        .lines()
        .find(|line| line.contains("fd00:1::10/128"))
        .expect("is there");
    assert!(!ours.contains("tentative"), "{ours}");
    drop(bound(&net.web, net.address("web", Family::V6)));
    for family in ["-4", "-6"] {
        let route = net.web.run(&format!("ip {family} route show default"));
        assert!(route.contains("mtu 1500"), "{route}");
    }
    let own = net.host.run("ip -o address show dev lxcweb");
    assert_eq!(own, "", "the node's side should have no address");
}

#[test]
fn unknown_protocols_pass_by_address() {
    let net = OneNode::new();
    let (web, db, host) = (net.who("web"), net.who("db"), net.who("host"));
    let mouth = Wire::open(&net.web, "eth0");
    let (at_db, at_host) = (
        Wire::open(&net.db, "eth0"),
        Wire::open(&net.host, "cilium_host"),
    );

    for family in Family::BOTH {
        for (to, far, hop_limit) in [(&db, &at_db, 63), (&host, &at_host, 64)] {
            for round in 0..6 {
                let transport = Transport::other(EXPERIMENTAL, [0, 0], b"whatever that is");
                mouth.send(&Frame::new(&web, to, family, transport).bytes());

                let seen = far.receive("the packet", |frame| frame.carries(EXPERIMENTAL));
                assert_eq!(seen.payload()[..16], *b"whatever that is");
                assert_eq!(seen.hop_limit(), hop_limit, "round {round} of {family:?}");
            }
        }
    }
}

#[test]
fn address_of_nobody_and_multicast_are_dropped_and_counted() {
    let net = OneNode::new();
    let (web, db) = (net.who("web"), net.who("db"));
    let (mouth, far) = (Wire::open(&net.web, "eth0"), Wire::open(&net.db, "eth0"));
    let _ear = ear(&net);
    let groups: [(IpAddr, [u8; 6]); 2] = [
        ([224, 0, 0, 251].into(), [1, 0, 0x5e, 0, 0, 0xfb]),
        (
            "ff02::fb".parse().expect("an address"),
            [0x33, 0x33, 0, 0, 0, 0xfb],
        ),
    ];

    for (family, (group, mac)) in Family::BOTH.into_iter().zip(groups) {
        let [nobody, many] =
            [DropReason::StaleOrUnroutable, DropReason::Multicast].map(|reason| net.drops(reason));
        let datagram = Transport::udp(5_000, 5_353, 32);
        mouth.send(&Frame::to_address(&web, family.unused(), datagram.clone()).bytes());
        mouth.send(&Frame::to_address(&web, group, datagram).to_mac(mac).bytes());
        mouth.send(&truth(&web, &db));

        let seen = far.received_until("the true datagram", is_truth);
        assert_eq!(seen.len(), 1, "nothing else should arrive: {seen:02x?}");
        net.expect_drops(DropReason::StaleOrUnroutable, nobody, 1);
        net.expect_drops(DropReason::Multicast, many, 1);
    }
}

#[test]
fn traffic_goes_through_without_the_nodes_forwarding_of_ipv4() {
    let net = OneNode::new();
    net.host.set_sysctl("net/ipv4/conf/all/forwarding", "0");
    net.host.run("ip route add blackhole 10.0.1.11");

    // redirect_peer asks neither the switch nor the routing table of the node.
    ping(&net.web, net.address("db", Family::V4));
}

#[test]
fn flows_of_a_second_ago_are_decided_again_and_go_on() {
    let net = OneNode::new();

    for family in Family::BOTH {
        let server = bound(&net.db, net.address("db", family));
        let client = bound(&net.web, net.address("web", family));
        exchange(&client, &server);
        let flows = || net.host.run(&format!("{} --json flows", binary()));
        wait_until("the flow is known", || flows().contains("\"established\""));
        // What is decided holds for a second: this is what is waited for.
        thread::sleep(Duration::from_millis(1_100));
        exchange(&client, &server);
    }
}

fn binary() -> String {
    tests::lab::agent::binary().display().to_string()
}

/// Takes the datagrams that must arrive, so that they are answered by no error.
fn ear(net: &OneNode) -> UdpSocket {
    net.db
        .inside(|| UdpSocket::bind(("10.0.1.11", 9_000)))
        .expect("bind")
}

/// Returns a datagram that must arrive.
fn truth(from: &Who, to: &Who) -> Vec<u8> {
    Frame::new(from, to, Family::V4, Transport::udp(9_000, 9_000, 77)).bytes()
}

fn is_truth(frame: &Seen) -> bool {
    frame.carries(UDP) && frame.payload().len() == 85
}

fn expect_sound_header(frame: &Seen) {
    if frame.ethertype() == 0x0800 {
        assert_eq!(
            checksum(&frame.bytes[14..34]),
            0,
            "the header's sum should be right"
        );
    }
}

fn source(frame: &Seen) -> IpAddr {
    if frame.ethertype() == 0x0800 {
        let bytes: [u8; 4] = frame.bytes[26..30].try_into().expect("four bytes");
        return bytes.into();
    }
    let bytes: [u8; 16] = frame.bytes[22..38].try_into().expect("sixteen bytes");
    bytes.into()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0; 16].into(),
    }
}

fn arp_request(from: &Who, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let header = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
    [
        &[0xff; 6],
        &from.mac,
        &header[..],
        &from.mac,
        &sender,
        &[0; 6],
        &target,
    ]
    .concat()
}

fn solicitation(from: &Who, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    let last = octets(target).split_off(13);
    let group = [&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff][..], &last].concat();
    let group: [u8; 16] = group.try_into().expect("sixteen bytes");
    let option = if sender == unspecified(Family::V6) {
        Vec::new()
    } else {
        [&[1, 1], &from.mac[..]].concat()
    };
    let body = [&[0; 4], &octets(target)[..], &option].concat();
    let message = Transport::icmp(Family::V6, 135, 0, &body);
    let frame = Frame::to_address(from, group.into(), message)
        .source(sender)
        .hop_limit(255);
    frame
        .to_mac([0x33, 0x33, 0xff, last[0], last[1], last[2]])
        .bytes()
}
