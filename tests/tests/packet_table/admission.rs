//! How a flow becomes known.

use datapath::abi::Stage;
use tests::frame::{ACK, Frame, SYN, Transport};
use tests::party::{A, B, D, Family, HOST};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{answer, connect, count, segment};

const SECOND_NS: u64 = 1_000_000_000;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(waiting(family));
        rows.extend(answered(family));
        rows.extend(decided_again(family));
        rows.extend(healed(family));
    }
    rows
}

fn waiting(family: Family) -> Vec<Row> {
    let syn = Frame::new(&A, &B, family, Transport::tcp(40_000, 80, SYN));
    let (tuple, bytes) = (syn.tuple(), syn.bytes());
    let len = bytes.len();
    let nth = |name: &str, before: u64| {
        Row::from_container(format!("{family:?}: {name}"), &A, bytes.clone())
            .given(|state| {
                state.pending(tuple, Waiting::of(&A, before, 100));
            })
            .routed_to(&B)
            .then(|state| {
                state.pending(tuple, Waiting::of(&A, before + 1, 100 + len));
            })
    };
    let mut opening = A.flow_to(&B);
    opening.set_stage(Stage::Opening);
    vec![
        Row::from_container(format!("{family:?}: first packet waits"), &A, bytes.clone())
            .routed_to(&B)
            .then(|state| {
                state.pending(tuple, Waiting::of(&A, 1, len));
            }),
        nth("second packet is counted", 1),
        nth("third packet is counted", 2),
        Row::from_container(
            format!("{family:?}: fourth packet enters both halves although nobody answered"),
            &A,
            bytes.clone(),
        )
        .given(|state| {
            state.pending(tuple, Waiting::of(&A, 3, 300));
        })
        .routed_to(&B)
        .then(|state| {
            let mut twin = B.flow_to(&A);
            twin.set_stage(Stage::Opening);
            opening.packets = 4;
            opening.bytes = 300 + u64::try_from(len).expect("fits");
            state.flow(tuple, opening).flow(tuple.reversed(), twin);
        }),
        Row::from_container(
            format!("{family:?}: flow of another zone is no flow"),
            &A,
            bytes,
        )
        .given(|state| {
            state.flow(tuple, D.flow_to(&B));
        })
        .routed_to(&B)
        .then(|state| {
            state.pending(tuple, Waiting::of(&A, 1, len));
        }),
    ]
}

fn answered(family: Family) -> Vec<Row> {
    let syn = Frame::new(&A, &B, family, Transport::tcp(40_000, 80, SYN));
    let (tuple, reply) = (syn.tuple(), answer(&B, &A, family, SYN | ACK));
    let to_stack = Frame::new(&A, &HOST, family, Transport::tcp(80, 40_000, SYN | ACK));
    let mut twin = A.flow_to(&B);
    (twin.packets, twin.bytes) = (1, 86);
    let mut host_twin = HOST.flow_to(&A);
    (host_twin.packets, host_twin.bytes) = (1, 86);
    vec![
        Row::from_container(
            format!("{family:?}: answer enters both halves"),
            &B,
            reply.bytes(),
        )
        .given(|state| {
            state.pending(tuple, Waiting::of(&A, 1, 86));
        })
        .routed_to(&A)
        .then(|state| {
            state.flow(tuple, twin).flow(reply.tuple(), B.flow_to(&A));
            count(state, &reply);
        }),
        // The row above left its pending flow in the work space.
        Row::from_container(
            format!("{family:?}: twin that comes back has no counts of an earlier packet"),
            &B,
            answer(&B, &A, family, ACK).bytes(),
        )
        .given(|state| {
            let old = SECOND_NS * 2;
            let mut flow = B.flow_to(&A);
            flow.decided_ns = old;
            state.flow(reply.tuple(), flow);
        })
        .routed_to(&A)
        .then(|state| {
            state.flow(tuple, A.flow_to(&B));
            count(state, &answer(&B, &A, family, ACK));
        }),
        Row::from_container(
            format!("{family:?}: answer to the stack enters both halves"),
            &A,
            to_stack.bytes(),
        )
        .given(|state| {
            state.pending(to_stack.tuple().reversed(), Waiting::of(&HOST, 1, 86));
        })
        .to_stack()
        .then(|state| {
            state.flow(to_stack.tuple().reversed(), host_twin);
            state.flow(to_stack.tuple(), A.flow_to(&HOST));
            count(state, &to_stack);
        }),
        Row::from_container(
            format!("{family:?}: answer to a flow that got in by its fourth packet establishes it"),
            &B,
            reply.bytes(),
        )
        .given(|state| {
            connect(state, &syn, &A, &B);
            state.known(tuple).set_stage(Stage::Opening);
            *state.known(tuple.reversed()) = B.flow_to(&A);
            state.known(tuple.reversed()).set_stage(Stage::Opening);
        })
        .routed_to(&A)
        .then(|state| {
            state.known(tuple).set_stage(Stage::Established);
            state.known(tuple.reversed()).set_stage(Stage::Established);
            count(state, &reply);
        }),
        Row::from_container(
            format!("{family:?}: opener alone never establishes a flow"),
            &A,
            syn.bytes(),
        )
        .given(|state| {
            connect(state, &syn, &A, &B);
            state.known(tuple).set_stage(Stage::Opening);
            *state.known(tuple.reversed()) = B.flow_to(&A);
            state.known(tuple.reversed()).set_stage(Stage::Opening);
        })
        .routed_to(&B)
        .then(|state| count(state, &syn)),
    ]
}

fn decided_again(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family);
    let (tuple, bytes) = (frame.tuple(), frame.bytes());
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::from_container(
            name("flow of an old generation is decided again"),
            &A,
            bytes.clone(),
        )
        .given(|state| {
            connect(state, &frame, &A, &B);
            for tuple in [tuple, tuple.reversed()] {
                let flow = state.known(tuple);
                (flow.generation, flow.mtu, flow.target_identity) = (6, 9, 9);
            }
        })
        .routed_to(&B)
        .then(|state| {
            connect(state, &frame, &A, &B);
            count(state, &frame);
        }),
        Row::from_container(
            name("flow is decided again after a second"),
            &A,
            bytes.clone(),
        )
        .given(|state| {
            connect(state, &frame, &A, &B);
            state.known(tuple).decided_ns = SECOND_NS;
            state.known(tuple).mtu = 9;
            state.known(tuple.reversed()).mtu = 9;
        })
        .routed_to(&B)
        .then(|state| {
            connect(state, &frame, &A, &B);
            count(state, &frame);
        }),
        Row::from_container(
            name("flow is not decided again within a second"),
            &A,
            bytes.clone(),
        )
        .given(|state| {
            connect(state, &frame, &A, &B);
            state.known(tuple).decided_ns = SECOND_NS / 2;
            state.known(tuple.reversed()).mtu = 9;
        })
        .routed_to(&B)
        .then(|state| count(state, &frame)),
        Row::from_container(name("flow to a link that moved follows it"), &A, bytes)
            .given(|state| {
                connect(state, &frame, &A, &B);
                *state.known(tuple) = A.flow_to(&D);
                state.known(tuple).generation = 6;
            })
            .routed_to(&B)
            .then(|state| {
                *state.known(tuple) = A.flow_to(&B);
                count(state, &frame);
            }),
    ]
}

fn healed(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family);
    let echo = Frame::new(&A, &B, family, Transport::echo(family, false, 9));
    let len = echo.bytes().len();
    let name = |text: &str| format!("{family:?}: {text}");
    let long_ago = |state: &mut tests::snapshot::Snapshot| {
        for tuple in [echo.tuple(), echo.tuple().reversed()] {
            state.known(tuple).decided_ns = 61 * SECOND_NS;
        }
    };
    vec![
        Row::from_container(
            name("evicted half comes back from its twin"),
            &A,
            frame.bytes(),
        )
        .given(|state| {
            connect(state, &frame, &A, &B);
            state.no_flow(frame.tuple());
        })
        .routed_to(&B)
        .then(|state| {
            state.flow(frame.tuple(), A.flow_to(&B));
            count(state, &frame);
        }),
        Row::from_container(
            name("evicted twin comes back with the refresh"),
            &A,
            frame.bytes(),
        )
        .given(|state| {
            connect(state, &frame, &A, &B);
            state.no_flow(frame.tuple().reversed());
            state.known(frame.tuple()).decided_ns = 2 * SECOND_NS;
        })
        .routed_to(&B)
        .then(|state| {
            count(state, &frame);
            state.flow(frame.tuple().reversed(), B.flow_to(&A));
        }),
        Row::from_container(name("idle connection has ended"), &A, echo.bytes())
            .given(|state| {
                connect(state, &echo, &A, &B);
                long_ago(state);
            })
            .routed_to(&B)
            .then(|state| {
                state.pending(echo.tuple(), Waiting::of(&A, 1, len));
            }),
        Row::from_container(
            name("ended connection lends no counts to the next"),
            &A,
            echo.bytes(),
        )
        .given(|state| {
            connect(state, &echo, &A, &B);
            long_ago(state);
            state.pending(echo.tuple(), Waiting::of(&A, 3, 300));
        })
        .routed_to(&B)
        .then(|state| {
            let (mut flow, mut twin) = (A.flow_to(&B), B.flow_to(&A));
            flow.set_stage(Stage::Opening);
            twin.set_stage(Stage::Opening);
            (flow.packets, flow.bytes) = (3, 300);
            state
                .flow(echo.tuple(), flow)
                .flow(echo.tuple().reversed(), twin);
            count(state, &echo);
        }),
        Row::from_container(
            name("pending flow that waited too long begins anew"),
            &A,
            echo.bytes(),
        )
        .given(|state| {
            let waiting = Waiting {
                age_ns: 61 * SECOND_NS,
                ..Waiting::of(&A, 3, 300)
            };
            state.pending(echo.tuple(), waiting);
        })
        .routed_to(&B)
        .then(|state| {
            state.pending(echo.tuple(), Waiting::of(&A, 1, len));
        }),
    ]
}
