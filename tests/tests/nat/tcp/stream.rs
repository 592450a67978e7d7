//! What a connection carries.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use tests::frame::SYN;
use tests::lab::PATIENCE;
use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, S1, UPLINK};
use tests::lab::station::Station;
use tests::lab::world::World;
use tests::party::Family;

use crate::talk::Talk;

/// What a transfer consists of, in bytes.
const TRANSFER_LEN: usize = 4 << 20;

#[test]
fn streams_are_left_alone() {
    let row = Row::new(
        "T6",
        "RFC 5382 REQ-6: no application layer gateways",
        "inside addresses in FTP and SIP arrive unchanged",
    );

    row.check(&Options::default(), |world| {
        World::speak(&world.c1);
        World::speak(&world.s1);
        for (port, text) in [
            (21, "PORT 10,9,0,11,19,137\r\nEPRT |2|fd00:9::11|5001|\r\n"),
            (
                5_060,
                "INVITE sip:s1 SIP/2.0\r\nContact: <sip:c1@10.9.0.11:5060>\r\n",
            ),
        ] {
            for family in Family::BOTH {
                let far = S1.at(family, port);
                let (data, from) = transfer((&world.c1, far), (&world.s1, far), text.as_bytes());
                assert_eq!(data, text.as_bytes(), "unchanged");
                assert_eq!(from.ip(), UPLINK.ip(family), "from outside");
            }
        }
    });

    row.pass("unchanged");
}

#[test]
fn endpoints_connect_at_their_outside_tuples() {
    let row = Row::new(
        "T8",
        "RFC 5382 REQ-8 (MUST): hairpinning",
        "c2 connects to the outside tuple of c1, which sees c2's outside address; a transfer is whole",
    );

    row.check(&Options::default().open(), |world| {
        World::speak(&world.c1);
        World::speak(&world.c2);
        for family in Family::BOTH {
            // The server is silent, so that the endpoint's own stack may listen on the port.
            let inside = C1.at(family, 5_000);
            let outside = Talk::begin(world, inside, S1.at(family, 80)).outside;
            let sent = pattern(TRANSFER_LEN);
            let (data, from) = transfer((&world.c2, outside), (&world.c1, inside), &sent);
            assert!(data == sent, "the transfer should be whole");
            assert_eq!(from.ip(), UPLINK.ip(family), "the source is outside");
        }
    });

    row.pass("4 MiB whole, from the outside address, in both families");
}

#[test]
fn long_transfers_pass_with_and_without_segmentation_by_the_link() {
    let row = Row::new(
        "T2b",
        "issue 3: checksum offload and GSO",
        "transfers of 4 MiB both ways are whole; every captured segment has a right checksum",
    );

    row.check(&Options::default(), |world| {
        World::speak(&world.c1);
        World::speak(&world.s1);
        for family in Family::BOTH {
            let far = S1.at(family, 80);
            let sent = pattern(TRANSFER_LEN);
            let (data, _) = transfer((&world.c1, far), (&world.s1, far), &sent);
            assert!(data == sent, "outward");
            let far = S1.at(family, 81);
            let data = download((&world.c1, far), (&world.s1, far), sent.clone());
            assert!(data == sent, "inward");
        }
    });

    row.pass("whole, both ways, both families");
}

#[test]
fn maximum_segment_size_is_left_alone() {
    let row = Row::new(
        "T11",
        "RFC 6691, issue 3 (MAY): clamping of the maximum segment size",
        "off by default: the option arrives as sent",
    );

    row.check(&Options::default(), |world| {
        world.set_uplink_mtu(1_400);
        for family in Family::BOTH {
            let mut talk = Talk::begin(world, C1.at(family, 5_000), S1.at(family, 80));
            let seen = talk.say(crate::talk::Speaker::Server, SYN | 0x10, b"");
            assert_eq!(seen.body[20..24], [2, 4, 5, 0xb4], "1460 as sent");
        }
    });

    row.declare(
        "1460 arrives as 1460, both ways, through an uplink of 1400",
        "path MTU discovery works in both families (U13), so that nothing needs clamping; there is no option for it",
    );
}

/// Connects, sends, closes; returns what arrived and from whom.
fn transfer(
    (client, target): (&Station, SocketAddr),
    (server, listen): (&Station, SocketAddr),
    bytes: &[u8],
) -> (Vec<u8>, SocketAddr) {
    let (mut sender, (mut receiver, from)) = connect((client, target), (server, listen));
    let data = thread::scope(|scope| {
        scope.spawn(move || {
            sender.write_all(bytes).expect("send");
            sender.shutdown(Shutdown::Write).expect("end the transfer");
            // The other side closes when it has read all.
            sender.read_to_end(&mut Vec::new()).expect("wait");
        });
        let mut data = Vec::new();
        receiver.read_to_end(&mut data).expect("receive");
        drop(receiver);
        data
    });
    (data, from)
}

/// Connects, and returns what the server sends.
fn download(
    (client, target): (&Station, SocketAddr),
    (server, listen): (&Station, SocketAddr),
    bytes: Vec<u8>,
) -> Vec<u8> {
    let (mut receiver, (mut sender, _)) = connect((client, target), (server, listen));
    let sending = thread::spawn(move || sender.write_all(&bytes));
    let mut data = Vec::new();
    receiver.read_to_end(&mut data).expect("receive");
    sending.join().expect("the sender ends").expect("send");
    data
}

fn connect(
    (client, target): (&Station, SocketAddr),
    (server, listen): (&Station, SocketAddr),
) -> (TcpStream, (TcpStream, SocketAddr)) {
    let listener = server
        .place
        .inside(|| TcpListener::bind(listen))
        .expect("listen");
    let near = client
        .place
        .inside(|| TcpStream::connect_timeout(&target, PATIENCE))
        .expect("connect");
    let (far, from) = listener.accept().expect("accept");
    for stream in [&near, &far] {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("set a timeout");
    }
    (near, (far, from))
}

/// Returns bytes that repeat only after a prime number of them.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index % 65_521).to_be_bytes()[6] ^ (index % 251).to_be_bytes()[7])
        .collect()
}
