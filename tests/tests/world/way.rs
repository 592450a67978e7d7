//! The way out, and what becomes of it: another device, nobody at the next hop, a smaller next hop,
//! several next hops, rules.

use std::io::{ErrorKind, Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use tests::frame::TCP;
use tests::lab::conversation::{bound, pattern, transfer_seen};
use tests::lab::namespace::Namespace;
use tests::lab::node::ping;
use tests::lab::offload::Offload;
use tests::lab::wire::Wire;
use tests::lab::{PATIENCE, uninterrupted};
use tests::packet::Packet;
use tests::party::Family;

use super::fork::{Fork, far, gateway, near, way};

/// Within which flows follow their route.
const FOLLOWED: Duration = Duration::from_secs(1);
/// The longest pause of a connection whose link is cut: what was lost is sent once more some time
/// after the flow has followed.
const CUT: Duration = Duration::from_secs(3);
/// For how long a connection is looked at: nearly as long as a flow goes without being decided again.
const LOOKED: Duration = Duration::from_millis(900);
/// A decision that is so old was not made for the packets that have passed since.
const OLD_MS: u64 = 300;
const TRANSFER_LEN: usize = 2 << 20;
/// What Ethernet adds to an MTU.
const ETH_LEN: usize = 14;
/// Within which the kernel gives a silent neighbour up, with some time to spare.
const GIVEN_UP: Duration = Duration::from_secs(8);
/// Connections by several next hops: that all of them take the same one is as good as impossible.
const CONNECTIONS: u16 = 16;

/// Does something with the node in both modes.
fn both_modes(work: impl Fn(&Fork, &str)) {
    for host_routing in ["bpf", "legacy"] {
        work(&Fork::new(host_routing, Offload::Off), host_routing);
    }
}

/// Is a connection whose server says everything again.
struct Talk {
    stream: TcpStream,
    port: u16,
}

impl Talk {
    fn begin(fork: &Fork, family: Family) -> Self {
        let listener = fork
            .world
            .inside(|| TcpListener::bind((far(family), 0)))
            .expect("listen");
        let target = listener.local_addr().expect("bound");
        thread::spawn(move || {
            let (mut stream, from) = listener.accept().expect("accept");
            assert_eq!(from.ip(), near(family));
            let mut word = [0; 8];
            while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
        });
        let stream = connect(&fork.net.web, target).expect("connect");
        stream.set_nodelay(true).expect("send at once");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let port = target.port();
        Self { stream, port }
    }

    /// Says something and hears it again; returns how long that took.
    fn say(&mut self) -> Duration {
        let start = Instant::now();
        self.stream.write_all(b"anybody?").expect("say");
        let mut word = [0; 8];
        self.stream.read_exact(&mut word).expect("hear");
        assert_eq!(&word, b"anybody?");
        start.elapsed()
    }

    /// Goes on for a while; returns the longest pause.
    fn go_on(&mut self, how_long: Duration) -> Duration {
        let (start, mut longest) = (Instant::now(), Duration::ZERO);
        while start.elapsed() < how_long {
            longest = longest.max(self.say());
            thread::sleep(Duration::from_millis(5));
        }
        longest
    }
}

fn connect(place: &Namespace, target: SocketAddr) -> std::io::Result<TcpStream> {
    place.inside(|| TcpStream::connect_timeout(&target, GIVEN_UP))
}

/// Tells by which of the world's links a connection's packets come.
fn links_of(fork: &Fork, talk: &mut Talk) -> [bool; 2] {
    let wires = ["eth0", "eth1"].map(|link| Wire::open(&fork.world, link));
    for _ in 0..10 {
        talk.say();
    }
    wires.map(|wire| {
        let next = || wire.next_within(Duration::from_millis(20));
        let mut packets = iter::from_fn(next)
            .filter(|frame| !frame.is_outgoing)
            .filter_map(|frame| Packet::of(&frame));
        packets.any(|packet| packet.protocol == TCP && packet.to().port() == talk.port)
    })
}

/// Checks that the connection's packets pass the stack by, and are not decided about one by one.
fn expect_fast(fork: &Fork, family: Family, talk: &mut Talk) {
    let before = fork.forwarded();
    let (mut oldest, mut packets) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < LOOKED {
        for _ in 0..10 {
            talk.say();
        }
        let flow = fork.flow(family, talk.port);
        let number = |key: &str| flow[key].as_u64().expect("a number");
        assert!(
            number("packets") > packets,
            "packets should be counted: {flow}"
        );
        packets = number("packets");
        oldest = oldest.max(number("decided_ms"));
    }
    assert!(oldest >= OLD_MS, "decided again each {oldest} ms");
    assert_eq!(fork.forwarded(), before, "the stack should forward nothing");
}

#[test]
fn connections_follow_their_route_to_another_device_and_stay_fast() {
    both_modes(|fork, what| {
        fork.count_forwarded();
        for family in Family::BOTH {
            fork.go_by(0);
            let mut talk = Talk::begin(fork, family);
            assert_eq!(links_of(fork, &mut talk), [true, false], "{what}");
            if what == "bpf" {
                expect_fast(fork, family, &mut talk);
            }

            // The way there moves first, and the way back later.
            fork.net
                .host
                .run(&format!("ip route replace {}", way(family, 1)));
            let longest = talk.go_on(FOLLOWED + FOLLOWED / 2);

            assert!(longest < FOLLOWED, "{longest:?} of {family:?}, {what}");
            assert_eq!(links_of(fork, &mut talk), [false, true], "{what}");
            fork.come_by(1);
            talk.go_on(FOLLOWED);
            if what == "bpf" {
                expect_fast(fork, family, &mut talk);
            }
        }
        assert_eq!(fork.net.status()["drops"], serde_json::json!({}), "{what}");
    });
}

#[test]
fn connections_survive_the_loss_of_their_device() {
    both_modes(|fork, what| {
        fork.count_forwarded();
        for family in Family::BOTH {
            // The second is there all along, for less.
            let spare = format!("ip route add {} metric 2000", way(family, 1));
            fork.net.host.run(&spare);
        }
        let mut talks = Family::BOTH.map(|family| Talk::begin(fork, family));
        for talk in &mut talks {
            talk.go_on(FOLLOWED / 2);
        }

        fork.world.run("ip link set eth0 down");
        fork.net.host.run("ip link set up0 down");
        fork.come_by(1);

        for (family, talk) in Family::BOTH.into_iter().zip(&mut talks) {
            let longest = talk.go_on(FOLLOWED);
            assert!(longest < CUT, "{longest:?} of {family:?}, {what}");
            talk.go_on(FOLLOWED);
            assert_eq!(links_of(fork, talk), [false, true], "{what}");
            if what == "bpf" {
                expect_fast(fork, family, talk);
            }
        }
    });
}

/// Lets the node's kernel ask for neighbours on its first device within the test.
fn ask_soon(fork: &Fork, family: Family) {
    let version = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    for (key, value) in [
        ("base_reachable_time_ms", "300"),
        ("delay_first_probe_time", "1"),
        ("retrans_time_ms", "100"),
    ] {
        let path = format!("net/{version}/neigh/up0/{key}");
        fork.net.host.set_sysctl(&path, value);
    }
    // What is known already keeps its times.
    fork.net.host.run("ip neigh flush dev up0");
}

#[test]
fn endpoint_hears_that_nobody_is_at_the_next_hop() {
    both_modes(|fork, what| {
        for family in Family::BOTH {
            let (somebody, nobody) = match family {
                Family::V4 => ("198.51.100.9", "192.0.2.77"),
                Family::V6 => ("2001:db8:51::9", "2001:db8:2::77"),
            };
            ask_soon(fork, family);
            fork.net
                .host
                .run(&format!("ip route add {somebody} via {nobody} dev up0"));
            let target = SocketAddr::new(somebody.parse().expect("an address"), 80);

            let error = connect(&fork.net.web, target).expect_err("nobody is there");

            assert_eq!(
                error.kind(),
                ErrorKind::HostUnreachable,
                "{family:?}, {what}: {error}"
            );
        }
    });
}

#[test]
fn endpoint_hears_that_the_next_hop_has_died() {
    both_modes(|fork, what| {
        for family in Family::BOTH {
            ask_soon(fork, family);
            let server = bound(&fork.world, far(family));
            let client = bound(&fork.net.web, fork.net.address("web", family));
            let target = server.local_addr().expect("bound");
            client.connect(target).expect("connect");
            for _ in 0..6 {
                client.send(b"question").expect("send");
                let (_, from) =
                    uninterrupted(|| server.recv_from(&mut [0; 8])).expect("the question arrives");
                server.send_to(b"answer", from).expect("answer");
                uninterrupted(|| client.recv(&mut [0; 8])).expect("the answer arrives");
            }

            let len = if family == Family::V4 { 24 } else { 64 };
            let hop = gateway(family, 0);
            fork.world
                .run(&format!("ip address del {hop}/{len} dev eth0"));

            let error = error_about(&fork.net.web, &client, family);
            assert_eq!(error.source, family.router(), "{what}: {}", error.brief());
            let nodad = if family == Family::V4 { "" } else { " nodad" };
            fork.world
                .run(&format!("ip address add {hop}/{len} dev eth0{nodad}"));
        }
    });
}

/// Goes on sending until the endpoint is told that its packets do not arrive, which must be soon.
/// A socket of UDP over IPv4 does not hear of it by itself.
fn error_about(place: &Namespace, client: &UdpSocket, family: Family) -> Packet {
    let unreachable = match family {
        Family::V4 => (3, 1),
        Family::V6 => (1, 3),
    };
    let wire = Wire::open(place, "eth0");
    let start = Instant::now();
    while start.elapsed() < GIVEN_UP {
        // An error that arrived may be told to whoever sends next.
        drop(client.send(b"question"));
        let next = || wire.next_within(Duration::from_millis(20));
        let packets = iter::from_fn(next).filter(|frame| !frame.is_outgoing);
        let mut packets = packets.take(16).filter_map(|frame| Packet::of(&frame));
        if let Some(found) = packets.find(|packet| packet.icmp() == Some(unreachable)) {
            return found;
        }
    }
    panic!("the endpoint should be told within {GIVEN_UP:?} ({family:?})");
}

#[test]
fn segments_fit_a_smaller_next_hop() {
    for host_routing in ["bpf", "legacy"] {
        for offload in Offload::BOTH {
            let fork = Fork::new(host_routing, offload);
            let what = format!("{host_routing}, checksums by the links: {offload:?}");
            // `bpf_fib_lookup` heeds the MTU of a route only if it is locked.
            let lock = if host_routing == "bpf" { "lock " } else { "" };
            for family in Family::BOTH {
                let route = format!("ip route replace {} mtu {lock}1320", way(family, 0));
                fork.net.host.run(&route);
                expect_fitting(&fork, family, 1_320, &what);
                let route = format!("ip route replace {}", way(family, 0));
                fork.net.host.run(&route);
            }
            for version in ["-4", "-6"] {
                let line = format!("ip {version} route flush cache");
                fork.net.web.run(&line);
            }
            fork.net.host.run("ip link set up0 mtu 1380");
            for family in Family::BOTH {
                expect_fitting(&fork, family, 1_380, &what);
            }
        }
    }
}

/// Sends many segments to the world, none of which may be longer than that.
fn expect_fitting(fork: &Fork, family: Family, mtu: usize, what: &str) {
    let wire = Wire::open(&fork.world, "eth0");
    let (data, seen) = transfer_seen(&fork.net.web, &fork.world, far(family), TRANSFER_LEN);
    assert!(data == pattern(TRANSFER_LEN), "{family:?}, {mtu}, {what}");
    assert_eq!(seen.ip(), near(family), "{what}");
    let next = || wire.next_within(Duration::from_millis(20));
    let lengths = iter::from_fn(next)
        .filter(|seen| !seen.is_outgoing && seen.carries(TCP) && !seen.is_unsummed)
        .map(|seen| seen.bytes.len() - ETH_LEN);
    // A packet that a link is to sum may be one that it is to cut.
    let longest = lengths.max().unwrap_or_default();
    assert!(longest <= mtu, "{longest} > {mtu}, {family:?}, {what}");
    let version = if family == Family::V4 { "-4" } else { "-6" };
    let learnt = fork
        .net
        .web
        .run(&format!("ip {version} route get {}", far(family)));
    let told = format!("mtu {mtu}");
    assert!(learnt.contains(&told), "{told}, {what}: {learnt}");
}

#[test]
fn connections_spread_over_several_next_hops() {
    both_modes(|fork, what| {
        for family in Family::BOTH {
            let [first, second] = [0, 1]
                .map(|number| format!("nexthop via {} dev up{number}", gateway(family, number)));
            for key in ["ipv4", "ipv6"] {
                let path = format!("net/{key}/fib_multipath_hash_policy");
                fork.net.host.set_sysctl(&path, "1");
            }
            let route = format!("ip route replace {} {first} {second}", far(family));
            fork.net.host.run(&route);

            let mut used = [false; 2];
            for _ in 0..CONNECTIONS {
                let mut talk = Talk::begin(fork, family);
                let links = links_of(fork, &mut talk);
                assert!(links[0] != links[1], "one of both: {links:?}, {what}");
                used = [0, 1].map(|number| used[number] || links[number]);
            }

            assert_eq!(used, [true; 2], "{family:?}, {what}");
        }
    });
}

#[test]
fn rules_by_source_and_port_are_followed() {
    both_modes(|fork, what| {
        for family in Family::BOTH {
            let own = fork.net.address("web", family);
            let version = if family == Family::V4 { "-4" } else { "-6" };
            let host = &fork.net.host;
            host.run(&format!("ip route add {} table 100", way(family, 1)));
            ping(&fork.net.web, far(family));
            for rule in [
                format!("from {own} lookup 100"),
                "ipproto tcp lookup 100".to_owned(),
                "iif cilium_host lookup 100".to_owned(),
            ] {
                let mut before = Talk::begin(fork, family);
                assert_eq!(links_of(fork, &mut before), [true, false], "{rule}, {what}");
                host.run(&format!("ip {version} rule add {rule}"));
                let mut talk = Talk::begin(fork, family);
                assert_eq!(links_of(fork, &mut talk), [false, true], "{rule}, {what}");
                if rule.starts_with("from") {
                    before.go_on(FOLLOWED);
                    assert_eq!(links_of(fork, &mut before), [false, true], "{rule}, {what}");
                }
                host.run(&format!("ip {version} rule del {rule}"));
            }
        }
    });
}
