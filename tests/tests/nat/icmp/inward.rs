//! Errors from outside.

use std::thread;
use std::time::{Duration, Instant};

use tests::frame::{Frame, checksum};
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{ATTACKER, C1, S1, UPLINK, X};
use tests::lab::sleep_until;
use tests::lab::world::World;
use tests::packet::{Packet, briefs};
use tests::party::Family;
use tests::segment::Segment;

use crate::forge;
use crate::talk::Talk;

const ETH_LEN: usize = 14;
const IPV4_LEN: usize = 20;

/// An object with a label stack, as routers report their labels (RFC 4884, RFC 4950).
const EXTENSION: [u8; 12] = [0x20, 0, 0x75, 0xf3, 0, 8, 1, 1, 0, 0x01, 0x11, 0xff];
/// How much of a packet an error with an extension quotes, in bytes.
const PADDED_LEN: usize = 128;

/// The timer of the row that waits for it.
const TIMER: Duration = Duration::from_secs(4);
/// Before the timer ends, by what a test may be late.
const JUST_BEFORE: Duration = Duration::from_millis(3_100);
const GRACE: Duration = Duration::from_millis(1_500);

#[test]
fn damaged_errors_are_dropped_and_odd_ones_pass() {
    let row = Row::new(
        "I3",
        "RFC 5508 REQ-3 (MUST): validation of errors",
        "dropped: a wrong sum of the error or of the quoted header; passed: quoted options, wrong or missing transport sum, extensions",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let seen = request(world, family, 5_000);
            let good = |quoted: &[u8]| unreachable(world, family, quoted).bytes();
            let mut damaged = good(&seen.bytes());
            let at = ETH_LEN + if family == Family::V4 { 20 } else { 40 } + 2;
            damaged[at] ^= 0x40;
            expect_dropped(world, family, "a wrong sum", &damaged);
            if family == Family::V4 {
                let mut quoted = seen.bytes();
                quoted[10] ^= 0x40;
                expect_dropped(world, family, "a wrong quoted sum", &good(&quoted));
                for words in 6..=15 {
                    let quoted = with_options(&seen, words);
                    expect_passed(world, family, &good(&quoted));
                }
            }
            let mut quoted = seen.bytes();
            let sum_at = seen.header.len() + 6;
            quoted[sum_at] ^= 0x40;
            world.c1.is_lenient.set(true);
            expect_passed(world, family, &good(&quoted));
            let short = seen.header.len() + 8;
            expect_passed(world, family, &good(&seen.bytes()[..short]));
            expect_extension(world, family, &seen);
        }
    });

    row.pass("as expected; quoted headers of 6 to 15 words, 8 bytes of transport, an MPLS extension that arrives whole");
}

/// Sends a datagram; returns it as the server sees it.
fn request(world: &World, family: Family, port: u16) -> Packet {
    let token = world.udp(C1.at(family, port), S1.at(family, 7_000));
    world.s1.catch_token(token)
}

/// Returns an error of the router: host unreachable, or no route.
fn unreachable(world: &World, family: Family, quoted: &[u8]) -> Frame {
    let ends = (X.ip(family), UPLINK.ip(family));
    forge::error_quoting(world, ends, kind(family), 0, quoted)
}

fn kind(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 1),
        Family::V6 => (1, 0),
    }
}

fn arrived_errors(world: &World, family: Family) -> Vec<Packet> {
    world.fence(family);
    world.c1.arrived(Packet::is_error)
}

fn expect_dropped(world: &World, family: Family, what: &str, bytes: &[u8]) {
    world.x.send_as_is(bytes);
    let seen = briefs(&arrived_errors(world, family));
    assert!(seen.is_empty(), "{what} should not pass: {seen:?}");
}

fn expect_passed(world: &World, family: Family, bytes: &[u8]) {
    world.x.send_as_is(bytes);
    let seen = arrived_errors(world, family);
    assert_eq!(seen.len(), 1, "{:?} of {bytes:02x?}", briefs(&seen));
    let quoted = seen[0].quoted().expect("an error quotes");
    assert_eq!(quoted.from(), C1.at(family, 5_000));
    assert_eq!(quoted.to(), S1.at(family, 7_000));
}

/// Returns a packet with a longer IPv4 header.
fn with_options(packet: &Packet, words: u8) -> Vec<u8> {
    let more = usize::from(words) * 4 - IPV4_LEN;
    let mut header = packet.header.clone();
    header.resize(IPV4_LEN + more, 1);
    header[0] = 0x40 | words;
    let len = u16::try_from(header.len() + packet.body.len()).expect("short");
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[10..12].fill(0);
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [header, packet.body.clone()].concat()
}

/// Sends an error with an extension behind the padded quotation, which must arrive whole.
fn expect_extension(world: &World, family: Family, seen: &Packet) {
    let mut quoted = seen.bytes();
    quoted.resize(PADDED_LEN, 0);
    quoted.extend(EXTENSION);
    // RFC 4884 §4: the length of the quotation, in words of 4 bytes, or of 8 in ICMPv6.
    let word = match family {
        Family::V4 => 32 << 16,
        Family::V6 => 16 << 24,
    };
    let ends = (X.ip(family), UPLINK.ip(family));
    let frame = forge::error_quoting(world, ends, kind(family), word, &quoted);
    world.x.send(&frame);
    let seen = arrived_errors(world, family);
    assert_eq!(seen.len(), 1, "{:?}", briefs(&seen));
    assert!(
        seen[0].body.ends_with(&EXTENSION),
        "the extension should be whole"
    );
    assert_eq!(seen[0].second_word(), word, "and its length");
}

#[test]
fn errors_from_outside_reach_the_endpoint_about_its_own_packet() {
    let row = Row::new(
        "I4",
        "RFC 5508 REQ-4 (MUST): errors from outside are translated back",
        "every type and code about UDP, TCP and ICMP: source, type and code stay, the endpoint's own packet is quoted; about nothing: silence",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let inside = C1.at(family, 5_000);
            let (frame, token) = world.datagram(inside, S1.at(family, 7_000));
            world.c1.send(&frame);
            expect_all(world, family, &frame, &world.s1.catch_token(token));

            let syn = Segment::new(world.next_sequence(), 0, 2).transport(5_000, 80);
            let frame = world.frame(inside.ip(), S1.ip(family), syn);
            world.c1.send(&frame);
            let seen = world.s1.catch("the SYN", |packet| packet.protocol == 6);
            expect_all(world, family, &frame, &seen);

            let echo = tests::frame::Transport::echo(family, false, 5_000);
            let frame = world.frame(inside.ip(), S1.ip(family), echo);
            world.c1.send(&frame);
            let seen = world.s1.catch("the request", |packet| {
                packet.protocol == family.icmp() && packet.from().port() != 0
            });
            expect_all(world, family, &frame, &seen);

            expect_silence(world, family, &seen);
        }
    });

    let [v4, v6] = Family::BOTH.map(|family| forge::errors(family).len());
    row.pass(&format!("{v4} kinds of IPv4, {v6} of IPv6, each about three protocols; nothing and no answer about unknown packets"));
}

/// Sends every error about a packet, of which each must arrive.
fn expect_all(world: &World, family: Family, sent: &Frame, seen: &Packet) {
    let sent = sent.quote();
    for from in [X, S1] {
        for kind in forge::errors(family) {
            let word = forge::word_of(family, kind);
            let from = from.ip(family);
            let frame = forge::error(world, from, kind, word, seen);
            world.station(from).send(&frame);
            let error = world
                .c1
                .catch(&format!("{kind:?} about {}", seen.brief()), |packet| {
                    packet.is_error()
                });
            assert_eq!(error.icmp(), Some(kind), "of {}", error.brief());
            assert_eq!((error.source, error.destination), (from, C1.ip(family)));
            assert_eq!(error.second_word(), word, "of {}", error.brief());
            expect_own(&error.body[8..], &sent);
        }
    }
}

/// Compares a quoted packet with the one that was sent: only hop limit and header sum may differ.
fn expect_own(quoted: &[u8], sent: &[u8]) {
    let [mut quoted, mut sent] = [quoted.to_vec(), sent.to_vec()];
    for bytes in [&mut quoted, &mut sent] {
        if bytes[0] >> 4 == 4 {
            bytes[8] = 0;
            bytes[10..12].fill(0);
        } else {
            bytes[7] = 0;
        }
    }
    assert_eq!(quoted, sent, "its own packet should be quoted");
}

/// Sends an error about a packet that nobody sent.
fn expect_silence(world: &World, family: Family, seen: &Packet) {
    let mut unknown = seen.bytes();
    let at = seen.header.len() + 4;
    // Another identifier, and the sum of the quoted message with it.
    unknown[at] ^= 0x55;
    unknown[seen.header.len() + 2] ^= 0x55;
    let frame = unreachable(world, family, &unknown);
    world.x.send(&frame);
    let errors = briefs(&arrived_errors(world, family));
    assert!(errors.is_empty(), "about nothing: {errors:?}");
    let answers = briefs(&world.x.arrived(Packet::is_error));
    assert!(answers.is_empty(), "answered: {answers:?}");
}

#[test]
fn errors_neither_keep_nor_end_a_session() {
    let row = Row::new(
        "I6",
        "RFC 5508 REQ-6 (MUST NOT): errors neither refresh nor delete sessions",
        "(timer of 4 s) with errors in both directions all the time a session lives 4 s, as without",
    );

    row.check(&Options::default().timeout("udp", 4), |world| {
        let opened = Family::BOTH.map(|family| {
            (
                family,
                [5_000, 5_001].map(|port| request(world, family, port)),
            )
        });
        let start = Instant::now();
        let errors = |until| {
            while start.elapsed() < until {
                for (family, requests) in &opened {
                    exchange_errors(world, *family, requests);
                }
                thread::sleep(Duration::from_millis(300));
            }
        };
        let replies = |index: u16, expected: bool| {
            for (family, requests) in &opened {
                let outside = requests[usize::from(index)].from();
                let (far, inside) = (S1.at(*family, 7_000), C1.at(*family, 5_000 + index));
                let arrives = world.reaches(far, outside, inside);
                assert_eq!(arrives, expected, "after {:?}", start.elapsed());
            }
        };
        errors(JUST_BEFORE);
        replies(0, true);
        errors(TIMER + GRACE);
        sleep_until(start + TIMER + GRACE);
        replies(1, false);
    });

    row.pass("alive after 3.1 s, gone after 5.5 s");
}

/// Sends an error from the router about each request, and one from the endpoint about a reply.
fn exchange_errors(world: &World, family: Family, requests: &[Packet]) {
    let ends = (C1.ip(family), S1.ip(family));
    let port_unreachable = if family == Family::V4 { (3, 3) } else { (1, 4) };
    for (port, seen) in (5_000..).zip(requests) {
        world.x.send(&unreachable(world, family, &seen.bytes()));
        let (reply, _) = world.datagram(S1.at(family, 7_000), C1.at(family, port));
        let frame = forge::error_quoting(world, ends, port_unreachable, 0, &reply.quote());
        world.c1.send(&frame);
    }
}

#[test]
fn source_quench_and_redirects_go_no_further() {
    let row = Row::new(
        "I10",
        "RFC 5508 REQ-10 (MUST): no source quench, no redirects; unreachable, time exceeded and echo are supported",
        "redirects and source quench about a live flow do not reach the endpoint",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let seen = request(world, family, 5_000);
            for kind in forge::forbidden(family) {
                for from in [X, S1, ATTACKER] {
                    let from = from.ip(family);
                    let mut frame = forge::error(world, from, kind, 0, &seen);
                    if family == Family::V6 {
                        // Target and destination of a redirect, and the options behind.
                        let body = [from, S1.ip(family)].map(tests::packet::octets).concat();
                        let body = [&[0; 4], body.as_slice()].concat();
                        let transport = tests::frame::Transport::icmp(family, kind.0, 0, &body);
                        frame = world
                            .frame(from, UPLINK.ip(family), transport)
                            .hop_limit(255);
                    }
                    world.station(from).send(&frame);
                }
            }
            world.fence(family);
            let kinds = forge::forbidden(family);
            let all = world
                .c1
                .arrived(|packet| packet.icmp().is_some_and(|kind| kinds.contains(&kind)));
            assert!(all.is_empty(), "{:?}", briefs(&all));
            let talk = Talk::begin(world, C1.at(family, 5_000), S1.at(family, 80));
            assert_eq!(talk.outside.ip(), UPLINK.ip(family));
        }
    });

    row.pass("source quench and four codes of redirects, from router, server and a stranger: none arrives");
}
