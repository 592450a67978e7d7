//! Who answers for whom, and when addresses can be used.

use std::net::IpAddr;

use tests::frame::{Frame, Transport, checksum};
use tests::lab::conversation::bound;
use tests::lab::node::OneNode;
use tests::lab::wire::Wire;
use tests::party::{Family, Who};

use super::{source, unspecified};

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

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
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
