//! What segments do to a connection, and time.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::frame::{ACK, FIN, PSH, RST, SYN};
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, S1};
use tests::lab::sleep_until;
use tests::lab::world::World;
use tests::party::Family;

use crate::talk::{
    Speaker::{Client, Server},
    Talk,
};

const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// Timers of the row that waits for them, in seconds: of 124 minutes and 4 minutes.
const ESTABLISHED: Duration = Duration::from_secs(6);
const TRANSITORY: Duration = Duration::from_secs(2);
/// Before the longer timer ends, by what a test may be late.
const JUST_BEFORE: Duration = Duration::from_millis(4_800);
/// What a gateway may take longer to forget.
const GRACE: Duration = Duration::from_millis(1_500);

#[test]
fn every_sequence_of_segments_that_is_valid_passes() {
    let row = Row::new(
        "T2",
        "RFC 5382 REQ-2 (MUST): all valid sequences, also simultaneous open",
        "simultaneous open, half-close from both sides, retransmission, RST; options and ECN untouched",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let from = |port| C1.at(family, port);
            let far = S1.at(family, 80);
            open_simultaneously(world, from(5_000), far);
            for (port, first) in [(5_001, Client), (5_002, Server)] {
                let mut talk = Talk::established(world, from(port), far);
                let second = if first == Client { Server } else { Client };
                talk.say(first, FIN | ACK, b"");
                for _ in 0..3 {
                    talk.say(second, ACK | PSH, b"still to be said");
                    talk.say(first, ACK, b"");
                }
                talk.say(second, FIN | ACK, b"");
                talk.say(first, ACK, b"");
            }
            for (port, who) in [(5_003, Client), (5_004, Server)] {
                let mut talk = Talk::established(world, from(port), far);
                let again = talk.segment(who, ACK | PSH).payload(b"again and again");
                for _ in 0..3 {
                    talk.expect(who, &again);
                }
                talk.say(who, ACK | PSH, b"again and again");
                talk.say(who, RST | ACK, b"");
            }
            negotiate(world, from(5_005), far);
        }
    });

    row.pass("all of them pass, and every byte but ports and checksum arrives as sent");
}

/// Both sides send a SYN before they see the other's (RFC 9293 §3.5).
fn open_simultaneously(world: &World, inside: SocketAddr, far: SocketAddr) {
    let mut talk = Talk::begin(world, inside, far);
    let [mine, theirs] = [Client, Server].map(|who| talk.segment(who, SYN | ACK));
    talk.say(Server, SYN, b"");
    for (who, segment, other) in [(Client, &mine, &theirs), (Server, &theirs, &mine)] {
        let mut segment = segment.clone();
        if who == Client {
            segment.sequence = segment.sequence.wrapping_sub(1);
            segment.acknowledgement = other.sequence.wrapping_add(1);
        } else {
            segment.acknowledgement = other.sequence;
        }
        talk.expect(who, &segment);
    }
    talk.exchange();
}

/// Asks for explicit congestion notification, window scaling, SACK and timestamps.
fn negotiate(world: &World, inside: SocketAddr, far: SocketAddr) {
    let mut talk = Talk::begin(world, inside, far);
    talk.expect(Client, &talk.segment(Client, SYN | ECE | CWR));
    talk.say(Server, SYN | ACK | ECE, b"");
    talk.say(Client, ACK, b"");
    let mut segment = talk.segment(Client, ACK | PSH | CWR).payload(b"options");
    segment.options = vec![
        1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0, 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9,
    ];
    talk.expect(Client, &segment);
}

#[test]
fn idle_connections_live_as_long_as_their_timers_say() {
    let row = Row::new(
        "T5",
        "RFC 5382 REQ-5 (MUST): established ≥ 124 minutes, transitory ≥ 4 minutes",
        "less is refused; (timers of 6 s and 2 s) each lives as long, and a FIN moves a connection to the shorter one",
    );

    row.check(&timers(), |world| {
        expect_ends(&Family::BOTH.map(|family| Idle::new(world, family)));
    });
    row.check(&Options::default(), |world| {
        for (timers, code) in [
            ("tcp_established = \"123m\"", 78),
            ("tcp_transitory = \"239s\"", 78),
            ("tcp_established = \"124m\"\ntcp_transitory = \"4m\"", 0),
        ] {
            let text = format!(
                "{}\n[masquerade.timeouts]\n{timers}\n",
                Options::default().file()
            );
            let file = world.machine.write("timers.toml", &text);
            world.agent(&format!("check {}", file.display()), code);
        }
    });

    row.pass("123m and 239s refused; idle connections pass at 4.8 s, not at 7.5 s; closed ones at 1.2 s, not at 3.5 s, nor half-open ones");
}

/// Is connections in all states, on which nothing is said any more.
struct Idle<'a> {
    kept: Talk<'a>,
    lost: Talk<'a>,
    closing: Talk<'a>,
    closed: Talk<'a>,
    begun: Talk<'a>,
}

impl<'a> Idle<'a> {
    fn new(world: &'a World, family: Family) -> Self {
        let far = S1.at(family, 80);
        let open = |port| Talk::established(world, C1.at(family, port), far);
        let close = |port| {
            let mut talk = open(port);
            talk.say(Client, FIN | ACK, b"");
            talk.say(Server, FIN | ACK, b"");
            talk.say(Client, ACK, b"");
            talk
        };
        Self {
            kept: open(5_001),
            lost: open(5_002),
            closing: close(5_003),
            closed: close(5_004),
            begun: Talk::begin(world, C1.at(family, 5_005), far),
        }
    }
}

/// Waits for each timer: what is said just before its end passes, and nothing behind it.
fn expect_ends(all: &[Idle<'_>]) {
    let opened = Instant::now();
    thread::sleep(Duration::from_millis(1_200));
    for idle in all {
        assert!(
            idle.closing.reaches(Server, ACK),
            "1.2 s after the last FIN"
        );
    }
    sleep_until(opened + TRANSITORY + GRACE);
    for idle in all {
        assert!(
            !idle.closed.reaches(Server, ACK),
            "3.5 s after the last FIN"
        );
        assert!(
            !idle.begun.reaches(Server, SYN | ACK),
            "3.5 s after the SYN"
        );
    }
    sleep_until(opened + JUST_BEFORE);
    for idle in all {
        assert!(
            idle.kept.reaches(Server, ACK | PSH),
            "4.8 s after the last data"
        );
    }
    sleep_until(opened + ESTABLISHED + GRACE);
    for idle in all {
        assert!(
            !idle.lost.reaches(Server, ACK | PSH),
            "7.5 s after the last data"
        );
    }
}

fn timers() -> Options {
    Options::default()
        .timeout("tcp_established", 6)
        .timeout("tcp_transitory", 2)
}

#[test]
fn connections_outlive_the_gateways_restart_and_the_loss_of_its_tables() {
    let row = Row::new(
        "T12",
        "RFC 7857 §2, issue 3: connections without a SYN",
        "goes on across a restart; after the loss of all state it goes on too, or fails at once",
    );

    let goes_on = row.check(&Options::default(), |world| {
        Family::BOTH.map(|family| {
            let mut talk = Talk::established(world, C1.at(family, 50_001), S1.at(family, 80));
            world.change(&Options::default());
            talk.exchange();
            world.lose_flows();
            let segment = talk.segment(Client, ACK | PSH).payload(b"anybody there?");
            let token = world.tcp(talk.inside, talk.far, &segment);
            let passed = world.has_arrived(token, talk.far);
            if !passed {
                let refused = world.c1.arrived(|packet| {
                    packet.is_error() || packet.protocol == 6 && packet.tcp_flags() & RST != 0
                });
                assert!(!refused.is_empty(), "it should not fail silently");
            }
            passed
        })
    });

    row.pass(if goes_on == [true, true] {
        "goes on after both"
    } else {
        "goes on after a restart; refused at once after the loss"
    });
}
