//! Fragments (RFC 791, RFC 8200 §4.5, RFC 1858).

use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, Transport};
use tests::party::{A, B, Family, HOST};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::{connect, count};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(followed(family));
        rows.extend(unknown(family));
        rows.extend(tiny(family));
    }
    rows
}

fn followed(family: Family) -> Vec<Row> {
    let whole = datagram(family);
    let [first, middle, last] = [0..80, 80..160, 160..208].map(|part| whole.clone().part(part));
    let echo = Frame::new(&A, &B, family, Transport::echo(family, false, 9));
    let [echo_first, echo_last] = [0..8, 8..24].map(|part| echo.clone().part(part));
    let from_stack = Frame::new(&HOST, &A, family, Transport::udp(53, 40_000, 200)).part(0..80);
    let seen = |state: &mut Snapshot| {
        state
            .pending(whole.tuple(), Waiting::of(&A, 1, 100))
            .fragment(whole.tuple(), whole.id);
    };
    let name = |text: &str| format!("{family:?}: {text}");
    let later = |text: &str, frame: &Frame| {
        Row::from_container(name(text), &A, frame.bytes())
            .given(seen)
            .routed_to(&B)
            .then(|state| {
                state.pending(whole.tuple(), Waiting::of(&A, 2, 100 + frame.bytes().len()));
            })
    };
    vec![
        waits(name("first fragment is remembered"), &first),
        later("middle fragment follows the first", &middle),
        later("last fragment follows the first", &last),
        waits(name("first fragment of an echo is remembered"), &echo_first),
        Row::from_container(
            name("fragment of an echo follows the first"),
            &A,
            echo_last.bytes(),
        )
        .given(|state| {
            connect(state, &echo, &A, &B);
            state.fragment(echo.tuple(), echo.id);
        })
        .routed_to(&B)
        .then(|state| count(state, &echo_last)),
        Row::from_container(name("first fragment of a known flow"), &A, first.bytes())
            .given(|state| connect(state, &whole, &A, &B))
            .routed_to(&B)
            .then(|state| {
                count(state, &first);
                state.fragment(whole.tuple(), whole.id);
            }),
        Row::from_host(
            name("first fragment of the stack is remembered"),
            from_stack.bytes(),
        )
        .delivered_to(&A)
        .then(|state| {
            let len = from_stack.bytes().len();
            state.pending(from_stack.tuple(), Waiting::of(&HOST, 1, len));
            state.fragment(from_stack.tuple(), from_stack.id);
        }),
    ]
}

fn unknown(family: Family) -> Vec<Row> {
    let whole = datagram(family);
    let later = whole.clone().part(80..160);
    let same_id = Frame::new(&A, &B, family, Transport::other(47, [0, 0], &[1; 208])).part(80..160);
    let known = |state: &mut Snapshot| {
        connect(state, &whole, &A, &B);
        state.fragment(whole.tuple(), whole.id);
    };
    let other_id = Frame {
        id: whole.id + 1,
        ..later.clone()
    };
    let drop = |text: &str, bytes| {
        Row::from_container(format!("{family:?}: {text}"), &A, bytes)
            .dropped(DropReason::FragmentNotFound)
    };
    let spoofed = Frame {
        source: B.ip(family),
        ..later.clone()
    };
    vec![
        drop("fragment whose first was not seen", later.bytes()),
        drop("fragment of another datagram", other_id.bytes()).given(known),
        drop("fragment of another protocol", same_id.bytes()).given(known),
        Row::from_container(format!("{family:?}: fragment by another's address"), &A, {
            spoofed.bytes()
        })
        .given(known)
        .dropped(DropReason::InvalidSourceIp),
    ]
}

fn tiny(family: Family) -> Vec<Row> {
    let segment = Frame::new(&A, &B, family, Transport::tcp(40_000, 80, ACK));
    let whole = datagram(family);
    let known = |state: &mut Snapshot| {
        state
            .fragment(segment.tuple(), segment.id)
            .fragment(whole.tuple(), whole.id);
    };
    let row = |text: &str, frame: Frame| {
        Row::from_container(format!("{family:?}: {text}"), &A, frame.bytes()).given(known)
    };
    vec![
        row("first fragment without the ports", whole.clone().part(0..0))
            .dropped(DropReason::TinyFragment),
        row(
            "first fragment without the TCP flags",
            segment.clone().part(0..8),
        )
        .dropped(DropReason::TinyFragment),
        row(
            "fragment that would overwrite the TCP flags",
            segment.clone().part(8..16),
        )
        .dropped(DropReason::TinyFragment),
        row(
            "fragment that would overwrite the end of the TCP header",
            segment.clone().part(16..24),
        )
        .dropped(DropReason::TinyFragment),
        row("fragment right behind the ports", whole.clone().part(8..16))
            .routed_to(&B)
            .then(|state| {
                let later = datagram(family).part(8..16);
                state.pending(later.tuple(), Waiting::of(&A, 1, later.bytes().len()));
            }),
    ]
}

fn waits(name: String, first: &Frame) -> Row {
    Row::from_container(name, &A, first.bytes())
        .routed_to(&B)
        .then(|state| {
            state.pending(first.tuple(), Waiting::of(&A, 1, first.bytes().len()));
            state.fragment(first.tuple(), first.id);
        })
}

fn datagram(family: Family) -> Frame {
    Frame::new(&A, &B, family, Transport::udp(40_000, 53, 200))
}
