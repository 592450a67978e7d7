//! Eight endpoints speak to many destinations by one address, and each gets its own answers.
//!
//! All have the same ports towards the same destinations, so that their flows differ outside by the
//! port that the gateway gave them only. A datagram says which flow it is of; the far side sends it
//! back as it came.
//!
//! `CILIATE_CROWD` is the number of flows.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::frame::{Frame, Transport};
use tests::lab::agent;
use tests::lab::gateway::{Gateway, Options};
use tests::lab::mouth::Mouth;
use tests::lab::namespace::Namespace;
use tests::lab::offload::Offload;
use tests::lab::site::S1;
use tests::lab::uninterrupted;
use tests::lab::wire::Wire;
use tests::lab::world::World;
use tests::party::{Family, Who};

use crate::number;

const MEMBERS: u8 = 8;

/// Flows of a short run, and of those how many are on their way at once.
const FLOWS: u32 = 8_000;
const WINDOW: u32 = 256;

const CHURN: Duration = Duration::from_secs(5);

/// How long a flow may be silent, and how long the test takes for it at the most.
const UDP_SECS: u32 = 120;

/// The same while flows come and go, and how late a packet may be seen.
const CHURN_SECS: u32 = 1;
const SLACK: Duration = Duration::from_millis(200);

const VICTIMS: &str = "198.51.101.0/24";

/// Says in place of a flow that the node itself speaks.
const HOST: u32 = u32::MAX;

/// Where a datagram's parts stand in its frame.
const ENDS: usize = 26;
const PORTS: usize = 34;
const PAYLOAD: usize = 42;

/// Is an endpoint.
struct Member {
    who: Who,
    address: IpAddr,
    mouth: Mouth,
    wire: Wire,
}

impl Member {
    fn new(world: &World, number: u8) -> Self {
        let place = Namespace::named(&format!("c{number}"));
        let address = [10, 9, 0, 10 + number].into();
        Self {
            who: Who {
                mac: place.mac("eth0"),
                gateway_mac: world.gw.mac(&format!("lxcc{number}")),
                ..tests::party::A
            },
            address,
            mouth: Mouth::open(&place, "eth0"),
            wire: Wire::open(&place, "eth0"),
        }
    }

    fn send(&self, flow: u32) {
        let [source, to] = ports(flow);
        let payload = [flow.to_be_bytes(), [0; 4], [0; 4]].concat();
        let transport = Transport::datagram(source, to, &payload);
        let frame = Frame::to_address(&self.who, destination(flow), transport);
        self.mouth.send_as_is(&frame.source(self.address).bytes());
    }

    /// Reads what has come, all of which must be answers to this endpoint; returns how many.
    fn collect(&self, index: u32) -> u32 {
        let mut buffer = [0; 256];
        let mut count = 0;
        while let Some(len) = self.wire.read(&mut buffer) {
            let frame = &buffer[..len];
            if !is_datagram_to(frame, self.who.mac) {
                continue;
            }
            let flow = word(frame, PAYLOAD);
            assert_eq!(flow % u32::from(MEMBERS), index, "of flow {flow}");
            let [source, to] = ports(flow);
            assert_eq!(half(frame, PORTS + 2), source, "of flow {flow}");
            assert_eq!(half(frame, PORTS), to, "of flow {flow}");
            let IpAddr::V4(from) = destination(flow) else {
                unreachable!("the destinations are of IPv4")
            };
            assert_eq!(frame[ENDS..ENDS + 4], from.octets(), "of flow {flow}");
            count += 1;
        }
        count
    }
}

/// Returns the ports of a flow: those of all members are the same.
fn ports(flow: u32) -> [u16; 2] {
    let turn = flow / u32::from(MEMBERS);
    let of = |first: u32, len| u16::try_from(first + turn % len).expect("is a port");
    [of(49_152, 16_384), of(7_000, 7)]
}

fn destination(flow: u32) -> IpAddr {
    let turn = flow / u32::from(MEMBERS);
    let last = u8::try_from(1 + turn % 250).expect("is a byte");
    [198, 51, 101, last].into()
}

fn is_datagram_to(frame: &[u8], mac: [u8; 6]) -> bool {
    frame.len() > PAYLOAD + 4 && frame[..6] == mac && frame[12..14] == [8, 0] && frame[23] == 17
}

fn word(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"))
}

fn half(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(frame[at..at + 2].try_into().expect("two bytes"))
}

#[test]
fn answers_reach_who_asked_and_nobody_else() {
    let flows = number("CILIATE_CROWD", FLOWS);
    let options = Options {
        mapping: "symmetric",
        others: MEMBERS - 2,
        flows: (flows * 5 / 2).next_power_of_two(),
        bindings: (flows * 5 / 2).next_power_of_two(),
        ..Options::default()
    }
    .timeout("udp", UDP_SECS);
    let world = World::new(&options, Offload::Off);
    if world.gateway != Gateway::Ciliate {
        return;
    }
    let gateway = S1.ip(Family::V4);
    world
        .x
        .place
        .run(&format!("ip route add {VICTIMS} via {gateway}"));
    let members: Vec<Member> = (1..=MEMBERS)
        .map(|number| Member::new(&world, number))
        .collect();
    let far = Far::new(&world);
    let before = memory(&world);
    let is_over = AtomicBool::new(false);

    thread::scope(|scope| {
        let echo = scope.spawn(|| far.answer(flows, &is_over));
        let _over = Over(&is_over);
        let start = Instant::now();
        for round in 0..2 {
            ask_all(&members, 0..flows);
            eprintln!(
                "{flows} flows answered, round {round}, {:.1?}",
                start.elapsed()
            );
        }
        assert!(
            start.elapsed().as_secs() < u64::from(UDP_SECS),
            "too slow a machine"
        );
        let short = Options {
            timeouts: vec![("udp", CHURN_SECS)],
            ..options.clone()
        };
        world.change(&short);
        let (sent, answered) = churn(&members, flows);
        is_over.store(true, Ordering::Relaxed);
        let owners = echo.join().expect("nobody had a port of somebody else");
        eprintln!(
            "churn: {sent} flows begun in {CHURN:?}, {answered} answers, all to who asked; {owners} ports seen outside; drops {:?}",
            world.drops()
        );
        assert!(answered > 0);
    });
    let after = memory(&world);
    eprintln!("maps: {before} bytes before, {after} after");
    assert_eq!(before, after, "tables are as large as they were made");
}

/// Ends the far side also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has every flow ask once, and the node itself in between; all must be answered.
fn ask_all(members: &[Member], flows: std::ops::Range<u32>) {
    let mut next = flows.start;
    while next < flows.end {
        let last = (next + WINDOW).min(flows.end);
        for flow in next..last {
            members[flow as usize % members.len()].send(flow);
        }
        ask_as_host(next);
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut missing = last - next;
        while missing > 0 {
            missing -= collect(members);
            assert!(
                Instant::now() < deadline,
                "{missing} of flows {next} to {last} should be answered"
            );
        }
        next = last;
    }
}

fn collect(members: &[Member]) -> u32 {
    (0..)
        .zip(members)
        .map(|(index, member)| member.collect(index))
        .sum()
}

/// Begins flows as fast as the machine can; returns how many, and how many answers came.
fn churn(members: &[Member], first: u32) -> (u32, u32) {
    let start = Instant::now();
    let (mut next, mut answered) = (first, 0);
    while start.elapsed() < CHURN {
        for flow in next..next + WINDOW {
            members[flow as usize % members.len()].send(flow);
        }
        next += WINDOW;
        answered += collect(members);
        if next.is_multiple_of(16 * WINDOW) {
            ask_as_host(next);
        }
    }
    thread::sleep(Duration::from_millis(500));
    (next - first, answered + collect(members))
}

/// A socket of the node connects where an endpoint does, and gets its own answer.
fn ask_as_host(flow: u32) {
    let [_, port] = ports(flow);
    let socket = UdpSocket::bind("0.0.0.0:0").expect("open a socket");
    socket
        .connect((destination(flow), port))
        .expect("connect a socket");
    let timeout = Some(Duration::from_secs(3));
    socket.set_read_timeout(timeout).expect("set a timeout");
    let question = [HOST.to_be_bytes(), flow.to_be_bytes(), [0; 4]].concat();
    socket.send(&question).expect("ask");
    let mut buffer = [0; 64];
    let len = uninterrupted(|| socket.recv(&mut buffer)).expect("the node is answered");
    assert_eq!(&buffer[..len], question, "to the node itself");
}

/// Is the far side, which sends everything back.
struct Far {
    mac: [u8; 6],
    mouth: Mouth,
    wire: Wire,
}

impl Far {
    fn new(world: &World) -> Self {
        let station = &world.s1;
        Self {
            mac: station.mac,
            mouth: Mouth::open(&station.place, station.link),
            wire: Wire::open(&station.place, station.link),
        }
    }

    /// Answers until it is over; returns how many ports of the gateway were seen. No two flows may
    /// come from one port to one destination within the time that a flow may be silent.
    fn answer(&self, flows: u32, is_over: &AtomicBool) -> usize {
        let mut owners: HashMap<[u8; 8], (u32, Instant)> = HashMap::new();
        let mut buffer = [0; 256];
        while !is_over.load(Ordering::Relaxed) {
            let Some(len) = self.wire.read(&mut buffer) else {
                thread::yield_now();
                continue;
            };
            let frame = &buffer[..len];
            if !is_datagram_to(frame, self.mac) {
                continue;
            }
            let flow = word(frame, PAYLOAD);
            let mut outside = [0; 8];
            outside[..2].copy_from_slice(&frame[PORTS..PORTS + 2]);
            outside[2..6].copy_from_slice(&frame[ENDS + 4..ENDS + 8]);
            outside[6..].copy_from_slice(&frame[PORTS + 2..PORTS + 4]);
            if flow != HOST {
                let now = Instant::now();
                if let Some((owner, seen)) = owners.insert(outside, (flow, now)) {
                    let secs = if owner < flows { UDP_SECS } else { CHURN_SECS };
                    let idle = Duration::from_secs(secs.into());
                    let is_own = owner == flow || now - seen + SLACK > idle;
                    assert!(is_own, "flow {flow} has the port of {owner}");
                }
            }
            self.mouth.send_as_is(&returned(frame));
        }
        owners.len()
    }
}

/// Returns a datagram's frame with its ends exchanged; its checksums stay right.
fn returned(frame: &[u8]) -> Vec<u8> {
    [
        &frame[6..12],
        &frame[..6],
        &frame[12..ENDS],
        &frame[ENDS + 4..ENDS + 8],
        &frame[ENDS..ENDS + 4],
        &frame[PORTS + 2..PORTS + 4],
        &frame[PORTS..PORTS + 2],
        &frame[PORTS + 4..],
    ]
    .concat()
}

/// Returns how much memory the maps take that do not grow.
fn memory(world: &World) -> u64 {
    let status = agent::json(&world.gw, "status");
    let maps = status["maps"].as_array().expect("status lists maps");
    maps.iter().filter_map(|map| map["bytes"].as_u64()).sum()
}
