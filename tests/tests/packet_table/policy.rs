//! Policy: which connections begin, which go on, and what is counted.

use datapath::abi::{
    Decision, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPort, Prefix, Ruling, Side, Sides,
    Stage, Subject,
};
use datapath::verdict::{DropReason, Verdict};
use tests::frame::{ACK, Frame, SYN, Transport, sent};
use tests::party::{A, B, FAR, Family, GENERATION, HOST, Who};
use tests::row::Row;
use tests::snapshot::{Waiting, pending_place};

use super::masquerade::{left, sent as sent_out};
use super::{connect, count};

/// Number of the policy, of its row, and of its terms.
const POLICY: u32 = 77;
const ROW: u32 = 0xfedc_ba98;
const ALLOWS: u16 = 7;
const DENIES: u16 = 9;

const SECOND_NS: u64 = 1_000_000_000;

/// Identity of addresses that a rule names.
const CIDR: u32 = 0x0112_3456;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(begun(family));
        rows.extend(by_port(family));
        rows.extend(by_message(family));
        rows.extend(carried_on(family));
        rows.extend(turned(family));
        rows.push(crowded(family));
        rows.extend(told(family));
        rows.extend(outside(family));
        rows.extend(switched(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} policy: {text}")
}

fn syn(from: &Who, to: &Who, family: Family) -> Frame {
    Frame::new(from, to, family, Transport::tcp(40_000, 80, SYN))
}

/// Gives a party a policy.
fn guard(row: Row, who: Who) -> Row {
    row.rule(move |model| {
        model.add_subject(
            &who.party(),
            Subject {
                policy: POLICY,
                ..who.subject()
            },
        );
    })
}

/// Says what holds towards an identity; 0 is everybody else.
fn entry(row: Row, direction: u32, identity: u32, ruling: Ruling) -> Row {
    full_entry(
        row,
        direction,
        identity,
        Sides::both(PolicyEntry { row: 0, ruling }),
    )
}

fn full_entry(row: Row, direction: u32, identity: u32, sides: Sides<PolicyEntry>) -> Row {
    let key = PolicyKey {
        policy: POLICY,
        direction,
        identity,
    };
    row.rule(move |model| model.add_entry(key, sides))
}

/// Says that towards an identity only what `ranges` hold is allowed.
fn only(row: Row, direction: u32, identity: u32, ranges: &'static [(u8, u16, u32)]) -> Row {
    let entry = PolicyEntry {
        row: ROW,
        ruling: DENIED,
    };
    full_entry(row, direction, identity, Sides::both(entry)).rule(move |model| {
        for (protocol, port, bits) in ranges {
            let port = PolicyPort::new(ROW, *protocol, *port);
            model.add_range(port, PolicyPort::ROW_BITS + bits, Sides::both(ALLOWED));
        }
    })
}

const ALLOWED: Ruling = Ruling::new(Decision::Allow, ALLOWS);
const DENIED: Ruling = Ruling::new(Decision::Deny, 0);
const LISTED: Ruling = Ruling::new(Decision::Deny, DENIES);
const REJECTED: Ruling = Ruling::new(Decision::Reject, DENIES);

/// The first packet of a connection from one endpoint to the other.
fn first(family: Family, text: &str) -> Row {
    Row::from_container(name(family, text), &A, syn(&A, &B, family).bytes())
}

/// The packet goes to the other endpoint, and its flow waits for an answer.
fn passes(row: Row, frame: &Frame) -> Row {
    row.routed_to(&B).then(|state| {
        state.pending(frame.tuple(), Waiting::of(&A, 1, frame.bytes().len()));
    })
}

fn begun(family: Family) -> Vec<Row> {
    let open = Ruling::new(Decision::Allow, 0);
    let frame = syn(&A, &B, family);
    let row = |text: &str| first(family, text);
    let sender = |text: &str| guard(row(text), A);
    let receiver = |text: &str| guard(row(text), B);
    vec![
        sender("without an entry nothing begins").dropped(DropReason::PolicyDenied),
        passes(
            entry(sender("what is allowed to all begins"), EGRESS, 0, open),
            &frame,
        ),
        passes(
            entry(
                entry(sender("what is allowed to one begins"), EGRESS, 0, DENIED),
                EGRESS,
                B.identity,
                ALLOWED,
            ),
            &frame,
        )
        .term(ALLOWS, 1),
        entry(
            entry(
                sender("what is allowed to another does not"),
                EGRESS,
                0,
                DENIED,
            ),
            EGRESS,
            HOST.identity,
            ALLOWED,
        )
        .dropped(DropReason::PolicyDenied),
        entry(
            entry(sender("what a term denies does not begin"), EGRESS, 0, open),
            EGRESS,
            B.identity,
            LISTED,
        )
        .dropped(DropReason::PolicyDenyList)
        .term(DENIES, 1),
        entry(
            sender("ingress says nothing about egress"),
            INGRESS,
            0,
            open,
        )
        .dropped(DropReason::PolicyDenied),
        entry(receiver("receiver lets nobody in"), INGRESS, 0, DENIED)
            .dropped(DropReason::PolicyDenied),
        passes(
            entry(
                entry(receiver("receiver lets the sender in"), INGRESS, 0, DENIED),
                INGRESS,
                A.identity,
                ALLOWED,
            ),
            &frame,
        )
        .term(ALLOWS, 1),
        Row::from_host(name(family, "node is let in as the host"), {
            syn(&HOST, &B, family).bytes()
        })
        .delivered_to(&B)
        .then(|state| {
            let frame = syn(&HOST, &B, family);
            state.pending(frame.tuple(), Waiting::of(&HOST, 1, frame.bytes().len()));
        })
        .term(ALLOWS, 1)
        .rule(|model| {
            let policy = Subject {
                policy: POLICY,
                ..B.subject()
            };
            model.add_subject(&B.party(), policy);
            let key = PolicyKey {
                policy: POLICY,
                direction: INGRESS,
                identity: HOST.identity,
            };
            model.add_entry(
                key,
                Sides::both(PolicyEntry {
                    row: 0,
                    ruling: ALLOWED,
                }),
            );
        }),
        row("slot that policy does not know sends nothing")
            .rule(|model| model.add_subject(&A.party(), Subject::default()))
            .dropped(DropReason::NotReady),
        row("slot that policy does not know gets nothing")
            .rule(|model| model.add_subject(&B.party(), Subject::default()))
            .dropped(DropReason::NotReady),
    ]
}

fn by_port(family: Family) -> Vec<Row> {
    let to = |text: &str, transport: Transport| {
        let frame = Frame::new(&A, &B, family, transport);
        let row = Row::from_container(name(family, text), &A, frame.bytes());
        let row = only(
            guard(row, A),
            EGRESS,
            B.identity,
            &[(6, 80, 24), (17, 0x1000, 12)],
        );
        (row, frame)
    };
    let tcp = |port| Transport::tcp(40_000, port, SYN);
    let udp = |port| Transport::udp(40_000, port, 20);
    let mut rows = Vec::new();
    for (text, transport) in [
        ("port that is allowed", tcp(80)),
        ("first port of a range", udp(0x1000)),
        ("last port of a range", udp(0x1fff)),
    ] {
        let (row, frame) = to(text, transport);
        rows.push(passes(row, &frame).term(ALLOWS, 1));
    }
    for (text, transport) in [
        ("port beside the one that is allowed", tcp(81)),
        ("source port is not meant", Transport::tcp(80, 40_000, SYN)),
        ("same port of another protocol", udp(80)),
        ("port before a range", udp(0x0fff)),
        ("port after a range", udp(0x2000)),
        (
            "protocol without ports",
            Transport::other(47, [0, 0], &[0; 16]),
        ),
    ] {
        rows.push(to(text, transport).0.dropped(DropReason::PolicyDenied));
    }
    rows
}

fn by_message(family: Family) -> Vec<Row> {
    let (protocol, request) = match family {
        Family::V4 => (1, 8),
        Family::V6 => (58, 128),
    };
    let allowed: &'static [(u8, u16, u32)] = match family {
        Family::V4 => &[(1, 0x0800, 24)],
        Family::V6 => &[(58, 0x8000, 24)],
    };
    let row = |text: &str, frame: &Frame| {
        let row = Row::from_container(name(family, text), &A, frame.bytes());
        only(guard(row, A), EGRESS, B.identity, allowed)
    };
    let echo = Frame::new(&A, &B, family, Transport::echo(family, false, 7));
    let mut strange = echo.clone();
    strange.transport.bytes[1] = 1;
    let other_kind = if family == Family::V4 { 13 } else { 200 };
    let other = Frame::new(
        &A,
        &B,
        family,
        Transport::icmp(family, other_kind, 0, &[0; 16]),
    );
    assert_eq!(
        strange.transport.bytes[0], request,
        "an echo of protocol {protocol}"
    );
    vec![
        passes(row("echo request that is allowed", &echo), &echo).term(ALLOWS, 1),
        row("code that is not allowed", &strange).dropped(DropReason::PolicyDenied),
        row("type that is not allowed", &other).dropped(DropReason::PolicyDenied),
    ]
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

fn told(family: Family) -> Vec<Row> {
    let frame = syn(&A, &B, family);
    let refused = |row: Row| {
        row.gets(Verdict::Host(HOST.link + 1))
            .leaves(|bytes| sent(bytes, HOST.gateway_mac, HOST.mac))
            .counted(DropReason::PolicyDenyList)
            .term(DENIES, 1)
            .node(|node| node.net_ifindex = HOST.link + 1)
    };
    let audit = |row: Row| {
        row.rule(|model| {
            let subject = Subject {
                policy: POLICY,
                audit: 1,
                ..A.subject()
            };
            model.add_subject(&A.party(), subject);
        })
    };
    vec![
        refused(entry(
            guard(first(family, "sender learns that it is rejected"), A),
            EGRESS,
            B.identity,
            REJECTED,
        )),
        refused(entry(
            guard(first(family, "receiver rejects"), B),
            INGRESS,
            A.identity,
            REJECTED,
        )),
        passes(
            entry(
                audit(first(family, "audit lets through and counts")),
                EGRESS,
                0,
                DENIED,
            ),
            &frame,
        )
        .audited(&A),
    ]
}

/// Towards somebody outside, whose address a rule names, and from there.
fn outside(family: Family) -> Vec<Row> {
    let frame = sent_out(family, &A, 50_000, SYN);
    let outer = left(&frame, family);
    let named = |row: Row| {
        row.rule(move |model| {
            let prefix = Prefix::new(CIDR, false);
            model.add_prefixes((FAR.addr4(), 24), (FAR.addr6(), 48), prefix);
        })
    };
    let row = |text: &str| {
        named(guard(
            Row::from_container(name(family, text), &A, frame.bytes()),
            A,
        ))
    };
    let direct = Frame::new(&FAR, &A, family, Transport::tcp(40_000, 80, SYN));
    let arrives = |text: &str| {
        named(guard(
            Row::from_netdev(name(family, text), direct.bytes()),
            A,
        ))
    };
    vec![
        entry(
            row("nothing outside is reached, and no port is taken"),
            EGRESS,
            0,
            DENIED,
        )
        .dropped(DropReason::PolicyDenied),
        super::masquerade::leaves_as(
            entry(
                entry(
                    row("address that a rule names is reached"),
                    EGRESS,
                    0,
                    DENIED,
                ),
                EGRESS,
                CIDR,
                ALLOWED,
            ),
            &outer,
            family,
        )
        .term(ALLOWS, 1)
        .then(|state| {
            let waiting = Waiting::of(&A, 1, frame.bytes().len()).translated();
            state.pending(frame.tuple(), waiting).binding(
                (frame.tuple(), outer.tuple()),
                &A,
                (0, 0),
                0,
            );
        }),
        entry(arrives("world is not let in"), INGRESS, 0, DENIED).dropped(DropReason::PolicyDenied),
        entry(
            entry(
                arrives("address that a rule names is let in"),
                INGRESS,
                0,
                DENIED,
            ),
            INGRESS,
            CIDR,
            ALLOWED,
        )
        .routed_to(&A)
        .term(ALLOWS, 1)
        .then(|state| {
            let waiting = Waiting::outside(1, direct.bytes().len());
            state.pending(direct.tuple(), waiting);
        }),
    ]
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
