//! ARP (RFC 826): every address but its own is the gateway's.

use std::net::Ipv4Addr;

use datapath::hook::Hook;
use datapath::verdict::{DropReason, Verdict};
use tests::party::{A, B, D, EMPTY_LINK, HOST, ROUTER4, UNUSED4, Who};
use tests::row::Row;

const EVERYBODY: [u8; 6] = [0xff; 6];
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = answered();
    rows.extend(needless());
    rows.extend(forged());
    rows.extend(malformed());
    rows
}

fn answered() -> Vec<Row> {
    let questions = [
        ("request for the router is answered", ROUTER4),
        (
            "request for another endpoint is answered for the gateway",
            own(&B),
        ),
        (
            "request for an unused address is answered for the gateway",
            UNUSED4,
        ),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (name, target) in questions {
        rows.push(answer(name, EVERYBODY, target));
    }
    rows.push(answer(
        "unicast request is answered",
        A.gateway_mac,
        ROUTER4,
    ));
    rows
}

fn answer(name: &str, to_mac: [u8; 6], target: Ipv4Addr) -> Row {
    let reply = message(
        A.mac,
        A.gateway_mac,
        2,
        (A.gateway_mac, target),
        (A.mac, own(&A)),
    );
    row(name, &A, request(&A, to_mac, own(&A), target))
        .gets(Verdict::Peer(A.link))
        .leaves(|_| reply)
}

fn needless() -> Vec<Row> {
    let reply = message(
        A.gateway_mac,
        A.mac,
        2,
        (A.mac, own(&A)),
        (A.gateway_mac, ROUTER4),
    );
    [
        (
            "probe for a duplicate is never answered",
            request(&A, EVERYBODY, NOBODY, own(&A)),
        ),
        (
            "probe for another's address is never answered",
            request(&A, EVERYBODY, NOBODY, own(&B)),
        ),
        (
            "gratuitous request needs no answer",
            request(&A, EVERYBODY, own(&A), own(&A)),
        ),
        ("truthful reply needs no answer", reply),
    ]
    .map(|(name, bytes)| row(name, &A, bytes).gets(Verdict::Consumed))
    .into()
}

fn forged() -> Vec<Row> {
    let forged = DropReason::ForgedArp;
    let lies = |mac, ip| message(EVERYBODY, A.mac, 1, (mac, ip), ([0; 6], ROUTER4));
    let claims = message(A.gateway_mac, A.mac, 2, (A.mac, own(&B)), (B.mac, own(&B)));
    let [from_foreign, to_foreign] = [
        message(EVERYBODY, B.mac, 1, (A.mac, own(&A)), ([0; 6], ROUTER4)),
        request(&A, B.mac, own(&A), ROUTER4),
    ];
    vec![
        row("request with another's address", &A, lies(A.mac, own(&B))).dropped(forged),
        row(
            "request with another's Ethernet address",
            &A,
            lies(B.mac, own(&A)),
        )
        .dropped(forged),
        row(
            "gratuitous request for another",
            &A,
            request(&A, EVERYBODY, own(&B), own(&B)),
        )
        .dropped(forged),
        row(
            "probe with another's Ethernet address",
            &A,
            lies(B.mac, NOBODY),
        )
        .dropped(forged),
        row("reply that claims another's address", &A, claims).dropped(forged),
        row("ARP from an endpoint without an IPv4 address", &D, {
            request(&D, EVERYBODY, own(&A), ROUTER4)
        })
        .dropped(forged),
        row("ARP in a frame from a foreign address", &A, from_foreign)
            .dropped(DropReason::InvalidSourceMac),
        row("ARP in a frame to a foreign address", &A, to_foreign)
            .dropped(DropReason::InvalidDestinationMac),
    ]
}

fn malformed() -> Vec<Row> {
    let good = request(&A, EVERYBODY, own(&A), ROUTER4);
    let [mut wifi, mut long, mut short] = [good.clone(), good.clone(), good.clone()];
    wifi[15] = 6;
    long[18] = 8;
    short.truncate(41);
    let at = |name: &str, hook, link| Row::new(name, hook, link, good.clone());
    vec![
        row("ARP for other hardware", &A, wifi).dropped(DropReason::InvalidPacket),
        row("ARP with longer addresses", &A, long).dropped(DropReason::InvalidPacket),
        row("ARP cut off", &A, short).dropped(DropReason::InvalidPacket),
        at("ARP on an empty link", Hook::FromContainer, EMPTY_LINK)
            .dropped(DropReason::InvalidSourceIp),
        at(
            "ARP of the stack for an endpoint",
            Hook::ToContainer,
            A.link,
        )
        .dropped(DropReason::UnsupportedL3),
        at("ARP towards the stack", Hook::ToHost, HOST.link).dropped(DropReason::UnsupportedL3),
        at(
            "ARP of the stack is none of ours",
            Hook::FromHost,
            HOST.link,
        ),
    ]
}

fn row(name: &str, who: &Who, bytes: Vec<u8>) -> Row {
    Row::from_container(name, who, bytes)
}

fn own(who: &Who) -> Ipv4Addr {
    who.ipv4.expect("has an IPv4 address")
}

fn request(from: &Who, to_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    message(to_mac, from.mac, 1, (from.mac, sender), ([0; 6], target))
}

fn message(
    to_mac: [u8; 6],
    from_mac: [u8; 6],
    operation: u8,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let mut bytes = [to_mac, from_mac].concat();
    bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, ip) in [sender, target] {
        bytes.extend(mac);
        bytes.extend(ip.octets());
    }
    bytes
}
