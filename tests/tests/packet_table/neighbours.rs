//! Neighbour discovery (RFC 4861) and what else endpoints say to their link in `ICMPv6`.

use std::net::Ipv6Addr;

use datapath::verdict::{DropReason, Verdict};
use tests::frame::{Frame, Transport, cut};
use tests::party::{A, B, C, Family, ROUTER6, UNUSED6, Who};
use tests::row::Row;

const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
const NONCE_OPTION: u8 = 14;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_REPORTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = answered();
    rows.extend(needless());
    rows.extend(forged());
    rows.extend(malformed());
    rows.extend(routers());
    rows
}

fn answered() -> Vec<Row> {
    let asked = |target| question(&A, target, &option(SOURCE_OPTION, A.mac));
    let unicast = Frame {
        destination: ROUTER6.into(),
        to_mac: A.gateway_mac,
        ..question(&A, ROUTER6, &[])
    };
    let by_link_local = asked(ROUTER6).source(LINK_LOCAL);
    let without_ipv6 = question(&A, ROUTER6, &option(SOURCE_OPTION, C.mac))
        .source(LINK_LOCAL)
        .from_mac(C.mac);
    vec![
        answer(
            "solicitation for the router is answered",
            &A,
            &asked(ROUTER6),
            ROUTER6,
        ),
        answer(
            "solicitation for another endpoint is answered",
            &A,
            &asked(own(&B)),
            own(&B),
        ),
        answer(
            "solicitation for an unused address is answered",
            &A,
            &asked(UNUSED6),
            UNUSED6,
        ),
        answer(
            "solicitation by a link-local address is answered",
            &A,
            &by_link_local,
            ROUTER6,
        ),
        answer(
            "solicitation of an endpoint without IPv6",
            &C,
            &without_ipv6,
            ROUTER6,
        ),
        answer_without_option("unicast solicitation without option is answered", &unicast),
    ]
}

fn needless() -> Vec<Row> {
    let probe = |target, option: &[u8]| question(&A, target, option).source(Ipv6Addr::UNSPECIFIED);
    let nonce = [&[NONCE_OPTION, 1], &[7; 6][..]].concat();
    let report = Frame::to_address(&A, ALL_REPORTERS.into(), icmp(143, &[0; 24]));
    let done = Frame::to_address(&A, ALL_ROUTERS.into(), icmp(132, &[0; 20]));
    let solicit = Frame::to_address(&A, ALL_ROUTERS.into(), icmp(133, &[0; 4]));
    let to_everybody = |frame: Frame| frame.to_mac([0x33, 0x33, 0, 0, 0, 2]);
    [
        (
            "duplicate address detection is never answered",
            probe(own(&A), &nonce),
        ),
        (
            "probe for another's address is never answered in IPv6",
            probe(own(&B), &[]),
        ),
        (
            "solicitation for its own address needs no answer",
            question(&A, own(&A), &[]),
        ),
        (
            "truthful advertisement needs no answer",
            claim(own(&A), A.mac),
        ),
        (
            "advertisement of a link-local address needs no answer",
            claim(LINK_LOCAL, A.mac),
        ),
        ("router solicitation needs no answer", to_everybody(solicit)),
        (
            "report of groups needs no answer",
            to_everybody(report.extension(0, &ROUTER_ALERT)),
        ),
        ("leaving of groups needs no answer", to_everybody(done)),
    ]
    .map(|(name, frame)| row(name, &frame).gets(Verdict::Consumed))
    .into()
}

/// Hop-by-hop option of RFC 2711, padded.
const ROUTER_ALERT: [u8; 7] = [0, 5, 2, 0, 0, 1, 0];

fn forged() -> Vec<Row> {
    let asked = question(&A, ROUTER6, &option(SOURCE_OPTION, A.mac));
    let lying = question(&A, ROUTER6, &option(SOURCE_OPTION, B.mac));
    let lying_in_person = claim(own(&A), B.mac);
    [
        (
            "solicitation by another's address",
            asked.clone().source(own(&B)),
        ),
        ("solicitation with another's Ethernet address", lying),
        ("advertisement of another's address", claim(own(&B), A.mac)),
        (
            "advertisement of the router's address",
            claim(ROUTER6, A.mac),
        ),
        (
            "advertisement of another's Ethernet address",
            lying_in_person,
        ),
    ]
    .map(|(name, frame)| row(name, &frame).dropped(DropReason::ForgedNeighbour))
    .into_iter()
    .chain([
        row(
            "solicitation in a frame from a foreign address",
            &asked.clone().from_mac(B.mac),
        )
        .dropped(DropReason::InvalidSourceMac),
        row(
            "solicitation in a frame to a foreign address",
            &asked.to_mac(B.mac),
        )
        .dropped(DropReason::InvalidDestinationMac),
    ])
    .collect()
}

fn malformed() -> Vec<Row> {
    let asked = question(&A, ROUTER6, &option(SOURCE_OPTION, A.mac));
    let routed = asked.clone().hop_limit(64);
    let behind_options = asked.clone().extension(0, &ROUTER_ALERT);
    let (first, later) = (asked.clone().part(0..24), asked.clone().part(24..32));
    let short = Frame {
        transport: icmp(135, &[0; 16]),
        ..asked.clone()
    };
    let invalid = DropReason::InvalidPacket;
    vec![
        row("solicitation that crossed a router", &routed).dropped(invalid),
        row("solicitation behind an extension header", &behind_options).dropped(invalid),
        row("solicitation in a first fragment", &first).dropped(invalid),
        row("solicitation in a later fragment", &later).dropped(DropReason::Multicast),
        row(
            "solicitation in an atomic fragment",
            &asked.clone().part(0..32),
        )
        .dropped(invalid),
        row("solicitation that is too short", &short).dropped(invalid),
        Row::from_container("solicitation cut off", &A, cut(asked.bytes(), 60)).dropped(invalid),
    ]
}

fn routers() -> Vec<Row> {
    let to_b = |transport| Frame {
        hop_limit: 255,
        ..Frame::new(&A, &B, Family::V6, transport)
    };
    let to_all = |transport| Frame {
        to_mac: [0x33, 0x33, 0, 0, 0, 1],
        hop_limit: 255,
        ..Frame::to_address(
            &A,
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
            transport,
        )
    };
    let advertisement = icmp(134, &[0; 12]);
    [
        ("router advertisement to all", to_all(advertisement.clone())),
        (
            "router advertisement to an endpoint",
            to_b(advertisement.clone()),
        ),
        ("redirect", to_b(icmp(137, &[0; 36]))),
        (
            "router advertisement behind an extension header",
            to_b(advertisement.clone()).extension(60, &[0, 1, 4, 0, 0, 0, 0]),
        ),
        (
            "router advertisement in a first fragment",
            to_b(advertisement.clone()).part(0..8),
        ),
        (
            "router advertisement in an atomic fragment",
            to_b(advertisement).part(0..16),
        ),
    ]
    .map(|(name, frame)| row(name, &frame).dropped(DropReason::ForbiddenIcmp6))
    .into()
}

fn row(name: &str, frame: &Frame) -> Row {
    Row::from_container(name, &A, frame.bytes())
}

fn icmp(kind: u8, body: &[u8]) -> Transport {
    Transport::icmp(Family::V6, kind, 0, body)
}

fn own(who: &Who) -> Ipv6Addr {
    who.ipv6.expect("has an IPv6 address")
}

fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

/// Returns a solicitation to the group of its target (RFC 4291 §2.7.1).
fn question(from: &Who, target: Ipv6Addr, option: &[u8]) -> Frame {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let body = [&[0; 4], &target.octets()[..], option].concat();
    Frame {
        hop_limit: 255,
        ..Frame::to_address(from, group.into(), icmp(135, &body))
            .to_mac([0x33, 0x33, 0xff, x, y, z])
    }
}

/// Returns an advertisement that says `target` is at `mac`.
fn claim(target: Ipv6Addr, mac: [u8; 6]) -> Frame {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let body = [
        &[0x20, 0, 0, 0],
        &target.octets()[..],
        &option(TARGET_OPTION, mac),
    ]
    .concat();
    Frame {
        hop_limit: 255,
        ..Frame::to_address(&A, all.into(), icmp(136, &body))
    }
    .to_mac([0x33, 0x33, 0, 0, 0, 1])
}

/// Says that a solicitation with option is answered with the gateway's address.
fn answer(name: &str, who: &Who, question: &Frame, target: Ipv6Addr) -> Row {
    let reply = advertisement(
        who,
        question,
        target,
        &option(TARGET_OPTION, who.gateway_mac),
    );
    Row::from_container(name, who, question.bytes())
        .gets(Verdict::Peer(who.link))
        .leaves(|_| reply.bytes())
}

fn answer_without_option(name: &str, question: &Frame) -> Row {
    let reply = advertisement(&A, question, ROUTER6, &[]);
    row(name, question)
        .gets(Verdict::Peer(A.link))
        .leaves(|_| reply.bytes())
}

/// Returns the advertisement that answers: router, solicited, override.
fn advertisement(who: &Who, question: &Frame, target: Ipv6Addr, option: &[u8]) -> Frame {
    let body = [&[0xe0, 0, 0, 0], &target.octets()[..], option].concat();
    Frame {
        to_mac: who.mac,
        from_mac: who.gateway_mac,
        source: target.into(),
        destination: question.source,
        transport: icmp(136, &body),
        ..question.clone()
    }
}
