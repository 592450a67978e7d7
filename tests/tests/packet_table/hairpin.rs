//! Endpoints that speak to each other by their masquerade addresses (RFC 4787 REQ-9, RFC 5508
//! REQ-7).

use datapath::abi::Stage;
use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, RST, SYN, Transport};
use tests::party::{A, B, Family};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::count;
use super::talk::{Talk, arrives_as, endpoint_independent};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(there(family));
        rows.extend(back(family));
        rows.extend(refused(family));
        rows.extend(errors(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} hairpin: {text}")
}

fn from(who: &tests::party::Who, family: Family, text: &str, frame: &Frame) -> Row {
    Row::from_container(name(family, text), who, frame.bytes()).node(endpoint_independent)
}

/// What `a` has said outside by its port 50000.
fn open(family: Family) -> Talk {
    Talk::udp(family, &A, 50_000)
}

/// What `b` sends to that port from one outside the range, and what `a` gets.
fn asked(family: Family, make: impl Fn(u16, u16) -> Transport) -> Talk {
    let headers = [
        (41_000, 50_000),
        (49_152, 50_000),
        (50_000, 49_152),
        (50_000, 41_000),
    ];
    let mut talk = Talk::new(family, &B, headers.map(|(from, to)| make(from, to)));
    talk.sent.destination = family.outer();
    talk.left.destination = A.ip(family);
    // The answer is what `a` sends, and what `b` gets of it.
    talk.answer = Frame::to_address(&A, family.outer(), talk.answer.transport);
    talk.returned = Frame {
        source: family.outer(),
        destination: B.ip(family),
        transport: talk.returned.transport,
        ..talk.answer.clone()
    };
    talk
}

fn udp(from: u16, to: u16) -> Transport {
    Transport::udp(from, to, 20)
}

/// The binding of `b`, which serves every remote address.
fn bind(talk: &Talk, state: &mut Snapshot) {
    talk.bind_shared(state, (0, 0));
    talk.permit(state);
}

/// Both halves of the connection.
fn flows(talk: &Talk, state: &mut Snapshot) {
    let (mut there, mut back) = (B.flow_to(&A), A.flow_to(&B));
    for flow in [&mut there, &mut back] {
        (flow.packets, flow.bytes) = (10, 1_000);
    }
    state
        .translated(talk.sent.tuple(), talk.left.tuple(), there)
        .translated(talk.answer.tuple(), talk.returned.tuple(), back);
}

fn there(family: Family) -> Vec<Row> {
    let talk = asked(family, udp);
    let syn = asked(family, |from, to| Transport::tcp(from, to, SYN));
    let tcp = Talk::tcp(family, &A, 50_000, SYN);
    let first = |text: &str, talk: &Talk, open: &Talk| {
        arrives_as(from(&B, family, text, &talk.sent), &talk.left, &A)
            .given(|state| open.bind_shared(state, (1, 0)))
            .then(|state| {
                talk.wait(state);
                bind(talk, state);
            })
    };
    let known = |text: &str| {
        arrives_as(from(&B, family, text, &talk.sent), &talk.left, &A).given(|state| {
            open(family).bind_shared(state, (1, 0));
            bind(&talk, state);
            flows(&talk, state);
        })
    };
    vec![
        first("first datagram", &talk, &open(family)),
        first("first segment", &syn, &tcp),
        first("first datagram under legacy routing", &talk, &open(family)).node(|node| {
            endpoint_independent(node);
            node.legacy_routing = 1;
        }),
        known("known flow").then(|state| count(state, &talk.sent)),
        known("known flow under an old decision")
            .given(|state| {
                open(family).bind_shared(state, (1, 0));
                bind(&talk, state);
                flows(&talk, state);
                state.known(talk.sent.tuple()).generation = 6;
            })
            .then(|state| {
                state.known(talk.sent.tuple()).generation = 7;
                count(state, &talk.sent);
            }),
    ]
}

fn back(family: Family) -> Vec<Row> {
    let talk = asked(family, udp);
    let tcp = Talk::tcp(family, &A, 50_000, SYN);
    let answered =
        |flags| move |from, to| Transport::tcp(from, to, if from == 50_000 { flags } else { SYN });
    let syn = asked(family, answered(SYN | ACK));
    let reset = asked(family, answered(RST));
    let row = |text: &str| arrives_as(from(&A, family, text, &talk.answer), &talk.returned, &B);
    let len = |frame: &Frame| u64::try_from(frame.bytes().len()).expect("fits");
    vec![
        row("first answer")
            .given(|state| {
                open(family).bind_shared(state, (1, 0));
                bind(&talk, state);
                talk.wait(state);
            })
            .then(|state| {
                flows(&talk, state);
                for frame in [&talk.sent, &talk.answer] {
                    let flow = state.known(frame.tuple());
                    (flow.packets, flow.bytes) = (1, len(frame));
                }
                // The answer lets the asker's outside address in.
                open(family).toward(family.outer()).permit(state);
            }),
        arrives_as(
            from(&A, family, "first answer opens both bindings", &syn.answer),
            &syn.returned,
            &B,
        )
        .given(|state| {
            tcp.bind_shared(state, (1, 0));
            bind(&syn, state);
            syn.wait(state);
        })
        .then(|state| {
            flows(&syn, state);
            for frame in [&syn.sent, &syn.answer] {
                let flow = state.known(frame.tuple());
                (flow.packets, flow.bytes) = (1, len(frame));
            }
            tcp.bind_shared(state, (1, 1));
            syn.bind_shared(state, (1, 1));
            tcp.clone().toward(family.outer()).permit(state);
        }),
        arrives_as(
            from(&A, family, "reset ends both bindings", &reset.answer),
            &reset.returned,
            &B,
        )
        .given(|state| {
            tcp.bind_shared(state, (1, 1));
            syn.bind_shared(state, (1, 1));
            tcp.clone().toward(family.outer()).permit(state);
            syn.permit(state);
            flows(&syn, state);
        })
        .then(|state| {
            count(state, &reset.answer);
            for frame in [&syn.sent, &syn.answer] {
                state.known(frame.tuple()).set_stage(Stage::Closing);
            }
            tcp.bind_shared(state, (1, 0));
            syn.bind_shared(state, (1, 0));
        }),
        row("known answer")
            .given(|state| {
                open(family).bind_shared(state, (1, 0));
                bind(&talk, state);
                flows(&talk, state);
            })
            .then(|state| count(state, &talk.answer)),
    ]
}

fn refused(family: Family) -> Vec<Row> {
    let talk = asked(family, udp);
    let to = |frame: &Frame, port| Frame {
        transport: udp(41_000, port),
        ..frame.clone()
    };
    let unknown = to(&talk.sent, 50_001);
    let to_node = to(&talk.sent, 53);
    let to_itself = Frame::to_address(&A, family.outer(), udp(50_000, 50_000));
    let big = asked(family, |from, to| Transport::udp(from, to, 1_500));
    let last = talk.clone().with(|frame| frame.hop_limit(1));
    let given = |row: Row| row.given(|state| open(family).bind_shared(state, (1, 0)));
    vec![
        // The binding is made before its use is known, and ends if nobody speaks.
        given(from(&B, family, "port that nobody has", &unknown))
            .dropped(DropReason::NatNoBinding)
            .then(|state| talk.bind_shared(state, (0, 0))),
        given(from(
            &A,
            family,
            "port that the sender has itself",
            &to_itself,
        ))
        .dropped(DropReason::NatNoBinding),
        given(from(&B, family, "port of the node", &to_node))
            .to_stack()
            .then(|state| {
                let waiting = Waiting::of(&B, 1, to_node.bytes().len());
                state.pending(to_node.tuple(), waiting);
            }),
        given(from(&B, family, "last hop", &last.sent))
            .dropped(DropReason::TtlExceeded)
            .then(|state| {
                last.wait(state);
                bind(&last, state);
            }),
        given(from(&B, family, "too big", &big.sent))
            .dropped(DropReason::TooBig)
            .then(|state| {
                big.wait(state);
                bind(&big, state);
            }),
    ]
}

/// The asked endpoint says that nobody listens.
fn errors(family: Family) -> Vec<Row> {
    let talk = asked(family, udp);
    let about = |frame: &Frame| {
        let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
        Transport::error(family, kind, code, &frame.quote())
    };
    let sent = Frame::to_address(&A, family.outer(), about(&talk.left));
    let gets = Frame {
        source: family.outer(),
        destination: B.ip(family),
        transport: about(&talk.sent),
        ..sent.clone()
    };
    let row = |text: &str| arrives_as(from(&A, family, text, &sent), &gets, &B);
    let known = |state: &mut Snapshot| {
        open(family).bind_shared(state, (1, 0));
        bind(&talk, state);
        flows(&talk, state);
    };
    vec![
        row("error about a known flow").given(known),
        row("error about a flow that waits").given(|state| {
            open(family).bind_shared(state, (1, 0));
            bind(&talk, state);
            talk.wait(state);
        }),
        row("error under legacy routing")
            .node(|node| {
                endpoint_independent(node);
                node.legacy_routing = 1;
            })
            .given(known),
        from(&A, family, "error about nothing known", &sent)
            .dropped(DropReason::UnrelatedIcmpError),
    ]
}
