//! Headers that are cut off, or that contradict themselves.

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport, cut, patched};
use tests::party::{A, B, Family};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{connect, count, segment};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = ipv4();
    rows.extend(ipv4_options());
    rows.extend(ipv6());
    for family in Family::BOTH {
        rows.extend(transports(family));
        rows.extend(ends(family));
    }
    rows
}

fn ipv4() -> Vec<Row> {
    let bytes = segment(&A, &B, Family::V4).bytes();
    let with_options = segment(&A, &B, Family::V4).options(&[1; 40]).bytes();
    [
        (
            "IPv4 header without a version",
            patched(bytes.clone(), 0, &[0x05]),
        ),
        (
            "IPv4 header of version 6",
            patched(bytes.clone(), 0, &[0x65]),
        ),
        (
            "IPv4 header shorter than 20 bytes",
            patched(bytes.clone(), 0, &[0x44]),
        ),
        (
            "IPv4 packet shorter than its header",
            patched(bytes.clone(), 2, &[0, 19]),
        ),
        (
            "IPv4 packet longer than its frame",
            patched(bytes.clone(), 2, &[0, 63]),
        ),
        (
            "IPv4 packet of length 0 that is no GSO packet",
            patched(bytes.clone(), 2, &[0, 0]),
        ),
        (
            "IPv4 packet that ends before its ports",
            patched(bytes.clone(), 2, &[0, 22]),
        ),
        (
            "IPv4 options longer than the packet",
            cut(patched(with_options, 2, &[0, 50]), 50),
        ),
    ]
    .map(|(name, bytes)| Row::from_container(name, &A, bytes).dropped(DropReason::InvalidPacket))
    .into_iter()
    .chain([
        Row::from_host("IPv4 packet of the stack longer than its frame", {
            patched(bytes, 2, &[0, 63])
        })
        .dropped(DropReason::InvalidPacket),
    ])
    .collect()
}

fn ipv4_options() -> Vec<Row> {
    let frame = segment(&A, &B, Family::V4).options(&[1; 8]);
    let most = segment(&A, &B, Family::V4).options(&[1; 40]);
    vec![
        waits("IPv4 options are stepped over", &frame),
        waits("longest IPv4 options are stepped over", &most),
        Row::from_container("IPv4 options in a known flow", &A, frame.bytes())
            .given(|state| connect(state, &frame, &A, &B))
            .routed_to(&B)
            .then(|state| count(state, &frame)),
    ]
}

fn ipv6() -> Vec<Row> {
    let bytes = segment(&A, &B, Family::V6).bytes();
    [
        (
            "IPv6 header of version 4",
            patched(bytes.clone(), 0, &[0x40]),
        ),
        (
            "IPv6 packet longer than its frame",
            patched(bytes.clone(), 4, &[0, 43]),
        ),
        (
            "IPv6 packet of length 0 that is no GSO packet",
            patched(bytes.clone(), 4, &[0, 0]),
        ),
        (
            "IPv6 packet that ends before its ports",
            patched(bytes, 4, &[0, 2]),
        ),
    ]
    .map(|(name, bytes)| Row::from_container(name, &A, bytes).dropped(DropReason::InvalidPacket))
    .into()
}

fn transports(family: Family) -> Vec<Row> {
    let invalid = |name: &str, transport: Transport| {
        let frame = Frame::new(&A, &B, family, transport);
        Row::from_container(format!("{family:?}: {name}"), &A, frame.bytes())
            .dropped(DropReason::InvalidPacket)
    };
    let mut small_offset = Transport::tcp(40_000, 80, 0x10);
    small_offset.bytes[12] = 4 << 4;
    vec![
        invalid("TCP header of 16 bytes", small_offset),
        invalid(
            "TCP header cut off",
            Transport::other(6, [0, 0], &[0x50; 19]),
        ),
        invalid("UDP header cut off", Transport::other(17, [0, 0], &[0; 7])),
        invalid(
            "SCTP header cut off",
            Transport::other(132, [0, 0], &[0; 11]),
        ),
        invalid(
            "UDP-Lite header cut off",
            Transport::other(136, [0, 0], &[0; 7]),
        ),
        invalid(
            "ICMP header cut off",
            Transport::other(family.icmp(), [0, 0], &[3; 7]),
        ),
        invalid("TCP header missing", Transport::other(6, [0, 0], &[])),
    ]
}

fn ends(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family);
    let padded = [frame.bytes(), vec![0; 20]].concat();
    let ip_len = if family == Family::V4 { 20 } else { 40 };
    let last_but_one = frame.bytes().len() - 14 - 1;
    let name = |text: &str| format!("{family:?}: {text}");
    let invalid = |text: &str, len| {
        Row::from_container(name(text), &A, cut(frame.bytes(), len))
            .dropped(DropReason::InvalidPacket)
    };
    vec![
        Row::from_container(name("padding of the frame is no part of the packet"), &A, {
            padded.clone()
        })
        .routed_to(&B)
        .then(|state| {
            state.pending(frame.tuple(), Waiting::of(&A, 1, padded.len()));
        }),
        invalid("frame without the last byte", last_but_one),
        invalid("frame that ends with the IP header", ip_len),
        invalid("frame that ends within the IP header", ip_len - 1).on_the_host_only(),
        invalid("frame that ends with the Ethernet header", 0).on_the_host_only(),
    ]
}

fn waits(name: &str, frame: &Frame) -> Row {
    Row::from_container(name, &A, frame.bytes())
        .routed_to(&B)
        .then(|state| {
            state.pending(frame.tuple(), Waiting::of(&A, 1, frame.bytes().len()));
        })
}
