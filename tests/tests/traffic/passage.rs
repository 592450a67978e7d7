//! What passes between endpoints and the node, and how it arrives.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use tests::frame::{Frame, Transport, UDP, checksum};
use tests::lab::conversation::{bound, exchange, pattern, transfer};
use tests::lab::node::{OneNode, answers, ping};
use tests::lab::wire::{Seen, Wire};
use tests::lab::{uninterrupted, wait_until};
use tests::party::Family;

use super::unspecified;

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
            let len =
                uninterrupted(|| server.recv(&mut bytes)).expect("the datagram should arrive");
            assert!(bytes[..len] == sent, "{name} should get what was sent");
            from.run(&format!(
                "ping -n -c 2 -i 0.01 -W 2 -s 4000 {}",
                net.address(name, family)
            ));
        }
    }
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

fn expect_sound_header(frame: &Seen) {
    if frame.ethertype() == 0x0800 {
        assert_eq!(
            checksum(&frame.bytes[14..34]),
            0,
            "the header's sum should be right"
        );
    }
}
