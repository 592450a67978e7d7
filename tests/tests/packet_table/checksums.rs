//! Checksums at the edge: what is 0 or all ones before or behind a translation (RFC 1624 §3).
//!
//! A sum of one's-complement numbers has two zeros. TCP, ICMP and SCTP send the one that comes
//! out; UDP and UDP-Lite never send 0, which means "no checksum" to the former (RFC 768) and is
//! an error to the latter (RFC 3828 §3.1).

use tests::frame::{Frame, Transport};
use tests::party::{A, Family};
use tests::row::Row;

use super::count;
use super::talk::{Talk, arrives_as, leaves_as};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        for (text, make) in MAKERS {
            rows.extend(edges(family, text, *make));
        }
    }
    rows
}

/// Makes a conversation in which one word of the payload is up to us.
type Maker = fn(Family, u16) -> Talk;

const MAKERS: &[(&str, Maker)] = &[
    ("TCP", |family, word| {
        let tcp = |from, to| ending_in(Transport::tcp(from, to, tests::frame::ACK), word);
        of(
            family,
            [
                tcp(5_000, 80),
                tcp(50_001, 80),
                tcp(80, 50_001),
                tcp(80, 5_000),
            ],
        )
    }),
    ("UDP", |family, word| {
        let udp = |from, to| ending_in(Transport::udp(from, to, 20), word);
        of(
            family,
            [
                udp(5_000, 53),
                udp(50_001, 53),
                udp(53, 50_001),
                udp(53, 5_000),
            ],
        )
    }),
    ("UDP-Lite", |family, word| {
        let lite = |from, to| ending_in(Transport::udp_lite(from, to, &[0; 20]), word);
        of(
            family,
            [
                lite(5_000, 9),
                lite(50_001, 9),
                lite(9, 50_001),
                lite(9, 5_000),
            ],
        )
    }),
    ("echo", |family, word| {
        let echo = |is_reply, id| ending_in(Transport::echo(family, is_reply, id), word);
        of(
            family,
            [
                echo(false, 7),
                echo(false, 50_001),
                echo(true, 50_001),
                echo(true, 7),
            ],
        )
    }),
];

fn of(family: Family, headers: [Transport; 4]) -> Talk {
    Talk::new(family, &A, headers)
}

fn ending_in(mut transport: Transport, word: u16) -> Transport {
    let at = transport.bytes.len() - 2;
    transport.bytes[at..].copy_from_slice(&word.to_be_bytes());
    transport
}

/// Returns the checksum that a frame is sent with.
fn sent_with(frame: &Frame) -> u16 {
    let at = frame.transport.checksum_at.expect("has a checksum");
    let transport = frame
        .bytes()
        .split_off(14 + frame.quote().len() - frame.transport.bytes.len());
    u16::from_be_bytes([transport[at], transport[at + 1]])
}

/// Returns the conversation in which the checksum of one of its frames is the zero of its
/// protocol.
fn tuned(family: Family, make: Maker, of: fn(&Talk) -> &Frame) -> Talk {
    // A word that stands at an even place and is the checksum without it completes the sum.
    let word = sent_with(of(&make(family, 0)));
    let talk = make(family, word);
    assert!(matches!(sent_with(of(&talk)), 0 | 0xffff), "zero");
    talk
}

fn edges(family: Family, text: &str, make: Maker) -> Vec<Row> {
    let name = |what: &str| format!("{family:?} checksum of {text}: {what}");
    let out = |what: &str, talk: &Talk| {
        let row = Row::from_container(name(what), &A, talk.sent.bytes());
        leaves_as(row, &talk.left, family)
            .given(|state| talk.connect(state))
            .then(|state| count(state, &talk.sent))
    };
    let back = |what: &str, talk: &Talk| {
        let row = Row::from_netdev(name(what), talk.answer.bytes());
        arrives_as(row, &talk.returned, &A)
            .given(|state| talk.connect(state))
            .then(|state| count(state, &talk.answer))
    };
    let slow = |what: &str, talk: &Talk| {
        Row::to_netdev(name(what), talk.sent.bytes())
            .given(|state| {
                talk.connect(state);
                talk.forget_decisions(state);
            })
            .leaves(|_| talk.left.bytes())
    };
    let left = tuned(family, make, |talk| &talk.left);
    vec![
        out("zero before", &tuned(family, make, |talk| &talk.sent)),
        out("zero behind", &left),
        slow("zero behind, on the slow path", &left),
        back(
            "zero before, back",
            &tuned(family, make, |talk| &talk.answer),
        ),
        back(
            "zero behind, back",
            &tuned(family, make, |talk| &talk.returned),
        ),
    ]
}
