//! What does not pass, and who says so.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport, UDP};
use tests::lab::conversation::bound;
use tests::lab::node::OneNode;
use tests::lab::wire::{Seen, Wire};
use tests::lab::{PATIENCE, uninterrupted, wait_until};
use tests::party::{Family, Who};

use super::source;

#[test]
fn fragment_that_overtakes_the_first_waits_for_it() {
    let net = OneNode::new();
    let (web, db) = (net.who("web"), net.who("db"));
    let (mouth, far) = (Wire::open(&net.web, "eth0"), Wire::open(&net.db, "eth0"));
    let _ear = ear(&net);
    let whole = |family| Frame::new(&web, &db, family, Transport::udp(5_000, 9_000, 2_000));

    for family in Family::BOTH {
        let [first, later] = [0..1_024, 1_024..2_008].map(|part| whole(family).part(part).bytes());
        mouth.send(&later);
        mouth.send(&truth(&web, &db));

        let seen = far.received_until("the true datagram", is_truth);
        assert_eq!(seen.len(), 1, "the fragment should wait: {seen:02x?}");

        mouth.send(&first);
        for (name, part) in [("first", &first), ("later", &later)] {
            let payload = &part[part.len() - 900..];
            far.receive(&format!("the {name} fragment"), |frame| {
                frame.contains(payload)
            });
        }
    }
}

#[test]
fn fragments_whose_first_never_comes_are_dropped_and_counted_beyond_a_share() {
    let net = OneNode::new();
    let (web, db) = (net.who("web"), net.who("db"));
    let mouth = Wire::open(&net.web, "eth0");
    let whole = |family| Frame::new(&web, &db, family, Transport::udp(5_000, 9_000, 2_000));

    for family in Family::BOTH {
        let before = net.drops(DropReason::FragmentNotFound);

        for id in 0..600 {
            mouth.send(&whole(family).id(id).part(1_024..2_008).bytes());
        }

        wait_until("what is beyond the share is counted", || {
            net.drops(DropReason::FragmentNotFound) > before
        });
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
            let error = uninterrupted(|| client.recv(&mut [0; 8])).expect_err("nobody answers");
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
