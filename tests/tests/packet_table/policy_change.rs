//! Policy: which connections go on when what policy says changes, and what is counted.

use datapath::abi::{EGRESS, INGRESS, PolicyEntry, PolicyKey, Side, Sides, Stage};
use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, SYN, Transport};
use tests::party::{A, B, Family, GENERATION, Who};
use tests::row::Row;
use tests::snapshot::{Waiting, pending_place};

use super::policy::{
    ALLOWED, ALLOWS, DENIED, DENIES, LISTED, POLICY, entry, first, full_entry, guard, name, passes,
    syn,
};
use super::{connect, count};

const SECOND_NS: u64 = 1_000_000_000;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(carried_on(family));
        rows.extend(turned(family));
        rows.push(crowded(family));
        rows.extend(switched(family));
    }
    rows
}

fn carried_on(family: Family) -> Vec<Row> {
    let request = syn(&A, &B, family);
    let reply = Frame::new(&B, &A, family, Transport::tcp(80, 40_000, SYN | ACK));
    let data = Frame::new(&A, &B, family, Transport::tcp(40_000, 80, ACK));
    let back = Frame::new(&B, &A, family, Transport::tcp(80, 40_000, ACK));
    // Decided under an older policy; the opener's half, and the other one.
    let stands = |row: Row| {
        row.given(|state| {
            connect(state, &data, &A, &B);
            connect(state, &back, &B, &A);
            state.known(data.tuple()).generation = GENERATION - 2;
            let reply = state.known(back.tuple());
            reply.generation = GENERATION - 2;
            reply.set_reply();
        })
    };
    let closed = |row: Row, who: Who, direction| entry(guard(row, who), direction, 0, DENIED);
    let from = |text: &str, who: &Who, frame: &Frame| {
        Row::from_container(name(family, text), who, frame.bytes())
    };
    vec![
        closed(
            from("answer needs no rule", &B, &reply).given(|state| {
                state.pending(request.tuple(), Waiting::of(&A, 1, 66));
            }),
            B,
            EGRESS,
        )
        .rule(|model| {
            let key = PolicyKey {
                policy: POLICY,
                direction: INGRESS,
                identity: 0,
            };
            model.add_entry(
                key,
                Sides::both(PolicyEntry {
                    row: 0,
                    ruling: ALLOWED,
                }),
            );
        })
        .term(ALLOWS, 1)
        .routed_to(&A)
        .then(|state| {
            let mut twin = A.flow_to(&B);
            (twin.packets, twin.bytes) = (1, 66);
            state
                .flow(request.tuple(), twin)
                .flow(reply.tuple(), B.flow_to(&A));
            count(state, &reply);
        }),
        closed(
            stands(from("new policy stops the opener", &A, &data)),
            A,
            EGRESS,
        )
        .dropped(DropReason::PolicyDenied),
        closed(
            stands(from("new policy stops the answers", &B, &back)),
            A,
            EGRESS,
        )
        .dropped(DropReason::PolicyDenied),
        closed(
            stands(from("receiver's new policy stops the opener", &A, &data)),
            B,
            INGRESS,
        )
        .dropped(DropReason::PolicyDenied),
        closed(
            stands(from(
                "what a party may open does not concern answers",
                &B,
                &back,
            )),
            B,
            EGRESS,
        )
        .rule(|model| {
            let key = PolicyKey {
                policy: POLICY,
                direction: INGRESS,
                identity: 0,
            };
            model.add_entry(
                key,
                Sides::both(PolicyEntry {
                    row: 0,
                    ruling: ALLOWED,
                }),
            );
        })
        .routed_to(&A)
        .term(ALLOWS, 21)
        .then(|state| {
            for tuple in [data.tuple(), back.tuple()] {
                state.known(tuple).generation = GENERATION;
            }
            count(state, &back);
        }),
    ]
}

/// Who may not be spoken to any more may speak, if that is allowed, but not at once.
fn turned(family: Family) -> [Row; 2] {
    let data = Frame::new(&A, &B, family, Transport::udp(5_000, 5_000, 20));
    let back = Frame::new(&B, &A, family, Transport::udp(5_000, 5_000, 20));
    let row = |text: &str, age_ns| {
        let row = Row::from_container(name(family, text), &B, back.bytes());
        let row = row.given(|state| {
            connect(state, &data, &A, &B);
            for tuple in [data.tuple(), back.tuple()] {
                let flow = state.known(tuple);
                (flow.generation, flow.decided_ns) = (GENERATION - 2, age_ns);
            }
            state.known(back.tuple()).set_reply();
        });
        let row = entry(guard(row, A), EGRESS, 0, LISTED);
        entry(row, INGRESS, 0, ALLOWED)
    };
    [
        row(
            "other end may begin where the opener may not go on",
            6 * SECOND_NS,
        )
        .routed_to(&A)
        .term(ALLOWS, 21)
        .then(|state| {
            for tuple in [data.tuple(), back.tuple()] {
                state.known(tuple).generation = GENERATION;
            }
            count(state, &back);
        }),
        row("but not while it still tries", 4 * SECOND_NS)
            .dropped(DropReason::PolicyDenyList)
            .term(DENIES, 1),
    ]
}

/// A flow that has its answer to come keeps its place, and the next one enters the table.
fn crowded(family: Family) -> Row {
    let question = |port| Frame::new(&A, &B, family, Transport::udp(port, 53, 20));
    let first = question(10_000);
    let place = |frame: &Frame| pending_place(&frame.tuple(), &A);
    let other = (10_001..u16::MAX)
        .map(question)
        .find(|other| place(other) == place(&first))
        .expect("one in 256 has the same place");
    let row = Row::from_container(
        name(family, "flow that waits for an answer is not pushed out"),
        &A,
        other.bytes(),
    );
    let row = row.given(|state| {
        let waiting = Waiting::of(&A, 1, first.bytes().len());
        state.pending(first.tuple(), waiting);
    });
    entry(guard(row, A), EGRESS, 0, ALLOWED)
        .term(ALLOWS, 1)
        .routed_to(&B)
        .then(|state| {
            let mut flow = A.flow_to(&B);
            flow.set_stage(Stage::Opening);
            let mut reply = B.flow_to(&A);
            reply.set_stage(Stage::Opening);
            state
                .flow(other.tuple(), flow)
                .flow(other.tuple().reversed(), reply);
            count(state, &other);
        })
}

/// The lowest bit of the generation says which policy holds.
fn switched(family: Family) -> Vec<Row> {
    let frame = syn(&A, &B, family);
    let other = Side::of(GENERATION).other();
    let mut sides = Sides::both(PolicyEntry {
        row: 0,
        ruling: DENIED,
    });
    sides.set(
        other,
        PolicyEntry {
            row: 0,
            ruling: ALLOWED,
        },
    );
    let row = |text: &str| full_entry(guard(first(family, text), A), EGRESS, 0, sides);
    vec![
        row("policy of the other side does not hold").dropped(DropReason::PolicyDenied),
        passes(
            row("switched to, it does").node(|node| node.generation = GENERATION + 1),
            &frame,
        )
        .term(ALLOWS, 1)
        .then(|state| {
            let mut waiting = Waiting::of(&A, 1, frame.bytes().len());
            waiting.generation = GENERATION + 1;
            state.pending(frame.tuple(), waiting);
        }),
    ]
}
