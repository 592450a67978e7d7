//! Echo requests and their replies.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tests::frame::Transport;
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, C2, S1, S1_TOO, S2, UPLINK};
use tests::lab::sleep_until;
use tests::lab::station::is_inside;
use tests::lab::world::World;
use tests::party::Family;

/// The timer of the row that waits for it: 60 seconds, shortened.
const TIMER: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_millis(1_500);
/// Before the timer ends, by what a test may be late.
const JUST_BEFORE: Duration = Duration::from_millis(2_300);

#[test]
fn echo_identifiers_are_mapped_independently_of_the_destination() {
    let row = Row::new(
        "I1",
        "RFC 5508 REQ-1, REQ-1a (MUST): queries pass, with endpoint-independent mapping",
        "one outside identifier per inside identifier; two endpoints with the same one both get their replies",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let far = [S1, S1_TOO, S2].map(|site| site.ip(family));
            let mut all = Vec::new();
            for site in [C1, C2] {
                let ids: BTreeSet<u16> = far
                    .map(|far| ask(world, site.ip(family), far, 77))
                    .into_iter()
                    .collect();
                assert_eq!(ids.len(), 1, "one identifier: {ids:?}");
                all.extend(ids);
            }
            assert_ne!(all[0], all[1], "two endpoints, two identifiers");
            for (site, id) in [C1, C2].into_iter().zip(all) {
                for far in far {
                    assert!(answer(world, far, (family, id), site.ip(family), 77));
                }
            }
        }
    });

    row.pass(
        "one identifier towards three servers; replies reach the endpoint that asked, with its own",
    );
}

/// Sends an echo request; returns the identifier that the server sees.
fn ask(world: &World, from: IpAddr, to: IpAddr, id: u16) -> u16 {
    let token = world.echo(from, to, id, false);
    let seen = world.station(to).catch_token(token);
    assert_eq!(seen.destination, to);
    seen.from().port()
}

/// Sends an echo reply; tells whether it reaches the endpoint, with its identifier.
fn answer(world: &World, from: IpAddr, (family, id): (Family, u16), to: IpAddr, own: u16) -> bool {
    let token = world.echo(from, UPLINK.ip(family), id, true);
    world.fence(family);
    let seen = world
        .station(to)
        .arrived(|packet| packet.token() == Some(token));
    seen.iter()
        .any(|packet| packet.to().port() == own && packet.source == from)
}

#[test]
fn query_session_lives_as_long_as_its_timer_says() {
    let row = Row::new(
        "I2",
        "RFC 5508 REQ-2 (MUST): not forgotten within 60 s, configurable",
        "less than 60s is refused; (timer of 3 s) a reply passes just before it and not after it",
    );

    row.check(&Options::default().timeout("icmp", 3), |world| {
        let asked = Family::BOTH.map(|family| {
            let ids = [1, 2].map(|id| ask(world, C1.ip(family), S1.ip(family), id));
            (family, ids)
        });
        let last = Instant::now();
        sleep_until(last + JUST_BEFORE);
        for (family, [id, _]) in asked {
            let (from, to) = (S1.ip(family), C1.ip(family));
            assert!(answer(world, from, (family, id), to, 1), "before the timer");
        }
        sleep_until(last + TIMER + GRACE);
        for (family, [_, id]) in asked {
            let (from, to) = (S1.ip(family), C1.ip(family));
            assert!(!answer(world, from, (family, id), to, 2), "after the timer");
        }
    });
    row.check(&Options::default(), |world| {
        for (timer, code) in [("59s", 78), ("60s", 0)] {
            let file = Options::default().file();
            let text = format!("{file}\n[masquerade.timeouts]\nicmp = {timer:?}\n");
            let file = world.machine.write("timer.toml", &text);
            world.agent(&format!("check {}", file.display()), code);
        }
    });

    row.pass("59s refused, 60s accepted; passes 0.7 s before a timer of 3 s, not 1.5 s after it");
}

#[test]
fn other_messages_never_leave_with_an_inside_source() {
    let row = Row::new(
        "I11",
        "RFC 5508 REQ-11 (MAY): other messages of ICMP are dropped or passed",
        "timestamp, address mask, router solicitation, photuris: dropped and counted, or translated",
    );

    let passed = row.check(&Options::default(), |world| {
        Family::BOTH.map(|family| {
            let kinds: &[u8] = match family {
                Family::V4 => &[9, 10, 13, 15, 17, 40],
                Family::V6 => &[130, 138, 139, 144, 200],
            };
            let mut passed = 0;
            for kind in kinds {
                let transport = Transport::icmp(family, *kind, 0, &[0x11; 16]);
                let frame = world.frame(C1.ip(family), S1.ip(family), transport);
                world.c1.send(&frame);
                world.fence(family);
                let seen = world
                    .uplink
                    .arrived(|packet| packet.icmp() == Some((*kind, 0)));
                assert!(seen.iter().all(|packet| !is_inside(packet.source)));
                passed += seen.len();
            }
            passed
        })
    });

    row.pass(&format!(
        "{} of 6 kinds of ICMP and {} of 5 of ICMPv6 pass, translated; the others are dropped",
        passed[0], passed[1]
    ));
}
