//! A translation and its opposite leave every byte as it was, and checksums that were right stay
//! right; for packets of every protocol and shape, and for what ICMP errors quote.
//!
//! Checksums are judged by a sum over the whole packet (RFC 1071), not by the pipeline's own
//! arithmetic.

mod shape;

use datapath::abi::{Addr4, Addr6, OUTSIDE};
use datapath::family::{Header, Part, parse};
use datapath::model::ModelPacket;
use datapath::packet::proto;
use datapath::work::Work;
use datapath::{error, rewrite, transport};
use proptest::prelude::*;

use shape::{Change, ETH_LEN, Octets, Shape, assert_sound, changes, header, packet, shapes, sum};

/// Bytes behind the first eight of TCP that end in its checksum.
const HALF_CHECKSUM: usize = 9;

fn full_and_back<A: Octets>(shape: &Shape, change: &Change) {
    let before = shape.packet::<A>();
    let (key, out) = (shape.key::<A>(), shape.translated::<A>(change));
    let mut packet = before.clone();

    let there = rewrite::full(&mut packet, &header(&before, ETH_LEN), &key, &out);

    assert!(there, "is rewritten");
    assert!(
        header::<A>(&packet, ETH_LEN).src == out.src(),
        "has the new source"
    );
    assert_sound::<A>(shape, change.ends, &packet);
    let read = transport::full(
        &packet,
        header::<A>(&packet, ETH_LEN).transport,
        out.proto(),
    );
    assert_eq!(
        read.expect("is whole").ports,
        out.ports(),
        "ports are those of the translation"
    );

    let back = rewrite::full(&mut packet, &header(&before, ETH_LEN), &out, &key);

    assert!(back, "is rewritten again");
    assert_eq!(packet.bytes, before.bytes, "there and back");
}

fn plain_and_back<A: Octets>(shape: &Shape, change: &Change) {
    let is_plain = matches!(shape.protocol, proto::TCP | proto::UDP | proto::ICMP);
    if !is_plain || shape.options != 0 {
        return;
    }
    let before = shape.packet::<A>();
    let (key, out) = (shape.key::<A>(), shape.translated::<A>(change));
    let [mut packet, mut slow] = [before.clone(), before.clone()];

    let there = rewrite::plain(&mut packet, &out, rewrite::sums(&key, &out));

    assert!(there && rewrite::full(&mut slow, &header(&before, ETH_LEN), &key, &out));
    assert_eq!(packet.bytes, slow.bytes, "both paths agree");

    let back = rewrite::plain(&mut packet, &key, rewrite::sums(&out, &key));

    assert!(back, "is rewritten again");
    assert_eq!(packet.bytes, before.bytes, "there and back");
}

/// An error that quotes a packet as it was translated becomes one that quotes it as it was sent.
fn quote_and_back<A: Octets>(shape: &Shape, change: &Change, quoted_len: usize) {
    // Half of a checksum is left as it is: nobody can tell (RFC 5508 REQ-3c).
    let quoted_len = if quoted_len == HALF_CHECKSUM {
        quoted_len + 1
    } else {
        quoted_len
    };
    let (key, out) = (shape.key::<A>(), shape.translated::<A>(change));
    let mut left = shape.packet::<A>();
    let plain = header(&left, ETH_LEN);
    assert!(rewrite::full(&mut left, &plain, &key, &out));
    let quoted = |packet: &ModelPacket| {
        let start = header::<A>(packet, ETH_LEN).transport as usize - ETH_LEN;
        let end = (start + 8 + quoted_len).min(packet.bytes.len() - ETH_LEN);
        packet.bytes[ETH_LEN..ETH_LEN + end].to_vec()
    };
    let router = [9; 16];
    let [about_left, about_sent] = [
        error_about::<A>(router, change.ends[0], &quoted(&left)),
        error_about::<A>(router, shape.ends[0], &quoted(&shape.packet::<A>())),
    ];
    let mut work = Work::<A>::default();
    work.sender = OUTSIDE;
    work.outer = header(&about_left, ETH_LEN);
    (work.key, work.out) = (out.reversed(), key.reversed());
    let quote = work.outer.transport + 8;
    assert_eq!(parse(&about_left, quote, true, &mut work.header), None);
    let mut packet = about_left.clone();

    let there = error::translate(&mut packet, &work);

    assert!(there, "is rewritten");
    assert_eq!(packet.bytes, about_sent.bytes, "quotes what was sent");
}

/// Returns "unreachable" that quotes some bytes.
fn error_about<A: Octets>(from: [u8; 16], to: [u8; 16], quoted: &[u8]) -> ModelPacket {
    let kind = if A::IS_IPV6 { 1 } else { 3 };
    let mut bytes = [&[kind, 1, 0, 0, 0, 0, 0, 0], quoted].concat();
    let outer = Shape {
        ends: [from, to],
        protocol: proto::ICMP,
        ports: [0; 2],
        is_reply: false,
        options: 0,
        payload: Vec::new(),
    };
    let check = !outer.covered::<A>(outer.ends, &bytes);
    bytes[2..4].copy_from_slice(&check.to_be_bytes());
    let mut ip = outer.ip::<A>();
    ip.truncate(A::TRANSPORT - ETH_LEN);
    let len = if A::IS_IPV6 {
        bytes.len()
    } else {
        20 + bytes.len()
    };
    let at = if A::IS_IPV6 { 4 } else { 2 };
    ip[at..at + 2].copy_from_slice(&u16::try_from(len).expect("short").to_be_bytes());
    if !A::IS_IPV6 {
        ip[10..12].fill(0);
        let check = !sum(&ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
    }
    packet(&[ip, bytes].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn translation_and_its_opposite_restore_every_byte(shape in shapes(), change in changes()) {
        full_and_back::<Addr4>(&shape, &change);
        full_and_back::<Addr6>(&shape, &change);
    }

    #[test]
    fn fast_path_translates_as_the_slow_one(shape in shapes(), change in changes()) {
        plain_and_back::<Addr4>(&shape, &change);
        plain_and_back::<Addr6>(&shape, &change);
    }

    #[test]
    fn quoted_packet_is_what_was_sent(
        shape in shapes(),
        change in changes(),
        quoted_len in 0..64_usize,
    ) {
        quote_and_back::<Addr4>(&shape, &change, quoted_len);
        quote_and_back::<Addr6>(&shape, &change, quoted_len);
    }

    #[test]
    fn fragment_keeps_its_header_sound(shape in shapes(), sender in any::<u32>()) {
        let before = shape.packet::<Addr4>();
        let mut packet = before.clone();
        let header = Header { part: Part::First, ..header::<Addr4>(&before, ETH_LEN) };

        let there = rewrite::own_identification(&mut packet, &header, sender);
        assert_sound::<Addr4>(&shape, shape.ends, &packet);
        let back = rewrite::own_identification(&mut packet, &header, sender);

        prop_assert!(there && back);
        prop_assert_eq!(packet.bytes, before.bytes, "there and back");
    }
}
