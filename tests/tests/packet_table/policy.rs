//! Policy: which connections begin, and what is counted.

use datapath::abi::{
    Decision, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPort, Prefix, Ruling, Sides, Subject,
};
use datapath::verdict::{DropReason, Verdict};
use tests::frame::{Frame, SYN, Transport, sent};
use tests::party::{A, B, FAR, Family, HOST, Who};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::masquerade::{left, sent as sent_out};

/// Number of the policy, of its row, and of its terms.
pub(super) const POLICY: u32 = 77;
const ROW: u32 = 0xfedc_ba98;
pub(super) const ALLOWS: u16 = 7;
pub(super) const DENIES: u16 = 9;

/// Identity of addresses that a rule names.
const CIDR: u32 = 0x0112_3456;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(begun(family));
        rows.extend(by_port(family));
        rows.extend(by_message(family));
        rows.extend(told(family));
        rows.extend(outside(family));
    }
    rows
}

pub(super) fn name(family: Family, text: &str) -> String {
    format!("{family:?} policy: {text}")
}

pub(super) fn syn(from: &Who, to: &Who, family: Family) -> Frame {
    Frame::new(from, to, family, Transport::tcp(40_000, 80, SYN))
}

/// Gives a party a policy.
pub(super) fn guard(row: Row, who: Who) -> Row {
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
pub(super) fn entry(row: Row, direction: u32, identity: u32, ruling: Ruling) -> Row {
    full_entry(
        row,
        direction,
        identity,
        Sides::both(PolicyEntry { row: 0, ruling }),
    )
}

pub(super) fn full_entry(
    row: Row,
    direction: u32,
    identity: u32,
    sides: Sides<PolicyEntry>,
) -> Row {
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

pub(super) const ALLOWED: Ruling = Ruling::new(Decision::Allow, ALLOWS);
pub(super) const DENIED: Ruling = Ruling::new(Decision::Deny, 0);
pub(super) const LISTED: Ruling = Ruling::new(Decision::Deny, DENIES);
const REJECTED: Ruling = Ruling::new(Decision::Reject, DENIES);

/// The first packet of a connection from one endpoint to the other.
pub(super) fn first(family: Family, text: &str) -> Row {
    Row::from_container(name(family, text), &A, syn(&A, &B, family).bytes())
}

/// The packet goes to the other endpoint, and its flow waits for an answer.
pub(super) fn passes(row: Row, frame: &Frame) -> Row {
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
