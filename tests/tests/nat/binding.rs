//! RFC 7857, RFC 6888, RFC 6864: bindings, their ports, their owners.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::frame::{ACK, PSH, RST, SYN, Transport};
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::namespace::Namespace;
use tests::lab::offload::Offload;
use tests::lab::site::{ATTACKER, C1, C2, S1};
use tests::lab::sleep_until;
use tests::lab::station::{Side, Station};
use tests::lab::world::World;
use tests::packet::Packet;
use tests::party::Family;
use tests::segment::Segment;

use crate::forge;
use crate::piece;
use crate::talk::{
    Speaker::{Client, Server},
    Talk,
};

/// Timers of the rows that wait for them: of 4 minutes and 124.
const TRANSITORY: Duration = Duration::from_secs(3);
const ESTABLISHED_SECS: u32 = 30;
const GRACE: Duration = Duration::from_millis(1_500);

/// Ports of which the randomness is judged.
const RANDOM_PORTS: u16 = 4_096;
const BINS: usize = 16;
/// χ² of 15 degrees of freedom that is exceeded once in a million times.
const MOST_CHI_SQUARE: f64 = 56.5;

fn timers() -> Options {
    Options::default()
        .timeout("tcp_transitory", 3)
        .timeout("tcp_established", ESTABLISHED_SECS)
}

#[test]
fn reset_leaves_a_connection_its_last_minutes() {
    let row = Row::new(
        "N1",
        "RFC 7857 §2.1 (MUST): a RST moves a connection to the transitory timer",
        "(timer of 3 s) late data passes 1.5 s after a RST, not after 4.5 s; a RST out of the window, or a blind one, changes nothing",
    );

    row.check(&timers(), |world| {
        let all = Family::BOTH.map(|family| {
            let far = S1.at(family, 80);
            let [late, lost] = [5_001, 5_002].map(|port| {
                let mut talk = Talk::established(world, C1.at(family, port), far);
                talk.say(Client, RST | ACK, b"");
                talk
            });
            let blind = Talk::established(world, C1.at(family, 5_003), far);
            harass(world, &blind);
            (late, lost, blind)
        });
        let reset = Instant::now();
        thread::sleep(TRANSITORY / 2);
        for (late, ..) in &all {
            assert!(late.reaches(Server, ACK | PSH), "1.5 s after the RST");
        }
        sleep_until(reset + TRANSITORY + GRACE);
        for (_, lost, blind) in &all {
            assert!(!lost.reaches(Server, ACK | PSH), "4.5 s after the RST");
            assert!(blind.reaches(Server, ACK | PSH), "a stranger's RST");
        }
    });

    row.pass("as expected, in both families; SYN and RST of a stranger with the server's address shorten nothing");
}

/// Sends SYN and RST in the server's name, with any sequence numbers.
fn harass(world: &World, talk: &Talk) {
    for flags in [SYN, RST, RST | ACK] {
        let segment = Segment::new(world.next_sequence(), world.next_sequence(), flags);
        let transport = segment.transport(talk.far.port(), talk.outside.port());
        let family = tests::lab::site::family_of(talk.far.ip());
        let frame = world.frame(ATTACKER.ip(family), talk.outside.ip(), transport);
        world.atk.send(&frame.source(talk.far.ip()));
    }
}

#[test]
fn protocols_have_ports_of_their_own() {
    let row = Row::new(
        "N2",
        "RFC 7857 §4: mappings of each protocol are independent",
        "UDP and TCP from one port leave with that port, also when another endpoint has it for the other protocol",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let [udp, tcp] = [S1.at(family, 7_000), S1.at(family, 80)];
            for (one, other, port) in [(C1, C1, 50_010), (C1, C2, 50_020)] {
                let outside = world.out(one.at(family, port), udp);
                let talk = Talk::established(world, other.at(family, port), tcp);
                assert_eq!((outside.port(), talk.outside.port()), (port, port));
                world.back(udp, outside, one.at(family, port));
            }
        }
    });

    row.pass("50010 and 50020 preserved by both protocols, of one endpoint and of two");
}

#[test]
fn answers_of_an_endpoint_to_floods_keep_nothing_alive() {
    let row = Row::new(
        "N3",
        "RFC 7857 §6 (SHOULD): RST and errors of the inside do not refresh",
        "(timers of 3 s) a session whose endpoint answers a flood with RST, or errors, expires all the same",
    );

    row.check(&timers().timeout("udp", 3), |world| {
        let all = Family::BOTH.map(|family| {
            let mut talk = Talk::established(world, C1.at(family, 5_001), S1.at(family, 80));
            talk.say(Client, RST | ACK, b"");
            let outside = world.out(C1.at(family, 5_002), S1.at(family, 7_000));
            (family, talk, outside)
        });
        let start = Instant::now();
        while start.elapsed() < TRANSITORY + GRACE {
            for (family, talk, outside) in &all {
                refuse_connection(world, talk);
                refuse_datagram(world, *family, *outside);
            }
            thread::sleep(Duration::from_millis(300));
        }
        for (family, talk, outside) in &all {
            assert!(!talk.reaches(Server, SYN), "TCP of {family:?}");
            let (far, inside) = (S1.at(*family, 7_000), C1.at(*family, 5_002));
            assert!(!world.reaches(far, *outside, inside), "UDP of {family:?}");
        }
    });

    row.pass("both gone after 4.5 s of a flood with an answer to each packet");
}

/// Sends a SYN in; where it arrives the endpoint answers with RST.
fn refuse_connection(world: &World, talk: &Talk) {
    let syn = Segment::new(world.next_sequence(), 0, SYN);
    let token = world.tcp(talk.far, talk.outside, &syn);
    if world.has_arrived(token, talk.inside) {
        let reset = Segment::new(0, syn.sequence.wrapping_add(1), RST | ACK);
        world.tcp(talk.inside, talk.far, &reset);
    }
}

/// Sends a datagram in; where it arrives the endpoint answers with an error.
fn refuse_datagram(world: &World, family: Family, outside: SocketAddr) {
    let (far, inside) = (S1.at(family, 7_000), C1.at(family, 5_002));
    if !world.reaches(far, outside, inside) {
        return;
    }
    let (reply, _) = world.datagram(far, inside);
    let kind = if family == Family::V4 { (3, 3) } else { (1, 4) };
    let ends = (inside.ip(), far.ip());
    let error = forge::error_quoting(world, ends, kind, 0, &reply.quote());
    world.c1.send(&error);
}

#[test]
fn ports_are_chosen_at_random_where_asked() {
    let row = Row::new(
        "N4",
        "RFC 7857 §9 (MAY): port randomization",
        "with `port_selection = \"random\"` 4096 ports are spread evenly (χ² over 16 bins) and in no order",
    );

    let options = Options {
        selection: "random",
        ..Options::default()
    };
    row.check(&options, |world| {
        for family in Family::BOTH {
            let far = S1.at(family, 7_000);
            let ports: Vec<u16> = (0..RANDOM_PORTS)
                .map(|index| world.out(C1.at(family, 20_000 + index), far).port())
                .collect();
            let distinct: BTreeSet<&u16> = ports.iter().collect();
            assert_eq!(distinct.len(), ports.len(), "a port each");
            let seen = chi_square(&ports);
            assert!(seen < MOST_CHI_SQUARE, "χ² = {seen}");
            let rising = ports.windows(2).filter(|pair| pair[0] < pair[1]).count();
            assert!((1_800..2_300).contains(&rising), "{rising} of 4095 rise");
        }
    });

    row.pass("χ² below 56.5 (p = 10⁻⁶), half of the ports rise");
}

fn chi_square(ports: &[u16]) -> f64 {
    let mut bins = [0_u32; BINS];
    for port in ports {
        bins[usize::from(port - 49_152) * BINS / 16_384] += 1;
    }
    let expected = f64::from(RANDOM_PORTS) / 16.0;
    bins.iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum()
}

#[test]
fn fragments_of_two_datagrams_never_share_an_identification() {
    let row = Row::new(
        "N5",
        "RFC 6864 §5.3.1 (MUST), RFC 7857 §8: identifications of fragments",
        "fragments of two endpoints with the same identification, to one server, arrive as two whole datagrams; none is 0",
    );

    row.check(&Options::default(), |world| {
        let far = S1.at(Family::V4, 7_000);
        for id in 1..=20 {
            let sent = [C1, C2].map(|site| {
                let from = site.at(Family::V4, 5_000);
                let (frame, token) = world.long_datagram(from, far, 1_192);
                (piece::cut(&frame.id(id)), token)
            });
            for index in 0..3 {
                world.c1.send(&sent[0].0[index]);
                world.c2.send(&sent[1].0[index]);
            }
            world.fence(Family::V4);
            let pieces = world.s1.arrived(|packet| packet.destination == far.ip());
            expect_two(&pieces, [sent[0].1, sent[1].1]);
        }
    });

    row.pass("20 pairs of datagrams with equal identifications: 40 whole ones arrive, with distinct identifications");
}

/// Joins fragments by their identification alone, as a receiver does: two whole datagrams.
fn expect_two(pieces: &[Packet], tokens: [u32; 2]) {
    let mut found = BTreeSet::new();
    let ids: BTreeSet<u32> = pieces.iter().map(|piece| piece.id).collect();
    assert_eq!(ids.len(), 2, "two datagrams, two identifications");
    assert!(!ids.contains(&0), "an identification should be one");
    for id in ids {
        let own: Vec<Packet> = pieces
            .iter()
            .filter(|piece| piece.id == id)
            .cloned()
            .collect();
        let whole = piece::join(&own).expect("all of its fragments");
        assert!(whole.is_sound(), "of {}", whole.brief());
        found.extend(whole.token());
    }
    assert_eq!(found, BTreeSet::from(tokens), "each datagram once");
}

#[test]
fn one_endpoint_cannot_take_all_ports() {
    let row = Row::new(
        "N6",
        "RFC 6888 REQ-4 (MUST): a limit of ports per endpoint",
        "with `max_ports_per_endpoint = 64` an endpoint gets 64 ports, and another still connects",
    );

    let options = Options {
        max_ports: Some(64),
        ..Options::default().ports(61_000, 61_127)
    };
    let reasons = Family::BOTH.map(|family| {
        row.check(&options, |world| {
            let far = S1.at(family, 7_000);
            world.fence(family);
            for port in 20_000..20_500 {
                world.udp(C1.at(family, port), far);
            }
            world.fence(family);
            let seen = world.s1.arrived(|packet| packet.to() == far);
            let ports: BTreeSet<u16> = seen.iter().map(|packet| packet.from().port()).collect();
            assert_eq!(ports.len(), 64, "as many as the limit");
            Talk::established(world, C2.at(family, 5_000), S1.at(family, 80));
            world.expect_reason(1, || {
                let token = world.udp(C1.at(family, 30_000), far);
                world.expect_none("a flow beyond the limit", token, family);
            })
        })
    });

    row.pass(&format!(
        "64 of 500 flows leave, the others are counted under {:?}; the other endpoint connects",
        reasons[0]
    ));
}

#[test]
fn packets_never_reach_another_endpoint() {
    let row = Row::new(
        "N7",
        "RFC 6888 §3, issue 3: no misdelivery after a restart or the loss of state",
        "mappings outlive a restart; when two endpoints swap their addresses neither gets what was meant for the other",
    );

    row.check(&Options::default(), |world| {
        let sessions = Family::BOTH.map(|family| {
            let far = S1.at(family, 7_000);
            let insides = [C1.at(family, 5_001), C2.at(family, 5_002)];
            let outsides = insides.map(|inside| world.out(inside, far));
            world.change(&Options::default());
            for (inside, outside) in insides.into_iter().zip(outsides) {
                world.back(far, outside, inside);
                assert_eq!(world.out(inside, far), outside, "after a restart");
            }
            (family, far, outsides)
        });
        let swapped = Options {
            is_swapped: true,
            ..Options::default()
        };
        world.change(&swapped);
        let all = ["c1", "c2"].map(|name| reopen(world, name));
        for _ in 0..2 {
            for (family, far, outsides) in sessions {
                for outside in outsides {
                    world.udp(far, outside);
                }
                // What is sent behind arrives: so would have what was sent before.
                expect_answer(world, &all[0], C2.at(family, 6_000), far);
                expect_answer(world, &all[1], C1.at(family, 6_000), far);
            }
            expect_no_stranger(&all);
            // What is decided about a flow holds for a second.
            thread::sleep(Duration::from_millis(1_100));
        }
    });

    row.pass("kept across a restart; after the swap neither gets packets of the other's sessions, also a second later");
}

/// Fails if an endpoint got what was meant for the other's session.
fn expect_no_stranger(all: &[Station; 2]) {
    for (station, port) in all.iter().zip([5_002, 5_001]) {
        let seen = station.arrived(|packet| packet.to().port() == port);
        let seen = tests::packet::briefs(&seen);
        assert!(seen.is_empty(), "{}: {seen:?}", station.name);
    }
}

/// Opens the endpoint's link anew: it may have been replaced.
fn reopen(world: &World, name: &'static str) -> Station {
    let place = Namespace::named(name);
    let mut station = Station::open((name, "eth0"), place, Side::Inside, Offload::Off);
    station.gateway_mac = world.gw.mac(&format!("lxc{name}"));
    station
}

/// Sends a datagram from an endpoint, which must be answered.
fn expect_answer(world: &World, station: &Station, inside: SocketAddr, far: SocketAddr) {
    let token = world.next_token();
    let payload = token.to_be_bytes();
    let transport = Transport::datagram(inside.port(), far.port(), &payload);
    station.send(&station.frame(inside.ip(), far.ip(), transport));
    let outside = world.s1.catch_token(token).from();
    let token = world.udp(far, outside);
    assert_eq!(station.catch_token(token).to(), inside, "the answer");
}
