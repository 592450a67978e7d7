//! What identifies a flow: ports, an echo's identifier, or nothing but addresses.

use tests::frame::{Frame, Transport};
use tests::party::{A, B, Family};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{connect, count};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Family::BOTH.into_iter().flat_map(of_family).collect();
    rows.extend(timestamps());
    rows
}

fn of_family(family: Family) -> Vec<Row> {
    let ports = [[0x9c, 0x40, 0, 80], [0; 4], [0; 4]].concat();
    let other = |protocol, ports: [u16; 2], bytes: &[u8]| {
        Frame::new(&A, &B, family, Transport::other(protocol, ports, bytes))
    };
    let name = |text: &str| format!("{family:?}: {text}");
    let mut rows = vec![
        waits(
            name("SCTP has flows by ports"),
            &other(132, [40_000, 80], &ports),
        ),
        waits(
            name("UDP-Lite has flows by ports"),
            &other(136, [40_000, 80], &ports),
        ),
        waits(name("GRE has flows by address"), &other(47, [0, 0], &ports)),
        waits(name("ESP has flows by address"), &other(50, [0, 0], &ports)),
        waits(
            name("unknown protocol has flows by address"),
            &other(253, [0, 0], &ports),
        ),
        waits(
            name("unknown protocol may be empty"),
            &other(253, [0, 0], &[]),
        ),
    ];
    let sctp = other(132, [40_000, 80], &ports);
    rows.push(
        Row::from_container(name("known flow of SCTP is counted"), &A, sctp.bytes())
            .given(|state| connect(state, &sctp, &A, &B))
            .routed_to(&B)
            .then(|state| count(state, &sctp)),
    );
    rows.extend(echoes(family));
    rows
}

fn echoes(family: Family) -> Vec<Row> {
    let request = Frame::new(&A, &B, family, Transport::echo(family, false, 7));
    let [reply, other] =
        [7, 8].map(|id| Frame::new(&B, &A, family, Transport::echo(family, true, id)));
    let question = Frame::new(&B, &A, family, Transport::echo(family, false, 7));
    let row = |text: &str, frame: &Frame| {
        Row::from_container(format!("{family:?}: {text}"), &B, frame.bytes())
            .given(|state| {
                state.pending(request.tuple(), Waiting::of(&A, 1, 58));
            })
            .routed_to(&A)
    };
    let own_flow = |row: Row, frame: &Frame| {
        row.then(|state| {
            state.pending(frame.tuple(), Waiting::of(&B, 1, frame.bytes().len()));
        })
    };
    vec![
        row("echo reply answers the request", &reply).then(|state| {
            let mut twin = A.flow_to(&B);
            (twin.packets, twin.bytes) = (1, 58);
            state
                .flow(request.tuple(), twin)
                .flow(reply.tuple(), B.flow_to(&A));
            count(state, &reply);
        }),
        own_flow(
            row("echo reply with another identifier answers nothing", &other),
            &other,
        ),
        own_flow(row("echo request answers no request", &question), &question),
    ]
}

/// Timestamp request and reply (RFC 792) are one flow, and not the one of echo 0.
fn timestamps() -> Vec<Row> {
    let message = |from, to, kind| {
        let transport = Transport::icmp(Family::V4, kind, 0, &[0; 16]);
        Frame::new(from, to, Family::V4, transport)
    };
    let (request, reply) = (message(&A, &B, 13), message(&B, &A, 14));
    let echo = Frame::new(&B, &A, Family::V4, Transport::echo(Family::V4, false, 0));
    let back = request.tuple().reversed();
    vec![
        waits("timestamp request waits by address".into(), &request),
        Row::from_container("timestamp reply answers the request", &B, reply.bytes())
            .given(|state| {
                state.pending(request.tuple(), Waiting::of(&A, 1, 54));
            })
            .routed_to(&A)
            .then(|state| {
                let mut twin = A.flow_to(&B);
                (twin.packets, twin.bytes) = (1, 54);
                state.flow(request.tuple(), twin).flow(back, B.flow_to(&A));
                count(state, &reply);
            }),
        Row::from_container(
            "timestamp request is no reply to echo 0",
            &A,
            request.bytes(),
        )
        .given(|state| {
            state.pending(echo.tuple(), Waiting::of(&B, 1, 58));
        })
        .routed_to(&B)
        .then(|state| {
            state.pending(request.tuple(), Waiting::of(&A, 1, request.bytes().len()));
        }),
    ]
}

fn waits(name: String, frame: &Frame) -> Row {
    Row::from_container(name, &A, frame.bytes())
        .routed_to(&B)
        .then(|state| {
            state.pending(frame.tuple(), Waiting::of(&A, 1, frame.bytes().len()));
        })
}
