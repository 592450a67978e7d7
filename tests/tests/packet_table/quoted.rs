//! ICMP errors from outside about masqueraded packets (RFC 5508 REQ-3, REQ-4, REQ-10).

use datapath::verdict::{DropReason, Verdict};
use tests::frame::{ACK, Frame, Transport, patched};
use tests::party::{A, FAR, Family, HOST};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::talk::{SECOND_NS, Talk, arrives_as};

/// Record route, padded to eight bytes.
const OPTIONS: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(kinds(family));
        rows.extend(quotes(family));
        rows.extend(remembered(family));
        rows.extend(unsound(family));
        rows.extend(of_the_node(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} quoted: {text}")
}

/// Types and codes that cross a router, and what stands behind the checksum.
fn messages(family: Family) -> Vec<(&'static str, [u8; 2], [u8; 4])> {
    match family {
        Family::V4 => vec![
            ("net unreachable", [3, 0], [0; 4]),
            ("host unreachable", [3, 1], [0; 4]),
            ("port unreachable", [3, 3], [0; 4]),
            ("fragmentation needed", [3, 4], [0, 0, 5, 0]),
            ("filtered", [3, 13], [0; 4]),
            ("time exceeded", [11, 0], [0; 4]),
            ("reassembly time exceeded", [11, 1], [0; 4]),
            ("parameter problem", [12, 0], [9, 0, 0, 0]),
        ],
        Family::V6 => vec![
            ("no route", [1, 0], [0; 4]),
            ("prohibited", [1, 1], [0; 4]),
            ("port unreachable", [1, 4], [0; 4]),
            ("packet too big", [2, 0], [0, 0, 5, 0]),
            ("time exceeded", [3, 0], [0; 4]),
            ("parameter problem", [4, 1], [0, 0, 0, 6]),
        ],
    }
}

fn message(family: Family, [kind, code]: [u8; 2], rest: [u8; 4], quoted: &[u8]) -> Transport {
    Transport::icmp(family, kind, code, &[&rest, quoted].concat())
}

fn unreachable(family: Family, quoted: &[u8]) -> Transport {
    let kind = if family == Family::V4 { [3, 1] } else { [1, 3] };
    message(family, kind, [0; 4], quoted)
}

/// An error from the next hop to the masquerade address.
fn to_outside(family: Family, transport: Transport) -> Frame {
    Frame::new(&FAR, &FAR, family, transport)
        .source(family.next_hop())
        .to(family.outer())
}

/// The same as the endpoint gets it.
fn to_inside(family: Family, transport: Transport) -> Frame {
    to_outside(family, transport).to(A.ip(family))
}

/// A packet as it arrives where it is quoted.
fn far_away(frame: &Frame) -> Frame {
    frame.clone().hop_limit(7)
}

fn talks(family: Family) -> Vec<(&'static str, Talk)> {
    let echo = |id, is_reply| Transport::echo(family, is_reply, id);
    let udp = |from, to| Transport::udp(from, to, 21);
    let plain = Transport::other(47, [0, 0], &[7; 30]);
    vec![
        ("TCP", Talk::tcp(family, &A, 50_000, ACK)),
        (
            "UDP",
            Talk::new(
                family,
                &A,
                [
                    udp(5_000, 53),
                    udp(50_001, 53),
                    udp(53, 50_001),
                    udp(53, 5_000),
                ],
            ),
        ),
        (
            "echo",
            Talk::new(
                family,
                &A,
                [
                    echo(7, false),
                    echo(50_001, false),
                    echo(50_001, true),
                    echo(7, true),
                ],
            ),
        ),
        ("GRE", Talk::kept(family, &A, [plain.clone(), plain])),
    ]
}

/// Every type of message, about every kind of packet.
fn kinds(family: Family) -> Vec<Row> {
    let mut rows = Vec::new();
    for (about, talk) in talks(family) {
        for (text, kind, rest) in messages(family) {
            let of = |frame: &Frame| message(family, kind, rest, &far_away(frame).quote());
            let came = to_outside(family, of(&talk.left));
            let goes = to_inside(family, of(&talk.sent));
            let row = Row::from_netdev(
                name(family, &format!("{text}, about {about}")),
                came.bytes(),
            );
            rows.push(arrives_as(row, &goes, &A).given(|state| talk.connect(state)));
        }
    }
    rows
}

/// What a quote may look like.
fn quotes(family: Family) -> Vec<Row> {
    let talk = Talk::tcp(family, &A, 50_000, ACK);
    let about = |text: &str, talk: &Talk, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let of = |frame: &Frame| unreachable(family, &change(far_away(frame).quote()));
        let row = Row::from_netdev(
            name(family, text),
            to_outside(family, of(&talk.left)).bytes(),
        );
        arrives_as(row, &to_inside(family, of(&talk.sent)), &A).given(|state| talk.connect(state))
    };
    let header_len = if family == Family::V4 { 20 } else { 40 };
    let first = |len: usize| move |bytes: Vec<u8>| bytes[..len].to_vec();
    let with_options = talk.clone().with(|frame| match family {
        Family::V4 => frame.options(&OPTIONS),
        Family::V6 => frame.extension(60, &[0, 1, 4, 0, 0, 0, 0]),
    });
    let unchecked = |from, to| Transport {
        checksum_at: None,
        ..Transport::datagram(from, to, b"unchecked")
    };
    let of_peer = |frame: &Frame| unreachable(family, &far_away(frame).quote());
    let from_peer = |frame: Frame| frame.source(family.far()).bytes();
    let mut rows = vec![
        about("eight bytes of TCP", &talk, &first(header_len + 8)),
        about("odd number of bytes", &talk, &first(header_len + 9)),
        about(
            "header of TCP to its checksum",
            &talk,
            &first(header_len + 18),
        ),
        about(
            "options before eight bytes",
            &with_options,
            &first(header_len + 16),
        ),
        about("options before all of it", &with_options, &|bytes| bytes),
        about(
            "first fragment",
            &talk.clone().with(|frame| frame.part(0..24)),
            &|bytes| bytes,
        ),
        about("extension behind the quote", &talk, &|mut bytes| {
            bytes.resize(128, 0);
            bytes.extend([0x20, 0, 0xab, 0xcd, 0, 8, 1, 1, 1, 2, 3, 0]);
            bytes
        }),
        Row::from_netdev(
            name(family, "peer itself"),
            from_peer(to_outside(family, of_peer(&talk.left))),
        )
        .leaves(|_| from_peer(to_inside(family, of_peer(&talk.sent))))
        .routed_to(&A)
        .given(|state| talk.connect(state)),
    ];
    if family == Family::V4 {
        let talk = Talk::kept(family, &A, [unchecked(50_000, 53), unchecked(53, 50_000)]);
        rows.push(about("UDP without checksum", &talk, &|bytes| bytes));
    }
    rows
}

/// Where the flow of the quoted packet may be remembered.
fn remembered(family: Family) -> Vec<Row> {
    let talk = Talk::tcp(family, &A, 50_000, ACK);
    let of = |frame: &Frame| unreachable(family, &far_away(frame).quote());
    let row = |text: &str| {
        let came = to_outside(family, of(&talk.left));
        Row::from_netdev(name(family, text), came.bytes())
    };
    let arrives = |row: Row| arrives_as(row, &to_inside(family, of(&talk.sent)), &A);
    vec![
        arrives(row("packet of a flow that waits")).given(|state| {
            talk.wait(state);
            talk.bind(state, (0, 0));
        }),
        arrives(row("packet of a flow that is known by its binding only"))
            .given(|state| talk.bind(state, (1, 1))),
        arrives(row("packet of a shared binding"))
            .node(super::talk::endpoint_independent)
            .given(|state| talk.bind_shared(state, (1, 1))),
        row("packet of a binding that has ended").given(|state| {
            let halves = (talk.sent.tuple(), talk.left.tuple());
            state.binding(halves, &A, (1, 1), -SECOND_NS);
        }),
        row("packet of nobody passes to the node"),
    ]
}

/// Damaged ones.
fn unsound(family: Family) -> Vec<Row> {
    let talk = Talk::tcp(family, &A, 50_000, ACK);
    let bytes = to_outside(family, unreachable(family, &far_away(&talk.left).quote())).bytes();
    let header_len = if family == Family::V4 { 20 } else { 40 };
    let row = |text: &str, bytes| {
        Row::from_netdev(name(family, text), bytes).given(|state| talk.connect(state))
    };
    let damaged = patched(bytes.clone(), header_len + 4, &[1]);
    let mut rows = vec![row("wrong checksum", damaged).dropped(DropReason::BadChecksum)];
    if family == Family::V4 {
        let mut quote = far_away(&talk.left).quote();
        quote[10] ^= 1;
        let bytes = to_outside(family, unreachable(family, &quote)).bytes();
        rows.push(
            row("wrong checksum of the quoted header", bytes).dropped(DropReason::BadChecksum),
        );
        let crossing = |kind| {
            let quote = far_away(&talk.left).quote();
            let transport = message(family, [kind, 0], [192, 0, 2, 1], &quote);
            to_outside(family, transport).bytes()
        };
        rows.push(row(
            "source quench is left to the node",
            crossing(SOURCE_QUENCH),
        ));
        rows.push(row("redirect", crossing(REDIRECT)).gets(Verdict::Consumed));
    }
    rows
}

/// Errors about what the node itself sent.
fn of_the_node(family: Family) -> Vec<Row> {
    let own = Frame::to_address(&HOST, family.far(), Transport::tcp(40_000, 80, ACK))
        .source(family.outer());
    let error = to_outside(family, unreachable(family, &far_away(&own).quote()));
    let unmasked = Frame::to_address(&A, family.friend(), Transport::tcp(50_000, 80, ACK));
    let inside = to_inside(family, unreachable(family, &far_away(&unmasked).quote()));
    let waits = |state: &mut Snapshot| {
        let len = unmasked.bytes().len();
        state.pending(unmasked.tuple(), Waiting::of(&A, 1, len));
    };
    vec![
        Row::from_netdev(name(family, "packet of the node"), error.bytes()),
        Row::from_netdev(
            name(family, "packet that was not masqueraded"),
            inside.bytes(),
        )
        .given(waits)
        .routed_to(&A),
        Row::from_netdev(
            name(family, "unknown packet of an endpoint"),
            inside.bytes(),
        )
        .dropped(DropReason::UnrelatedIcmpError),
    ]
}
