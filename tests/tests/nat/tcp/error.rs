//! What ICMP does to a connection.

use std::io;
use std::net::TcpStream;
use std::thread;

use nix::libc;
use tests::frame::TCP;
use tests::lab::PATIENCE;
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{ATTACKER, C1, S1, X};
use tests::lab::world::World;
use tests::party::Family;

use crate::forge;
use crate::talk::{
    Speaker::{Client, Server},
    Talk,
};

type Refusal = ((u8, u8), i32);

/// What each error makes of an attempt to connect (`icmp_err_convert`, `icmpv6_err_convert`).
const REFUSALS4: [Refusal; 7] = [
    ((3, 0), libc::ENETUNREACH),
    ((3, 1), libc::EHOSTUNREACH),
    ((3, 2), libc::ENOPROTOOPT),
    ((3, 3), libc::ECONNREFUSED),
    ((3, 9), libc::ENETUNREACH),
    ((3, 10), libc::EHOSTUNREACH),
    ((3, 13), libc::EHOSTUNREACH),
];
const REFUSALS6: [Refusal; 4] = [
    ((1, 0), libc::ENETUNREACH),
    ((1, 1), libc::EACCES),
    ((1, 3), libc::EHOSTUNREACH),
    ((1, 4), libc::ECONNREFUSED),
];

#[test]
fn refused_connections_fail_with_the_reason() {
    let row = Row::new(
        "T9",
        "RFC 5382 REQ-9 (SHOULD): ICMP destination unreachable is translated",
        "an attempt to connect fails with the error that the server or router reported",
    );

    row.check(&Options::default(), |world| {
        World::speak(&world.c1);
        for (family, refusals) in [
            (Family::V4, REFUSALS4.as_slice()),
            (Family::V6, REFUSALS6.as_slice()),
        ] {
            for (port, (kind, error)) in (1_000..).zip(refusals) {
                for from in [S1, X] {
                    let seen = refuse(world, family, port, *kind, from.ip(family));
                    assert_eq!(seen, Some(*error), "{kind:?} of {family:?}");
                }
            }
        }
    });

    row.pass("each of 7 codes of IPv4 and 4 of IPv6, from server and router: ENETUNREACH, EHOSTUNREACH, ECONNREFUSED, …");
}

/// Connects to a server, for which somebody refuses; returns the error of the attempt.
fn refuse(
    world: &World,
    family: Family,
    port: u16,
    kind: (u8, u8),
    by: std::net::IpAddr,
) -> Option<i32> {
    let far = S1.at(family, port);
    let place = &world.c1.place;
    thread::scope(|scope| {
        let attempt =
            scope.spawn(move || place.inside(|| TcpStream::connect_timeout(&far, PATIENCE)));
        let seen = world.s1.catch("the SYN", |packet| {
            packet.protocol == TCP && packet.to() == far
        });
        let frame = forge::error(world, by, kind, 0, &seen);
        world.station(by).send(&frame);
        let result: io::Result<TcpStream> = attempt.join().expect("the attempt ends");
        result.err().and_then(|error| error.raw_os_error())
    })
}

#[test]
fn errors_of_icmp_end_no_connection() {
    let row = Row::new(
        "T10",
        "RFC 5382 REQ-10 (MUST): ICMP ends no connection",
        "every type and code, from router, server and a stranger: the connection goes on",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let inside = C1.at(family, 5_000);
            let mut talk = Talk::established(world, inside, S1.at(family, 80));
            let seen = talk.say(Client, 0x18, b"quoted");
            for kind in forge::all(family) {
                for from in [X, S1, ATTACKER] {
                    let word = forge::word_of(family, kind);
                    let frame = forge::error(world, from.ip(family), kind, word, &seen);
                    world.station(from.ip(family)).send(&frame);
                }
            }
            assert!(talk.reaches(Server, 0x10), "the server is still heard");
            talk.exchange();
        }
    });

    row.pass(&format!("{}: data passes both ways", forge::counts()));
}
