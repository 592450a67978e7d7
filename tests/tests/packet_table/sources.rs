//! Who may say what, and to whom.

use std::net::{Ipv4Addr, Ipv6Addr};

use datapath::hook::Hook;
use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, Transport};
use tests::party::{A, B, C, D, EMPTY_LINK, Family, HOST};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::segment;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(spoofed(family));
        rows.extend(destinations(family));
        rows.extend(tagged(family));
    }
    rows.extend(of_one_family());
    rows.extend(groups());
    rows.extend(other_protocols());
    rows
}

fn spoofed(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family);
    let row = |text: &str, frame: Frame| {
        Row::from_container(format!("{family:?}: {text}"), &A, frame.bytes())
    };
    vec![
        row(
            "source is a foreign Ethernet address",
            frame.clone().from_mac(B.mac),
        )
        .dropped(DropReason::InvalidSourceMac),
        row(
            "source is the gateway's Ethernet address",
            frame.clone().from_mac(A.gateway_mac),
        )
        .dropped(DropReason::InvalidSourceMac),
        row(
            "destination is a foreign Ethernet address",
            frame.clone().to_mac(B.mac),
        )
        .dropped(DropReason::InvalidDestinationMac),
        row(
            "unicast packet in a frame to everybody",
            frame.clone().to_mac([0xff; 6]),
        )
        .dropped(DropReason::InvalidDestinationMac),
        row(
            "unicast packet in a frame to a group",
            frame.clone().to_mac([0x33; 6]),
        )
        .dropped(DropReason::InvalidDestinationMac),
        row(
            "source is another endpoint's address",
            segment(&A, &HOST, family).source(B.ip(family)),
        )
        .dropped(DropReason::InvalidSourceIp),
        row(
            "source is the router's address",
            frame.clone().source(family.router()),
        )
        .dropped(DropReason::InvalidSourceIp),
        row(
            "source is an address far away",
            frame.clone().source(family.world()),
        )
        .dropped(DropReason::InvalidSourceIp),
        row("destination is its own address", segment(&A, &A, family))
            .dropped(DropReason::InvalidPacket),
        Row::new(
            format!("{family:?}: link has no endpoint"),
            Hook::FromContainer,
            EMPTY_LINK,
            frame.bytes(),
        )
        .dropped(DropReason::InvalidSourceIp),
    ]
}

fn destinations(family: Family) -> Vec<Row> {
    let destinations = [
        ("router", family.router()),
        ("world", family.world()),
        ("unused address of the node", family.unused()),
    ];
    destinations
        .map(|(name, destination)| {
            let frame = Frame::to_address(&A, destination, Transport::tcp(40_000, 80, ACK));
            let len = frame.bytes().len();
            Row::from_container(format!("{family:?}: to the {name}"), &A, frame.bytes())
                .to_stack()
                .then(|state| {
                    state.pending(frame.tuple(), Waiting::of(&A, 1, len));
                })
        })
        .into()
}

fn tagged(family: Family) -> Vec<Row> {
    let plain = segment(&A, &B, family).bytes();
    let with_tag =
        |ethertype: [u8; 2]| [&plain[..12], &ethertype[..], &[0, 5][..], &plain[12..]].concat();
    let (tag, service_tag) = (with_tag([0x81, 0]), with_tag([0x88, 0xa8]));
    let name = |text: &str| format!("{family:?}: {text}");
    let vlan = DropReason::Vlan;
    vec![
        Row::from_container(name("VLAN tag from an endpoint"), &A, tag.clone()).dropped(vlan),
        Row::from_container(name("service tag from an endpoint"), &A, service_tag).dropped(vlan),
        Row::from_container(name("VLAN tag beside a packet"), &A, plain)
            .vlan_beside()
            .dropped(vlan),
        Row::to_container(name("VLAN tag to an endpoint"), &A, tag.clone()).dropped(vlan),
        Row::to_host(name("VLAN tag to the stack"), tag.clone()).dropped(vlan),
        Row::from_host(name("VLAN tag from the stack is none of ours"), tag),
    ]
}

fn of_one_family() -> Vec<Row> {
    let transport = Transport::tcp(40_000, 80, ACK);
    let [mut from_c, mut from_d] = [
        Frame::new(&A, &D, Family::V6, transport.clone()),
        Frame::new(&A, &C, Family::V4, transport),
    ];
    (from_c.from_mac, from_c.to_mac) = (C.mac, C.gateway_mac);
    (from_d.from_mac, from_d.to_mac) = (D.mac, D.gateway_mac);
    let unspecified4 = from_d.clone().source(Ipv4Addr::UNSPECIFIED);
    let unspecified6 = from_c.clone().source(Ipv6Addr::UNSPECIFIED);
    let drop = DropReason::InvalidSourceIp;
    vec![
        Row::from_container("IPv6 from an endpoint without it", &C, from_c.bytes()).dropped(drop),
        Row::from_container("IPv4 from an endpoint without it", &D, from_d.bytes()).dropped(drop),
        Row::from_container("0.0.0.0 is nobody's address", &D, unspecified4.bytes()).dropped(drop),
        Row::from_container(":: is nobody's address", &C, unspecified6.bytes()).dropped(drop),
    ]
}

fn groups() -> Vec<Row> {
    let groups = [
        (
            "IPv4 group",
            Ipv4Addr::new(224, 0, 0, 251).into(),
            [1, 0, 0x5e, 0, 0, 0xfb],
        ),
        ("limited broadcast", Ipv4Addr::BROADCAST.into(), [0xff; 6]),
        (
            "IPv4 group in a unicast frame",
            Ipv4Addr::new(239, 1, 1, 1).into(),
            A.gateway_mac,
        ),
        (
            "IPv6 group",
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb).into(),
            [0x33; 6],
        ),
    ];
    groups
        .map(|(name, group, mac)| {
            let frame = Frame::to_address(&A, group, Transport::udp(5_353, 5_353, 20)).to_mac(mac);
            Row::from_container(name, &A, frame.bytes()).dropped(DropReason::Multicast)
        })
        .into()
}

fn other_protocols() -> Vec<Row> {
    let mut frame = segment(&A, &B, Family::V4).bytes();
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    let drop = DropReason::UnsupportedL3;
    vec![
        Row::from_container("LLDP from an endpoint", &A, frame.clone()).dropped(drop),
        Row::to_container("LLDP to an endpoint", &A, frame.clone()).dropped(drop),
        Row::to_host("LLDP to the stack", frame.clone()).dropped(drop),
        Row::from_host("LLDP from the stack is none of ours", frame),
    ]
}
