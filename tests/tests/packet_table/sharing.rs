//! Endpoint-independent mapping, filters, and ports that run out (RFC 4787 REQ-1, REQ-3, REQ-8;
//! RFC 6888).

use datapath::verdict::{DropReason, Verdict};
use tests::frame::{ACK, Frame, Transport, sent};
use tests::party::{A, B, FAR, Family, HOST, Who};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::talk::{SECOND_NS, Talk, arrives_as, endpoint_independent, leaves_as};

/// Index of `cilium_net`.
const NET_LINK: u32 = 101;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(shared(family));
        rows.extend(filtered(family));
        rows.extend(limited(family));
        rows.extend(exhausted(family));
        rows.extend(told(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} sharing: {text}")
}

fn out(family: Family, text: &str, talk: &Talk) -> Row {
    Row::from_container(name(family, text), &talk.who, talk.sent.bytes())
}

fn left(row: Row, talk: &Talk) -> Row {
    leaves_as(row, &talk.left, talk.family)
}

/// A conversation from port 50000 that leaves by another port.
fn moved(family: Family, who: &Who, port: u16) -> Talk {
    let udp = |from, to| Transport::udp(from, to, 20);
    Talk::new(
        family,
        who,
        [
            udp(50_000, 53),
            udp(port, 53),
            udp(53, port),
            udp(53, 50_000),
        ],
    )
}

fn shared(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let elsewhere = talk.clone().toward(family.next_hop());
    let second = moved(family, &B, 49_152);
    let tcp = Talk::tcp(family, &A, 50_000, ACK);
    let given = |row: Row| {
        row.node(endpoint_independent).given(|state| {
            talk.bind_shared(state, (1, 0));
            talk.permit(state);
        })
    };
    let opens = |talk: &Talk, state: &mut Snapshot| {
        talk.wait(state);
        talk.bind_shared(state, (0, 0));
        talk.permit(state);
    };
    vec![
        left(out(family, "first packet", &talk), &talk)
            .node(endpoint_independent)
            .then(|state| opens(&talk, state)),
        given(left(
            out(family, "another destination", &elsewhere),
            &elsewhere,
        ))
        .then(|state| {
            elsewhere.wait(state);
            elsewhere.permit(state);
        }),
        given(left(
            out(family, "port of another endpoint", &second),
            &second,
        ))
        .then(|state| opens(&second, state)),
        given(left(
            out(family, "same port of another protocol", &tcp),
            &tcp,
        ))
        .then(|state| opens(&tcp, state)),
        left(
            out(
                family,
                "another destination has its own binding",
                &elsewhere,
            ),
            &elsewhere,
        )
        .given(|state| talk.bind(state, (1, 0)))
        .then(|state| {
            elsewhere.wait(state);
            elsewhere.bind(state, (0, 0));
        }),
    ]
}

fn filtered(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let stranger = talk.clone().toward(family.next_hop());
    let other_port = |to: std::net::IpAddr| {
        Frame::new(&FAR, &FAR, family, Transport::udp(99, 50_000, 20)).to(to)
    };
    let known = |state: &mut Snapshot| {
        talk.bind_shared(state, (1, 0));
        talk.permit(state);
    };
    let came = |text: &str, frame: &Frame| {
        Row::from_netdev(name(family, text), frame.bytes())
            .node(endpoint_independent)
            .given(known)
    };
    let waits = |state: &mut Snapshot, frame: &Frame| {
        let waiting = Waiting::outside(1, frame.bytes().len()).translated();
        state.pending(frame.tuple(), waiting);
    };
    let [outside, inside] = [family.outer(), A.ip(family)].map(other_port);
    vec![
        came("party that nobody spoke to", &stranger.answer).dropped(DropReason::NatFiltered),
        arrives_as(
            came(
                "party that nobody spoke to, without filter",
                &stranger.answer,
            ),
            &stranger.returned,
            &A,
        )
        .node(|node| {
            endpoint_independent(node);
            node.masquerade.unfiltered = 1;
        })
        .then(|state| waits(state, &stranger.answer)),
        arrives_as(came("another port of a known party", &outside), &inside, &A)
            .then(|state| waits(state, &outside)),
        came("permit that has ended", &talk.answer)
            .given(|state| {
                talk.permit(state);
                let entries: Vec<_> = state.v4.bindings.values_mut().collect();
                entries
                    .into_iter()
                    .for_each(|entry| entry.left_ns = -SECOND_NS);
                let entries: Vec<_> = state.v6.bindings.values_mut().collect();
                entries
                    .into_iter()
                    .for_each(|entry| entry.left_ns = -SECOND_NS);
                talk.bind_shared(state, (1, 0));
            })
            .dropped(DropReason::NatFiltered),
        arrives_as(
            came("known flow needs no permit", &talk.answer),
            &talk.returned,
            &A,
        )
        .given(|state| {
            talk.bind_shared(state, (1, 0));
            talk.flows(state);
        })
        .then(|state| super::count(state, &talk.answer)),
        Row::from_netdev(
            name(family, "another port of a party with its own binding"),
            outside.bytes(),
        )
        .given(|state| talk.bind(state, (1, 0)))
        .dropped(DropReason::NatNoBinding),
    ]
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
    let second = moved(family, &A, 50_001);
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
