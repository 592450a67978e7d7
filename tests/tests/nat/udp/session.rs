//! What comes in, and for how long.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::lab::compliance::Row;
use tests::lab::gateway::{Options, write_file};
use tests::lab::site::{ATTACKER, C1, C2, S1, S2, UPLINK, X};
use tests::lab::sleep_until;
use tests::lab::world::World;
use tests::packet::{Packet, briefs};
use tests::party::Family;

use crate::forge;

/// The timer of rows that wait for it, in seconds: 300 of the default, shortened.
const TIMER_SECS: u32 = 4;
const TIMER: Duration = Duration::from_secs(4);
/// What a gateway may take longer to forget.
const GRACE: Duration = Duration::from_millis(1_500);
/// Before the timer ends, by what a test may be late.
const JUST_BEFORE: Duration = Duration::from_millis(3_300);

#[test]
fn session_lives_as_long_as_its_timer_says() {
    let row = Row::new(
        "U5",
        "RFC 4787 REQ-5 (MUST): not forgotten within 2 minutes, configurable, 5 minutes by default",
        "less than 2m is refused; (timer of 4 s) a reply passes just before it and not after it",
    );

    row.check(&Options::default().timeout("udp", TIMER_SECS), |world| {
        let far = |family| S1.at(family, 7_000);
        let opened = Family::BOTH
            .map(|family| [5_000, 5_001].map(|port| open(world, C1.at(family, port), far(family))));
        for (family, [kept, _]) in Family::BOTH.into_iter().zip(opened) {
            sleep_until(kept.1 + JUST_BEFORE);
            let inside = C1.at(family, 5_000);
            assert!(
                world.reaches(far(family), kept.0, inside),
                "before the timer"
            );
        }
        for (family, [_, lost]) in Family::BOTH.into_iter().zip(opened) {
            sleep_until(lost.1 + TIMER + GRACE);
            let inside = C1.at(family, 5_001);
            assert!(
                !world.reaches(far(family), lost.0, inside),
                "after the timer"
            );
        }
    });
    row.check(&Options::default(), |world| {
        for (timer, code) in [("119s", 78), ("2m", 0), ("5m", 0)] {
            let file = write_file(&world.machine, &Options::default());
            let text = std::fs::read_to_string(&file).expect("read the file");
            let text = format!("{text}\n[masquerade.timeouts]\nudp = {timer:?}\n");
            let file = world.machine.write("timer.toml", &text);
            world.agent(&format!("check {}", file.display()), code);
        }
    });
    row.pass("119s refused, 2m accepted; passes 0.7 s before a timer of 4 s, not 1.5 s after it");
}

/// Opens a flow with several packets within a second: the timer counts from the last of them.
/// Returns the outside tuple and when the last was sent.
fn open(world: &World, inside: SocketAddr, far: SocketAddr) -> (SocketAddr, Instant) {
    let mut outside = world.out(inside, far);
    for _ in 0..4 {
        world.back(far, outside, inside);
        thread::sleep(Duration::from_millis(120));
        outside = world.out(inside, far);
    }
    (outside, Instant::now())
}

#[test]
fn outbound_packets_refresh_a_session_and_inbound_ones_alone_do_not() {
    let row = Row::new(
        "U6",
        "RFC 4787 REQ-6 (MUST): outbound refresh; inbound refresh is off",
        "(timer of 4 s) outbound packets keep a session; inbound ones alone do not",
    );

    row.check(&Options::default().timeout("udp", TIMER_SECS), |world| {
        let start = Instant::now();
        let far = |family| S1.at(family, 7_000);
        let opened = Family::BOTH
            .map(|family| [5_001, 5_002].map(|port| world.out(C1.at(family, port), far(family))));
        let all = || Family::BOTH.into_iter().zip(opened);
        while start.elapsed() < TIMER + GRACE {
            for (family, [_, inbound]) in all() {
                world.udp(far(family), inbound);
                world.udp(C1.at(family, 5_001), far(family));
            }
            thread::sleep(Duration::from_millis(400));
        }
        for (family, [outbound, inbound]) in all() {
            let [kept, lost] = [5_001, 5_002].map(|port| C1.at(family, port));
            assert!(world.reaches(far(family), outbound, kept), "only outbound");
            assert!(!world.reaches(far(family), inbound, lost), "only inbound");
        }
    });

    row.pass("after 5.5 s: outbound traffic alone has kept the session, inbound alone has not");
}

#[test]
fn same_addresses_on_both_sides_are_refused() {
    let row = Row::new(
        "U7",
        "RFC 4787 REQ-7 (MUST): inside and outside addresses that overlap",
        "`check` refuses a masquerade address of the inside and shows both places",
    );

    row.check(&Options::default(), |world| {
        // A device that gets such an address later is no reason to stop masquerading.
        world.gw.run("ip address add 10.9.0.200/32 dev up0");
        for family in Family::BOTH {
            let outside = world.out(C1.at(family, 5_000), S1.at(family, 7_000));
            world.back(S1.at(family, 7_000), outside, C1.at(family, 5_000));
        }
        for (address, prefix) in [
            ("10.9.0.200", "10.9.0.0/24"),
            ("fd00:9::200", "fd00:9::/64"),
        ] {
            let overlapping = Options {
                addresses: vec![address],
                ..Options::default()
            };
            let file = world.machine.write("overlap.toml", &overlapping.file());
            let said = world.agent(&format!("check {}", file.display()), 78).stderr;
            for word in [address, prefix] {
                assert!(said.contains(word), "{word} should be shown: {said}");
            }
        }
    });

    row.pass("exit 78 with both lines; an overlapping address that the device gets later changes nothing");
}

#[test]
fn strangers_are_filtered_by_address_unless_asked_otherwise() {
    let row = Row::new(
        "U8",
        "RFC 4787 REQ-8 (REC): filtering, endpoint-independent or address-dependent",
        "by default only addresses that the endpoint sent to may answer; `filtering` opens it",
    );

    let reasons = row.check(&Options::default(), |world| {
        Family::BOTH.map(|family| {
            let inside = C1.at(family, 5_000);
            let outside = world.out(inside, S1.at(family, 7_000));
            assert!(
                world.reaches(S1.at(family, 7_999), outside, inside),
                "same address"
            );
            let stranger = S2.at(family, 7_000);
            let reason = world.expect_reason(1, || {
                assert!(!world.reaches(stranger, outside, inside), "a stranger");
            });
            world.out(inside, S2.at(family, 7_001));
            assert!(
                world.reaches(stranger, outside, inside),
                "no stranger any more"
            );
            reason
        })
    });
    row.check(&Options::default().open(), |world| {
        for family in Family::BOTH {
            let inside = C1.at(family, 5_000);
            let outside = world.out(inside, S1.at(family, 7_000));
            world.back(S2.at(family, 7_000), outside, inside);
            world.back(ATTACKER.at(family, 7_000), outside, inside);
        }
    });

    row.pass(&format!(
        "a stranger is dropped under {:?} until spoken to; with `endpoint-independent` it passes",
        reasons[0]
    ));
}

#[test]
fn endpoints_meet_at_their_outside_tuples() {
    let row = Row::new(
        "U9",
        "RFC 4787 REQ-9, REQ-9a (MUST): hairpinning with the outside source",
        "what c2 sends to the outside tuple of c1 arrives there from the outside tuple of c2",
    );

    row.check(&Options::default().open(), |world| {
        for family in Family::BOTH {
            let [inside, other] = [C1.at(family, 5_000), C2.at(family, 6_000)];
            let outside = world.out(inside, S1.at(family, 7_000));
            let seen = hairpin(world, (other, outside), inside);
            assert_eq!(seen, world.out(other, S1.at(family, 7_000)));
            assert_eq!(hairpin(world, (inside, seen), other), outside);
        }
    });
    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            // Both sides send, as for a hole to be punched: filtering is by address.
            let [inside, other] = [C1.at(family, 5_000), C2.at(family, 6_000)];
            let [at, to] = [inside, other].map(|from| world.out(from, S1.at(family, 7_000)));
            world.udp(inside, to);
            assert_eq!(hairpin(world, (other, at), inside), to);
            assert_eq!(hairpin(world, (inside, to), other), at);
        }
    });

    row.pass("arrives both ways, from the outside tuples, with both kinds of filtering");
}

/// Sends a datagram to an outside tuple; returns the source with which it reaches its owner.
fn hairpin(world: &World, (from, outside): (SocketAddr, SocketAddr), to: SocketAddr) -> SocketAddr {
    let token = world.udp(from, outside);
    let seen = world.station(to.ip()).catch_token(token);
    assert_eq!(seen.to(), to, "of {}", seen.brief());
    assert_eq!(seen.source, outside.ip(), "of {}", seen.brief());
    seen.from()
}

#[test]
fn errors_of_icmp_end_no_session() {
    let row = Row::new(
        "U12",
        "RFC 4787 REQ-12 (MUST): ICMP errors end no session and are not filtered by source",
        "every type and code, from the router, the server and a stranger: the flow goes on",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let (inside, far) = (C1.at(family, 5_000), S1.at(family, 7_000));
            let token = world.udp(inside, far);
            let seen = world.s1.catch_token(token);
            for kind in forge::all(family) {
                for from in [X, S1, ATTACKER] {
                    let word = forge::word_of(family, kind);
                    let frame = forge::error(world, from.ip(family), kind, word, &seen);
                    world.station(from.ip(family)).send(&frame);
                }
            }
            assert_eq!(world.out(inside, far), seen.from(), "the flow goes on");
            world.back(far, seen.from(), inside);
            let from_stranger = world.c1.arrived(|packet| {
                packet.icmp() == Some(forge::errors(family)[3]) && packet.source == X.ip(family)
            });
            assert_eq!(
                from_stranger.len(),
                1,
                "the router's error reaches the endpoint"
            );
        }
    });

    row.pass(&format!(
        "{}: same outside tuple, replies arrive",
        forge::counts()
    ));
}

#[test]
fn nobody_else_answers_for_the_uplink() {
    let row = Row::new(
        "U8a",
        "issue 3: a port of the range that nobody owns is dropped, never answered",
        "no answer of the node to datagrams for free ports of the range",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            for port in [49_152, 55_555, 65_535] {
                world.udp(S1.at(family, 7_000), UPLINK.at(family, port));
            }
            world.fence(family);
            let answers = briefs(&world.s1.arrived(Packet::is_error));
            assert!(answers.is_empty(), "nothing should be said: {answers:?}");
        }
    });

    row.pass("three ports, no answer");
}
