//! Fragments of masqueraded datagrams, and of the node's own.

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport, aged, patched};
use tests::party::{A, B, FAR, Family, HOST, Who};
use tests::row::Row;

use super::count;
use super::talk::{Talk, arrives_as, leaves_as};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(outbound(family));
        rows.extend(inbound(family));
        rows.extend(of_the_node(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} parts: {text}")
}

fn talk(family: Family, who: &Who) -> Talk {
    let udp = |from, to| Transport::udp(from, to, 200);
    Talk::kept(family, who, [udp(50_000, 53), udp(53, 50_000)])
}

/// What a sender's identifications are changed by, as they stand in memory: never the same for two
/// of them.
fn mask(who: &Who) -> [u8; 2] {
    let [.., low, high] = (who.link * 0x9e37).to_be_bytes();
    [high, low]
}

/// The fragment as it leaves, with an identification of its sender's own.
pub(crate) fn own(frame: &Frame, who: &Who) -> Vec<u8> {
    let mask = mask(who);
    if frame.source.is_ipv6() {
        // The upper half of 32 bits, which the frame has as 0.
        return patched(frame.bytes(), 44, &mask);
    }
    let id = frame.id ^ u16::from_be_bytes(mask);
    frame.clone().id(id).bytes()
}

fn outbound(family: Family) -> Vec<Row> {
    assert_ne!(mask(&A), mask(&B), "two senders, two masks");
    let row = |text: &str, who: &Who, frame: &Frame| {
        Row::from_container(name(family, text), who, frame.bytes())
    };
    let leaves = |row: Row, left: &Frame, who: &Who| {
        leaves_as(row, left, family).leaves(|_| aged(own(left, who)))
    };
    let [first, later] =
        [0..80, 80..160].map(|part| talk(family, &A).with(|frame| frame.part(part.clone())));
    let theirs = talk(family, &B).with(|frame| frame.part(0..80));
    let opens = |talk: &Talk| {
        leaves(
            row(
                &format!("first fragment of {}", talk.who.name),
                &talk.who,
                &talk.sent,
            ),
            &talk.left,
            &talk.who,
        )
        .then(|state| {
            talk.wait(state);
            talk.bind(state, (0, 0));
            state.fragment(talk.sent.tuple(), talk.sent.id);
        })
    };
    let friend =
        Frame::to_address(&A, family.friend(), Transport::udp(50_000, 53, 200)).part(0..80);
    vec![
        opens(&first),
        opens(&theirs),
        leaves(row("later fragment", &A, &later.sent), &later.left, &A)
            .given(|state| {
                later.connect(state);
                state.fragment(later.sent.tuple(), later.sent.id);
            })
            .then(|state| count(state, &later.sent)),
        Row::to_netdev(
            name(family, "first fragment that the stack sends on"),
            first.sent.bytes(),
        )
        .given(|state| first.connect(state))
        .leaves(|_| own(&first.left, &A))
        .then(|state| {
            state.fragment(first.sent.tuple(), first.sent.id);
        }),
        row("later fragment without its first", &A, &later.sent)
            .given(|state| later.connect(state))
            .dropped(DropReason::FragmentNotFound),
        leaves_as(
            row("fragment that is not masqueraded", &A, &friend),
            &friend,
            family,
        )
        .then(|state| {
            let waiting = tests::snapshot::Waiting::of(&A, 1, friend.bytes().len());
            state
                .pending(friend.tuple(), waiting)
                .fragment(friend.tuple(), friend.id);
        }),
    ]
}

fn inbound(family: Family) -> Vec<Row> {
    let [first, later] =
        [0..80, 80..160].map(|part| talk(family, &A).with(|frame| frame.part(part.clone())));
    let row = |text: &str, frame: &Frame| Row::from_netdev(name(family, text), frame.bytes());
    vec![
        arrives_as(
            row("first fragment of an answer", &first.answer),
            &first.returned,
            &A,
        )
        .given(|state| first.connect(state))
        .then(|state| {
            count(state, &first.answer);
            state.fragment(first.answer.tuple(), first.answer.id);
        }),
        arrives_as(
            row("later fragment of an answer", &later.answer),
            &later.returned,
            &A,
        )
        .given(|state| {
            later.connect(state);
            state.fragment(later.answer.tuple(), later.answer.id);
        })
        .then(|state| count(state, &later.answer)),
        row(
            "later fragment without its first is left to the node",
            &later.answer,
        )
        .given(|state| later.connect(state)),
        row("first fragment to a port that nobody has", &first.answer)
            .dropped(DropReason::NatNoBinding)
            .then(|state| {
                state.fragment(first.answer.tuple(), first.answer.id);
            }),
        row("later fragment to a port that nobody has", &later.answer)
            .given(|state| {
                state.fragment(later.answer.tuple(), later.answer.id);
            })
            .dropped(DropReason::NatNoBinding),
    ]
}

fn of_the_node(family: Family) -> Vec<Row> {
    let came = Frame::new(&FAR, &FAR, family, Transport::udp(53, 40_000, 200)).to(family.outer());
    // What looks like ports in a later fragment is payload.
    let payload = [0xff; 200];
    let own = Frame::to_address(&HOST, family.far(), Transport::datagram(500, 500, &payload))
        .source(family.outer());
    let echo = Frame::to_address(&HOST, family.far(), Transport::echo(family, false, 7))
        .source(family.outer());
    let comes = |text: &str, frame: &Frame| Row::from_netdev(name(family, text), frame.bytes());
    let leaves = |text: &str, frame: &Frame| Row::to_netdev(name(family, text), frame.bytes());
    let [first, later] = [0..80, 80..160].map(|part| came.clone().part(part));
    vec![
        comes("first fragment for the node", &first).then(|state| {
            state.fragment(first.tuple(), first.id);
        }),
        comes("later fragment for the node", &later).given(|state| {
            state.fragment(later.tuple(), later.id);
        }),
        comes("fragment whose first was not seen", &later),
        leaves("first fragment of the node", &own.clone().part(0..80)),
        leaves("later fragment of the node", &own.part(80..160)),
        leaves(
            "first fragment of the node's echo",
            &echo.clone().part(0..16),
        ),
        leaves("later fragment of the node's echo", &echo.part(16..24)),
    ]
}
