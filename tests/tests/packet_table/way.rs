//! Hop limits and sizes: what a router does, and what it leaves to the stack.

use tests::frame::{ACK, Frame, Transport};
use tests::party::{A, B, D, Family, HOST, MTU, SMALL_MTU};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{connect, count, segment};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Family::BOTH.into_iter().flat_map(of_family).collect();
    rows.extend(small_mtu());
    rows.extend(checksums());
    rows
}

fn of_family(family: Family) -> Vec<Row> {
    let mut rows = hop_limits(family);
    rows.extend(sizes(family));
    rows.extend(segments(family));
    rows
}

fn hop_limits(family: Family) -> Vec<Row> {
    let name = |text: &str| format!("{family:?}: {text}");
    let last = segment(&A, &B, family).hop_limit(1);
    let to_stack = Frame::new(&A, &HOST, family, Transport::tcp(40_000, 22, ACK)).hop_limit(1);
    vec![
        first(
            name("first packet at its last hop goes to the stack"),
            &last,
        )
        .to_stack(),
        first(
            name("packet without a hop left goes to the stack"),
            &last.clone().hop_limit(0),
        )
        .to_stack(),
        first(
            name("packet with two hops left is routed"),
            &last.clone().hop_limit(2),
        )
        .routed_to(&B),
        first(
            name("last hop to the stack itself is no exception"),
            &to_stack,
        )
        .to_stack(),
        Row::from_container(
            name("known flow at its last hop goes to the stack"),
            &A,
            last.bytes(),
        )
        .given(|state| connect(state, &last, &A, &B))
        .to_stack()
        .then(|state| count(state, &last)),
    ]
}

fn sizes(family: Family) -> Vec<Row> {
    let name = |text: &str| format!("{family:?}: {text}");
    let [fits, too_big] = [MTU, MTU + 1].map(|len| of_length(family, len));
    vec![
        first(name("largest packet is routed"), &fits).routed_to(&B),
        first(name("packet that is too big goes to the stack"), &too_big).to_stack(),
        Row::from_container(
            name("known flow's packet that is too big"),
            &A,
            too_big.bytes(),
        )
        .given(|state| connect(state, &too_big, &A, &B))
        .to_stack()
        .then(|state| count(state, &too_big)),
    ]
}

/// Headers of IP, and of TCP with its options, come to 72 or 52 bytes.
fn segments(family: Family) -> Vec<Row> {
    let name = |text: &str| format!("{family:?}: {text}");
    let headers = if family == Family::V4 { 52 } else { 72 };
    let fits = u32::from(MTU) - headers;
    let mut transport = Transport::tcp(40_000, 80, ACK);
    transport.bytes.extend([0x55; 2_500]);
    let frame = Frame::new(&A, &B, family, transport);
    let datagrams = Frame::new(&A, &B, family, Transport::udp(40_000, 53, 2_500));
    let udp_fits = u32::from(MTU) - headers + 24;
    let known = |row: Row, frame: &Frame| row.given(|state| connect(state, frame, &A, &B));
    let row = |text: &str, frame: &Frame| Row::from_container(name(text), &A, frame.bytes());
    vec![
        first(name("first GSO packet whose segments fit"), &frame)
            .gso(fits)
            .routed_to(&B),
        first(name("first GSO packet whose segments are too big"), &frame)
            .gso(fits + 1)
            .to_stack(),
        known(row("known GSO packet whose segments fit", &frame), &frame)
            .gso(fits)
            .routed_to(&B)
            .then(|state| count(state, &frame)),
        known(
            row("known GSO packet whose segments are too big", &frame),
            &frame,
        )
        .gso(fits + 1)
        .to_stack()
        .then(|state| count(state, &frame)),
        known(
            row("known GSO packet of UDP whose segments fit", &datagrams),
            &datagrams,
        )
        .gso(udp_fits)
        .routed_to(&B)
        .then(|state| count(state, &datagrams)),
        known(
            row(
                "known GSO packet of UDP whose segments are too big",
                &datagrams,
            ),
            &datagrams,
        )
        .gso(udp_fits + 1)
        .to_stack()
        .then(|state| count(state, &datagrams)),
    ]
}

fn small_mtu() -> Vec<Row> {
    let [fits, too_big] = [SMALL_MTU, SMALL_MTU + 1].map(|len| Frame {
        destination: D.ip(Family::V6),
        ..of_length(Family::V6, len)
    });
    vec![
        first("largest packet for a small link is routed".into(), &fits).routed_to(&D),
        first(
            "packet too big for a small link goes to the stack".into(),
            &too_big,
        )
        .to_stack(),
    ]
}

/// The checksum of the header is updated, not computed: carries must come out right.
fn checksums() -> Vec<Row> {
    let with_checksum = |wanted: u8| {
        let frames = (0..=u16::MAX).map(|id| Frame {
            id,
            ..segment(&A, &B, Family::V4)
        });
        frames
            .into_iter()
            .find(|frame| frame.bytes()[24] == wanted)
            .expect("some header has it")
    };
    let row = |text: &str, wanted| {
        first(
            format!("header checksum that begins with {text}"),
            &with_checksum(wanted),
        )
        .routed_to(&B)
    };
    vec![
        row("ff wraps around", 0xff),
        row("fe does not", 0xfe),
        row("00 does not", 0),
    ]
}

fn first(name: String, frame: &Frame) -> Row {
    Row::from_container(name, &A, frame.bytes()).then(|state| {
        state.pending(frame.tuple(), Waiting::of(&A, 1, frame.bytes().len()));
    })
}

fn of_length(family: Family, len: u16) -> Frame {
    let headers = if family == Family::V4 { 28 } else { 48 };
    Frame::new(&A, &B, family, Transport::udp(40_000, 53, len - headers))
}
