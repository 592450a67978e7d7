//! Connections that seldom happen: half-closed for seconds, and opened by both ends at once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use tests::frame::{ACK, SYN, TCP};
use tests::lab::PATIENCE;
use tests::lab::namespace::Namespace;
use tests::lab::wide::{Target, Wide, everywhere};
use tests::lab::wire::{Seen, Wire};
use tests::packet::Packet;

/// What is said after the other side has closed: a word now and then, for longer than a flow is
/// used without being decided again.
const WORDS: usize = 9;
const PAUSE: Duration = Duration::from_millis(250);
const WORD: &[u8] = b"still here ";

/// The first of the ports of connections, which masquerade keeps as they are; each has its own.
const PORT: u16 = 50_000;
/// Loses what would make a connection, but for the frames themselves, which a test sees before.
const DEAF: &str = "table inet deaf {
 chain input {
  type filter hook input priority 0; policy accept
  tcp flags & syn == syn drop
 }
}
";

#[test]
fn server_goes_on_for_seconds_after_its_client_has_closed() {
    everywhere(|wide, what| {
        let talks: Vec<_> = wide
            .targets()
            .into_iter()
            .map(|target| {
                let client = wide.client().clone();
                (target.name, thread::spawn(move || half(&client, &target)))
            })
            .collect();

        for (name, talk) in talks {
            let heard = talk.join().expect("both ends are content");
            assert_eq!(heard, WORD.repeat(WORDS), "from {name}, {what}");
        }
    });
}

/// Closes the client's half of a connection, and returns what it hears from then on.
fn half(client: &Namespace, target: &Target) -> Vec<u8> {
    let listener = target
        .place
        .inside(|| TcpListener::bind((target.address, 0)))
        .expect("listen");
    let address = listener.local_addr().expect("bound");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut question = Vec::new();
        stream.read_to_end(&mut question).expect("hear the end");
        assert_eq!(question, b"question");
        for _ in 0..WORDS {
            thread::sleep(PAUSE);
            stream.write_all(WORD).expect("go on");
        }
    });
    let mut stream = client
        .inside(|| TcpStream::connect_timeout(&address, PATIENCE))
        .expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"question").expect("ask");
    stream.shutdown(Shutdown::Write).expect("close one half");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("hear");
    server.join().expect("the server ends");
    heard
}

#[test]
fn connection_that_both_ends_open_at_once_is_one() {
    everywhere(|wide, what| {
        for (port, target) in (PORT..).zip(wide.targets()) {
            meet(wide, &target, port, what);
        }
    });
}

/// Lets an endpoint and a target connect to each other, both with this port.
///
/// Each must hear the other's SYN after it has sent its own. The links are too fast for that, so
/// the target is deaf for a while, and what it has missed is said again.
fn meet(wide: &Wide, target: &Target, port: u16, what: &str) {
    let [own, seen, far] =
        [target.own, target.seen, target.address].map(|address| SocketAddr::new(address, port));
    let ear = Wire::open(&target.place, "eth0");
    let rules = wide.net.machine.write("deaf.nft", DEAF);
    target.place.run(&format!("nft -f {}", rules.display()));

    let one = opening(wide.client(), own, far);
    let syn = ear.receive("the first SYN", |frame| has_flags(frame, SYN));
    let other = opening(&target.place, far, seen);
    ear.receive("the answer to the second SYN", |frame| {
        has_flags(frame, SYN | ACK)
    });
    target.place.run("nft delete table inet deaf");
    repeat(wide, target, &syn);

    let mut ends = [one, other].map(|end| end.join().expect("connected"));
    for index in [0, 1] {
        let (from, to) = (index, 1 - index);
        ends[from].write_all(WORD).expect("speak");
        let mut heard = [0; WORD.len()];
        ends[to].read_exact(&mut heard).unwrap_or_else(|error| {
            panic!("{from} should be heard by {}, {what}: {error}", target.name)
        });
        assert_eq!(heard, WORD);
    }
}

/// Begins to connect with a port of one's own.
fn opening(place: &Namespace, from: SocketAddr, to: SocketAddr) -> JoinHandle<TcpStream> {
    let place = place.clone();
    thread::spawn(move || {
        let family = match from {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let socket = place
            .inside(|| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None))
            .expect("open a socket");
        let descriptor = socket.as_raw_fd();
        bind(descriptor, &SockaddrStorage::from(from)).expect("bind");
        connect(descriptor, &SockaddrStorage::from(to)).expect("connect");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    })
}

/// Sends a frame that came to a target once more.
fn repeat(wide: &Wide, target: &Target, frame: &Seen) {
    let packet = Packet::of(frame).expect("a whole packet").summed();
    let bytes = [&frame.bytes[..14], &packet.bytes()].concat();
    let (place, link) = match target.name {
        "world" => (&wide.net.router, "out"),
        _ => (&wide.net.nodes[1], "lxcapi"),
    };
    Wire::open(place, link).send(&bytes);
}

fn has_flags(frame: &Seen, flags: u8) -> bool {
    frame.carries(TCP) && frame.payload()[13] == flags
}
