//! Ports that run out: an endpoint's share, the range, and who is told (RFC 4787 REQ-3, RFC 6888,
//! RFC 5508 REQ-8).

use datapath::verdict::{DropReason, Verdict};
use tests::frame::sent;
use tests::party::{A, B, Family, HOST};
use tests::row::Row;
use tests::snapshot::Snapshot;

use super::talk::{Talk, endpoint_independent, left};

/// Index of `cilium_net`.
const NET_LINK: u32 = 101;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(limited(family));
        rows.extend(exhausted(family));
        rows.extend(told(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} shortage: {text}")
}

fn out(family: Family, text: &str, talk: &Talk) -> Row {
    super::talk::out(name(family, text), talk)
}

fn limited(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let theirs = Talk::udp(family, &B, 50_000);
    let at_limit = |row: Row| row.node(|node| node.masquerade.max_ports = 2).bound(&A, 2);
    let opens = |talk: &Talk, state: &mut Snapshot| {
        talk.wait(state);
        talk.bind(state, (0, 0));
    };
    vec![
        at_limit(out(family, "endpoint has its share", &talk)).dropped(DropReason::NatLimit),
        at_limit(left(
            out(family, "endpoint has less than its share", &talk),
            &talk,
        ))
        .bound(&A, 1)
        .then(|state| opens(&talk, state)),
        at_limit(left(
            out(family, "share of another endpoint", &theirs),
            &theirs,
        ))
        .then(|state| opens(&theirs, state)),
        at_limit(left(
            out(family, "binding that is there already", &talk),
            &talk,
        ))
        .given(|state| talk.bind(state, (1, 0)))
        .then(|state| talk.wait(state)),
    ]
}

fn exhausted(family: Family) -> Vec<Row> {
    let ports = [50_000, 50_001];
    let talk = Talk::udp(family, &A, 50_000);
    let narrow = |row: Row| row.node(|node| node.masquerade.ports = [50_000, 50_001]);
    let narrow_shared = |row: Row| {
        row.node(|node| {
            endpoint_independent(node);
            node.masquerade.ports = [50_000, 50_001];
        })
    };
    let taken = |state: &mut Snapshot| {
        for port in ports {
            Talk::udp(family, &B, port).bind(state, (1, 0));
        }
    };
    let taken_shared = |state: &mut Snapshot| {
        for port in ports {
            Talk::udp(family, &B, port).bind_shared(state, (1, 0));
        }
    };
    let elsewhere = talk.clone().toward(family.next_hop());
    let second = Talk::moved(family, &A, 50_001);
    let kept = Talk::udp(family, &A, 50_000).left;
    vec![
        narrow(out(family, "every port to the party is taken", &talk))
            .given(taken)
            .dropped(DropReason::NatExhausted),
        narrow_shared(out(family, "every port is taken", &talk))
            .given(taken_shared)
            .dropped(DropReason::NatExhausted),
        narrow_shared(out(
            family,
            "every port is taken towards anybody",
            &elsewhere,
        ))
        .given(taken_shared)
        .dropped(DropReason::NatExhausted),
        narrow(left(
            out(family, "ports taken to another party", &elsewhere),
            &elsewhere,
        ))
        .given(taken)
        .then(|state| {
            elsewhere.wait(state);
            elsewhere.bind(state, (0, 0));
        }),
        narrow(left(out(family, "last port", &second), &second))
            .given(|state| Talk::udp(family, &B, 50_000).bind(state, (1, 0)))
            .then(|state| {
                second.wait(state);
                second.bind(state, (0, 0));
            }),
        narrow(left(
            out(family, "port of a socket of the node", &second),
            &second,
        ))
        .socket(kept.tuple())
        .then(|state| {
            second.wait(state);
            second.bind(state, (0, 0));
        }),
    ]
}

/// The node's stack tells an endpoint that it gets no port (RFC 5508 REQ-8).
fn told(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let refused = |row: Row, reason| {
        row.gets(Verdict::Host(NET_LINK))
            .leaves(|bytes| sent(bytes, HOST.gateway_mac, HOST.mac))
            .counted(reason)
    };
    let at_limit = |row: Row| {
        row.bound(&A, 2).node(|node| {
            node.net_ifindex = NET_LINK;
            node.masquerade.max_ports = 2;
        })
    };
    vec![
        refused(
            at_limit(out(family, "endpoint is told of its share", &talk)),
            DropReason::NatLimit,
        ),
        refused(
            out(family, "endpoint is told that every port is taken", &talk)
                .node(|node| {
                    node.net_ifindex = NET_LINK;
                    node.masquerade.ports = [50_000, 50_000];
                })
                .given(|state| Talk::udp(family, &B, 50_000).bind(state, (1, 0))),
            DropReason::NatExhausted,
        ),
        refused(
            out(family, "endpoint is told that the address is gone", &talk)
                .node(|node| node.net_ifindex = NET_LINK)
                .without_masquerade_address(),
            DropReason::NatAddressGone,
        ),
        at_limit(Row::to_netdev(
            name(family, "stack's own try to send it on is refused"),
            talk.sent.bytes(),
        ))
        .dropped(DropReason::NatLimit),
    ]
}
