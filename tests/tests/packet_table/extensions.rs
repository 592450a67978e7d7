//! IPv6 extension headers (RFC 8200 §4).

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport, cut, patched};
use tests::party::{A, B, Family};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{connect, count, segment};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION: u8 = 60;

/// One unit of padding options.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
/// An authentication header with 12 bytes of check value: 24 bytes.
const AUTHENTICATION_REST: [u8; 23] = [4; 23];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = followed();
    rows.extend(refused());
    rows.extend(malformed());
    rows
}

fn followed() -> Vec<Row> {
    let plain = segment(&A, &B, Family::V6);
    let mut most = plain.clone();
    for _ in 0..6 {
        most = most.extension(DESTINATION, &PADDING);
    }
    let nothing = Frame {
        transport: Transport::other(NO_NEXT_HEADER, [0, 0], &[]),
        ..plain.clone()
    };
    let known = plain.clone().extension(DESTINATION, &PADDING);
    let mut rows: Vec<Row> = [
        (
            "hop-by-hop options",
            plain.clone().extension(HOP_BY_HOP, &PADDING),
        ),
        (
            "destination options",
            plain.clone().extension(DESTINATION, &PADDING),
        ),
        (
            "authentication header",
            plain
                .clone()
                .extension(AUTHENTICATION, &AUTHENTICATION_REST),
        ),
        ("two kinds of options", {
            plain
                .clone()
                .extension(HOP_BY_HOP, &PADDING)
                .extension(DESTINATION, &PADDING)
        }),
        ("as many extension headers as are followed", most),
        ("atomic fragment is a whole packet", plain.part(0..42)),
        ("no next header", nothing),
    ]
    .map(|(name, frame)| {
        Row::from_container(name, &A, frame.bytes())
            .routed_to(&B)
            .then(|state| {
                state.pending(frame.tuple(), Waiting::of(&A, 1, frame.bytes().len()));
            })
    })
    .into();
    rows.push(
        Row::from_container("extension header in a known flow", &A, known.bytes())
            .given(|state| connect(state, &known, &A, &B))
            .routed_to(&B)
            .then(|state| count(state, &known)),
    );
    rows
}

fn refused() -> Vec<Row> {
    let plain = segment(&A, &B, Family::V6);
    let mut many = plain.clone();
    for _ in 0..7 {
        many = many.extension(DESTINATION, &PADDING);
    }
    let segments = [
        2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    [
        (
            "routing header",
            plain.clone().extension(ROUTING, &segments),
        ),
        ("routing header behind options", {
            plain
                .extension(HOP_BY_HOP, &PADDING)
                .extension(ROUTING, &segments)
        }),
        ("more extension headers than are followed", many),
    ]
    .map(|(name, frame)| {
        Row::from_container(name, &A, frame.bytes()).dropped(DropReason::InvalidExtensionHeader)
    })
    .into()
}

fn malformed() -> Vec<Row> {
    let frame = segment(&A, &B, Family::V6).extension(DESTINATION, &PADDING);
    let bytes = frame.bytes();
    let without_rest = patched(cut(bytes.clone(), 44), 4, &[0, 4]);
    let only_options = patched(cut(bytes.clone(), 48), 4, &[0, 8]);
    [
        (
            "extension header that is longer than the packet",
            patched(bytes.clone(), 41, &[200]),
        ),
        (
            "extension header that hides the ports",
            patched(bytes, 41, &[5]),
        ),
        ("extension header cut off", without_rest),
        ("extension header with nothing behind it", only_options),
    ]
    .map(|(name, bytes)| Row::from_container(name, &A, bytes).dropped(DropReason::InvalidPacket))
    .into()
}
