//! One endpoint opens as many connections as it can; another does not notice.
//!
//! ```text
//! c1 ── a flood of SYNs ──► 198.51.101.0/24 behind s1: nobody, or an accomplice that answers
//! c2 ── 1,000 flows, one numbered question and answer each in turn ──► s2
//!    ── new connections, to a server that answers after 80 ms ──► s2
//! ```
//!
//! `CILIATE_FLOOD` is the number of SYNs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::frame::{ACK, Frame, PSH, SYN, Transport};
use tests::lab::gateway::Options;
use tests::lab::mouth::Mouth;
use tests::lab::offload::Offload;
use tests::lab::site::{C1, C2, S1, S2};
use tests::lab::station::Station;
use tests::lab::uninterrupted;
use tests::lab::world::World;
use tests::party::Family;
use tests::segment::Segment;

use crate::number;

/// SYNs of a short run.
const SYNS: u32 = 50_000;

/// Flows of the other endpoint, and how many of them are asked between two new connections.
const FLOWS: usize = 1_000;
const TURN: usize = 100;

/// Where the far party answers, and how long a packet to it and back is on its way.
const ECHO_PORT: u16 = 7;
const PATH: Duration = Duration::from_millis(80);

/// Where the flood goes.
const VICTIMS: &str = "198.51.101.0/24";

/// Lets the kernel of a station receive datagrams, and answer to nothing else.
const LISTEN: &str = "nft insert rule inet mute input meta l4proto udp accept";

#[test]
fn flood_that_nobody_answers_disturbs_nobody() {
    withstand("symmetric", false);
}

#[test]
fn flood_that_an_accomplice_answers_disturbs_nobody() {
    withstand("symmetric", true);
}

#[test]
fn flood_through_shared_ports_disturbs_nobody() {
    withstand("endpoint-independent", false);
}

#[test]
fn flood_through_shared_ports_that_an_accomplice_answers_disturbs_nobody() {
    withstand("endpoint-independent", true);
}

fn withstand(mapping: &'static str, is_answered: bool) {
    let options = Options {
        mapping,
        max_ports: None,
        ..Options::default()
    };
    let world = World::new(&options, Offload::Off);
    let gateway = S1.ip(Family::V4);
    world
        .x
        .place
        .run(&format!("ip route add {VICTIMS} via {gateway}"));
    if is_answered {
        conspire(&world.s1);
    }
    let server = listen(&world);
    let flows = flows(&world);
    let is_over = AtomicBool::new(false);
    let flood = Flood::new(&world);

    thread::scope(|scope| {
        scope.spawn(|| answer(&server, &is_over));
        let sender = scope.spawn(|| flood.send());
        let (mut rounds, mut opened) = (0_u32, 0_u16);
        while !sender.is_finished() || rounds < 2 {
            for (index, flow) in flows.iter().enumerate() {
                ask(flow, rounds, index);
                if index % TURN == 0 {
                    open(&world, opened);
                    opened += 1;
                }
            }
            rounds += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        let taken = sender.join().expect("the flood was sent");
        eprintln!(
            "{mapping}, answered: {is_answered}: {} SYNs in {taken:.1?}, meanwhile {rounds} rounds of {FLOWS} flows, {opened} connections; drops {:?}",
            flood.count,
            world.drops()
        );
    });
}

/// Makes the kernel of a station answer every SYN to the addresses of the flood.
fn conspire(station: &Station) {
    World::speak(station);
    station
        .place
        .run(&format!("ip route add local {VICTIMS} dev lo"));
    station.place.set_sysctl("net/ipv4/tcp_syncookies", "2");
    let listener = station
        .place
        .inside(|| std::net::TcpListener::bind("0.0.0.0:80").expect("listen"));
    // It is to listen as long as the station is there.
    std::mem::forget(listener);
}

fn listen(world: &World) -> UdpSocket {
    for station in [&world.c2, &world.s2] {
        station.place.run(LISTEN);
    }
    let address = S2.at(Family::V4, ECHO_PORT);
    let socket = world.s2.place.inside(|| UdpSocket::bind(address));
    let socket = socket.expect("open the server's socket");
    let timeout = Some(Duration::from_millis(100));
    socket.set_read_timeout(timeout).expect("set a timeout");
    socket
}

/// Answers every datagram with itself.
fn answer(server: &UdpSocket, is_over: &AtomicBool) {
    let mut buffer = [0; 64];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..len], from).expect("answer");
        }
    }
}

/// Opens the flows of the other endpoint.
fn flows(world: &World) -> Vec<UdpSocket> {
    let far = S2.at(Family::V4, ECHO_PORT);
    world.c2.place.inside(|| {
        let open = |_| {
            let socket = UdpSocket::bind(C2.at(Family::V4, 0)).expect("open a socket");
            socket.connect(far).expect("connect a socket");
            let timeout = Some(Duration::from_secs(3));
            socket.set_read_timeout(timeout).expect("set a timeout");
            socket
        };
        (0..FLOWS).map(open).collect()
    })
}

/// Sends a numbered question, which must be answered.
fn ask(flow: &UdpSocket, round: u32, index: usize) {
    let question = format!("{round} {index}");
    flow.send(question.as_bytes()).expect("ask");
    let mut buffer = [0; 64];
    let len = uninterrupted(|| flow.recv(&mut buffer));
    let len = len.unwrap_or_else(|error| panic!("flow {index} in round {round}: {error}"));
    assert_eq!(&buffer[..len], question.as_bytes(), "of flow {index}");
}

/// Opens a connection to a server that is far away, and sends data both ways.
fn open(world: &World, number: u16) {
    let (inside, far) = (C2.at(Family::V4, 10_000 + number), S2.at(Family::V4, 80));
    let [client, server] = [world.next_sequence(), world.next_sequence()];
    let outside = cross(world, (inside, far), &Segment::new(client, 0, SYN)).0;
    thread::sleep(PATH);
    let synack = Segment::new(server, client.wrapping_add(1), SYN | ACK);
    assert_eq!(cross(world, (far, outside), &synack).1, inside);
    let [client, server] = [client, server].map(|number| number.wrapping_add(1));
    let question = Segment::new(client, server, ACK | PSH).payload(b"question");
    assert_eq!(cross(world, (inside, far), &question).0, outside);
    thread::sleep(PATH);
    let answer = Segment::new(server, client.wrapping_add(8), ACK | PSH).payload(b"answer");
    assert_eq!(cross(world, (far, outside), &answer).1, inside);
}

/// Sends a segment; returns its ends as the other side sees them.
fn cross(
    world: &World,
    (from, to): (SocketAddr, SocketAddr),
    segment: &Segment,
) -> (SocketAddr, SocketAddr) {
    let token = world.tcp(from, to, segment);
    let is_out = to.ip() == S2.ip(Family::V4);
    let receiver = if is_out { &world.s2 } else { &world.c2 };
    let seen = receiver.catch_token(token);
    (seen.from(), seen.to())
}

/// Is a flood.
struct Flood {
    mouth: Mouth,
    frame: Frame,
    count: u32,
}

impl Flood {
    fn new(world: &World) -> Self {
        let count = number("CILIATE_FLOOD", SYNS);
        let transport = Transport::tcp(1, 80, SYN);
        Self {
            mouth: Mouth::open(&world.c1.place, world.c1.link),
            frame: world
                .c1
                .frame(C1.ip(Family::V4), S1.ip(Family::V4), transport),
            count,
        }
    }

    /// Sends SYNs, each from and to another port and address; returns how long that took.
    fn send(&self) -> Duration {
        let start = Instant::now();
        for number in 0..self.count {
            let [high, low] = [number >> 8, number & 0xff].map(|part| part & 0xffff);
            let port = u16::try_from(high)
                .expect("sixteen bits")
                .wrapping_add(20_000);
            let last = u8::try_from(low).expect("eight bits");
            let mut frame = self.frame.clone().to([198, 51, 101, last].into());
            frame.transport = Transport::tcp(port, 80, SYN);
            self.mouth.send_as_is(&frame.bytes());
        }
        start.elapsed()
    }
}
