//! Which outside tuple a connection has, and who may use it.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use tests::frame::{RST, SYN, TCP};
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{ATTACKER, C1, C2, S1, S1_TOO, S2, UPLINK};
use tests::lab::sleep_until;
use tests::lab::world::World;
use tests::packet::{Packet, briefs};
use tests::party::Family;
use tests::segment::Segment;

use crate::talk::{Speaker, Talk};

/// How long an unsolicited SYN must meet silence (RFC 5382 REQ-4).
const SILENCE: Duration = Duration::from_secs(6);

#[test]
fn connections_of_one_source_share_its_outside_tuple() {
    let row = Row::new(
        "T1",
        "RFC 5382 REQ-1 (MUST): endpoint-independent mapping",
        "one outside tuple for connections of one source to several destinations",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let inside = C1.at(family, 5_000);
            let mut seen = BTreeSet::new();
            for site in [S1, S1_TOO, S2] {
                for port in [80, 443] {
                    seen.insert(Talk::established(world, inside, site.at(family, port)).outside);
                }
            }
            assert_eq!(seen.len(), 1, "one tuple should be seen: {seen:?}");
        }
    });

    row.pass("one tuple for six connections, data both ways on each");
}

#[test]
fn strangers_cannot_connect_unless_asked_otherwise() {
    let row = Row::new(
        "T3",
        "RFC 5382 REQ-3 (REC): filtering, endpoint-independent or address-dependent",
        "a SYN of a stranger is dropped by default, passes with `filtering = \"endpoint-independent\"`",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let talk = Talk::established(world, C1.at(family, 5_000), S1.at(family, 80));
            for (from, passes) in [(S2.at(family, 80), false), (S1.at(family, 81), true)] {
                let syn = Segment::new(world.next_sequence(), 0, SYN);
                let token = world.tcp(from, talk.outside, &syn);
                assert_eq!(world.has_arrived(token, talk.inside), passes, "from {from}");
            }
        }
    });
    row.check(&Options::default().open(), |world| {
        for family in Family::BOTH {
            let talk = Talk::established(world, C1.at(family, 5_000), S1.at(family, 80));
            let syn = Segment::new(world.next_sequence(), 0, SYN);
            let token = world.tcp(S2.at(family, 80), talk.outside, &syn);
            assert!(world.has_arrived(token, talk.inside), "from anybody");
        }
    });

    row.pass("dropped from a stranger, passes from a known address and with open filtering");
}

#[test]
fn unsolicited_syn_meets_silence() {
    let row = Row::new(
        "T4",
        "RFC 5382 REQ-4 (MUST): no answer to an unsolicited SYN for 6 s",
        "no RST and no error within 6.5 s; a connection that opens meanwhile opens simultaneously",
    );

    row.check(&Options::default(), |world| {
        let start = Instant::now();
        for family in Family::BOTH {
            for from in [ATTACKER, S1] {
                for port in [50_555, 55_555] {
                    let syn = Segment::new(world.next_sequence(), 0, SYN);
                    world.tcp(from.at(family, 80), UPLINK.at(family, port), &syn);
                }
            }
        }
        thread::sleep(SILENCE / 2);
        for family in Family::BOTH {
            // The port is in the range and free, and so it is preserved.
            let mut talk = Talk::begin(world, C1.at(family, 50_555), S1.at(family, 80));
            assert_eq!(talk.outside, UPLINK.at(family, 50_555));
            talk.say(Speaker::Server, SYN, b"");
        }
        sleep_until(start + SILENCE + Duration::from_millis(500));
        for station in [&world.atk, &world.s1] {
            let answers = briefs(&station.arrived(is_refusal));
            assert!(answers.is_empty(), "{}: {answers:?}", station.name);
        }
    });

    row.pass(
        "silence for 6.5 s, also on a port that an endpoint takes after 3 s; its connection opens",
    );
}

fn is_refusal(packet: &Packet) -> bool {
    packet.is_error() || packet.protocol == TCP && packet.tcp_flags() & RST != 0
}

#[test]
fn two_endpoints_never_share_an_outside_tuple_of_tcp() {
    let row = Row::new(
        "T7",
        "RFC 5382 REQ-7 (MUST): no port overloading",
        "distinct ports for equal sources; in a range of 64 the 65th connection is dropped",
    );

    row.check(&Options::default().ports(61_000, 61_063), |world| {
        for family in Family::BOTH {
            let far = S1.at(family, 80);
            let [one, other] =
                [C1, C2].map(|site| Talk::established(world, site.at(family, 5_000), far).outside);
            assert_ne!(one, other, "one tuple each");
            let ports: BTreeSet<u16> = (0..62)
                .map(|index| world_port(world, family, 20_000 + index))
                .chain([one.port(), other.port()])
                .collect();
            assert_eq!(ports.len(), 64, "a port each");
            let syn = Segment::new(world.next_sequence(), 0, SYN);
            let token = world.tcp(C1.at(family, 30_000), far, &syn);
            world.expect_none("the 65th connection", token, family);
        }
    });

    row.pass("64 connections with 64 ports; no packet of the 65th leaves");
}

fn world_port(world: &World, family: Family, port: u16) -> u16 {
    let talk = Talk::begin(world, C1.at(family, port), S1.at(family, 80));
    talk.outside.port()
}
