//! What a list of allowed addresses costs as it grows, and what the kernel's own firewall takes for
//! the same list.
//!
//! ```text
//! web ── node, policy with the list ─────────────────────────┐
//! plain ── node, forwarded by the kernel past nftables ──────┴── sink, which drops and counts
//! ```
//!
//! One thread sends, and what its packets meet up to the sink takes its time. `CILIATE_GROWTH` is the
//! length of the longest list; without it the lists are short, and the run shows only that what is
//! on a list gets through, and nothing else.

use std::env;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use tests::lab::agent;
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::stream::Stream;
use tests::random::Random;

/// Packets of one figure; fewer where each takes long.
const PACKETS: usize = 60_000;

/// Rounds of which the medians count.
const ROUNDS: usize = 5;

/// What no list has.
const UNLISTED: Ipv4Addr = Ipv4Addr::new(61, 0, 0, 1);

/// Datagrams every half millisecond, about 50,000 a second, while a list is edited so often.
const BURST: u64 = 40;
const EDITS: usize = 3;
const DB: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 9);

/// First packets to addresses in random order may cost so much more than with the shortest list.
const RANDOM_MAX: f64 = 2.0;

const SET_UP: &str = "link add web0 type veth peer name eth0 netns plain
link add sink0 type veth peer name eth0 netns sink
link set web0 up
link set sink0 up
address add 192.0.2.1/24 dev web0
address add 198.18.0.1/24 dev sink0
route add 60.0.0.0/7 via 198.18.0.2 dev sink0
";

/// Counts what arrives, before anything else is done with it.
const SINK: &str = "table ip sink {
 counter arrived { }
 chain c {
  type filter hook prerouting priority -300
  ip protocol udp counter name arrived drop
 }
}
";

/// Is who sends, and how many packets it takes for one figure.
struct Way {
    name: &'static str,
    place: Namespace,
    /// Nanoseconds for each packet of one flow, and of flows that begin, by the length of the list.
    figures: Vec<[Vec<f64>; 2]>,
}

#[test]
fn a_list_lets_its_addresses_through_however_long_it_is() {
    let longest = env::var("CILIATE_GROWTH").ok();
    let lens: Vec<usize> = match &longest {
        Some(text) => vec![
            10,
            1_000,
            text.parse().expect("the variable holds a number"),
        ],
        None => vec![10, 1_000],
    };
    let lab = Lab::new();
    let way = |name, place: &Namespace| Way {
        name,
        place: place.clone(),
        figures: lens.iter().map(|_| Default::default()).collect(),
    };
    let mut ways = [
        way("ciliate", &lab.web),
        way("nftables, a set", &lab.plain),
        way("nftables, a chain", &lab.plain),
    ];
    for _ in 0..if longest.is_some() { ROUNDS } else { 1 } {
        for (index, len) in lens.iter().enumerate() {
            let list: Vec<Ipv4Addr> = (0..*len).map(listed).collect();
            lab.allow(&list);
            lab.measure(&mut ways[0], index, &list, PACKETS);
            lab.load(&set(&list));
            lab.measure(&mut ways[1], index, &list, PACKETS);
            lab.load(&chain(&list));
            // Each rule is looked at, one after the other.
            let packets = (PACKETS * 10 / len).clamp(200, PACKETS);
            lab.measure(&mut ways[2], index, &list, packets);
        }
    }
    lab.edit(lens[lens.len() - 1]);
    let text = table(&ways, &lens);
    eprintln!("{text}");
    if longest.is_some() {
        let of = |index: usize| median(&ways[0].figures[index][1]);
        let ratio = of(lens.len() - 1) / of(0);
        assert!(ratio <= RANDOM_MAX, "first packets: × {ratio:.2}\n{text}");
    }
}

struct Lab {
    machine: Machine,
    web: Namespace,
    db: Namespace,
    plain: Namespace,
    sink: Namespace,
}

impl Lab {
    fn new() -> Self {
        let machine = Machine::new();
        let [web, db, plain, sink] = ["web", "db", "plain", "sink"].map(Namespace::add);
        let batch = machine.write("batch.ip", SET_UP);
        machine.own.run(&format!("ip -batch {}", batch.display()));
        for line in [
            "ip link set eth0 up",
            "ip address add 192.0.2.2/24 dev eth0",
            "ip route add default via 192.0.2.1",
        ] {
            plain.run(line);
        }
        for line in [
            "ip link set eth0 up",
            "ip address add 198.18.0.2/24 dev eth0",
        ] {
            sink.run(line);
        }
        let counter = machine.write("sink.nft", SINK);
        sink.run(&format!("nft -f {}", counter.display()));
        machine.own.set_sysctl("net/ipv4/ip_forward", "1");
        let mac = hex(sink.mac("eth0"));
        machine.own.run(&format!(
            "ip neighbour replace 198.18.0.2 lladdr {mac} dev sink0 nud permanent"
        ));
        Self {
            machine,
            web,
            db,
            plain,
            sink,
        }
    }

    /// Gives web a policy that allows a list.
    fn allow(&self, list: &[Ipv4Addr]) {
        let mut file = "[[node]]\nname = \"n\"\nipv4 = \"10.0.1.0/24\"\n\
                        [[device]]\nname = \"sink0\"\n\
                        [[endpoint]]\nname = \"web\"\n\
                        [[endpoint]]\nname = \"db\"\nipv4 = \"10.0.1.9\"\n\
                        [routing]\nhost_routing = \"bpf\"\n\
                        [[policy.rule]]\nendpoints = \"web\"\negress = [{ to = [\"db\",
"
        .to_owned();
        for address in list {
            writeln!(file, "\"{address}\",").expect("text can be written");
        }
        file += "] }]\n";
        self.machine.own.run("nft flush ruleset");
        let path = self.machine.write("policy.toml", &file);
        agent::expect(&self.machine.own, &format!("apply {}", path.display()), 0);
    }

    /// Makes a list longer by one address, and nothing of a fast stream may be missing.
    fn edit(&self, len: usize) {
        let list: Vec<Ipv4Addr> = (0..len + EDITS).map(listed).collect();
        self.allow(&list[..len]);
        let stream = Stream::start_bursts(&self.web, &self.db, DB.into(), BURST);
        for more in 1..=EDITS {
            self.allow(&list[..len + more]);
        }
        stream.expect_complete();
    }

    fn load(&self, rules: &str) {
        let path = self.machine.write("list.nft", rules);
        self.machine.own.run("nft flush ruleset");
        self.machine.own.run(&format!("nft -f {}", path.display()));
    }

    /// Takes the figures of one way with one list, and sees what gets through.
    fn measure(&self, way: &mut Way, index: usize, list: &[Ipv4Addr], packets: usize) {
        let place = &way.place;
        let target = |address: Ipv4Addr, port| SocketAddr::new(address.into(), port);
        let before = self.arrived();
        let hot = send(place, (0..packets).map(|_| target(list[0], 9_000)));
        let mut random = Random::new(packets as u64);
        let mut order: Vec<SocketAddr> = Vec::with_capacity(packets);
        for number in 0..packets {
            let port = 10_000 + u16::try_from(number % 50_000).expect("fits");
            order.push(target(list[random.below(list.len())], port));
        }
        let first = send(place, order.into_iter());
        let arrived = self.arrived() - before;
        assert_eq!(
            arrived,
            2 * packets,
            "of {} addresses, by {}, each packet should arrive",
            list.len(),
            way.name
        );
        send(place, (0..100).map(|_| target(UNLISTED, 9_000)));
        assert_eq!(
            self.arrived() - before,
            arrived,
            "what is on no list should not arrive by {}",
            way.name
        );
        for (figures, ns) in way.figures[index].iter_mut().zip([hot, first]) {
            figures.push(ns);
        }
    }

    /// Reads how many packets the sink has seen.
    fn arrived(&self) -> usize {
        let text = self.sink.run("nft -j list counter ip sink arrived");
        let json: serde_json::Value = serde_json::from_str(&text).expect("nft writes JSON");
        let items = json["nftables"].as_array().expect("a list").iter();
        let mut packets = items.filter_map(|item| item["counter"]["packets"].as_u64());
        let packets = packets.next().expect("the counter is there");
        usize::try_from(packets).expect("fits")
    }
}

/// Sends a datagram to each target; returns the nanoseconds that one took.
fn send(place: &Namespace, targets: impl ExactSizeIterator<Item = SocketAddr> + Send) -> f64 {
    let count = u32::try_from(targets.len()).expect("few");
    place.inside(move || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("bind");
        let start = Instant::now();
        for target in targets {
            // What is refused does not arrive, and is missed there.
            let _ = socket.send_to(b"datagram", target);
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
    })
}

/// Returns an address of the list: neighbours in the list are far apart.
fn listed(index: usize) -> Ipv4Addr {
    let index = u32::try_from(index).expect("few");
    let [_, low @ ..] = index.wrapping_mul(0x009e_3779).to_be_bytes();
    Ipv4Addr::new(60, low[0], low[1], low[2])
}

fn set(list: &[Ipv4Addr]) -> String {
    let elements: Vec<String> = list.iter().map(ToString::to_string).collect();
    let elements = elements.join(",");
    format!(
        "table ip t {{\n set allowed {{ type ipv4_addr; elements = {{ {elements} }} }}\n chain c {{\n  \
         type filter hook forward priority 0; policy drop\n  ct state established accept\n  \
         ip daddr @allowed accept\n }}\n}}\n"
    )
}

fn chain(list: &[Ipv4Addr]) -> String {
    let mut text =
        "table ip t {\n chain c {\n  type filter hook forward priority 0; policy drop\n  \
                    ct state established accept\n"
            .to_owned();
    for address in list {
        writeln!(text, "  ip daddr {address} accept").expect("text can be written");
    }
    text + " }\n}\n"
}

fn table(ways: &[Way], lens: &[usize]) -> String {
    let mut text = format!(
        "{:<20} {:>9} {:>16} {:>22}\n",
        "ns for each packet", "addresses", "of one flow", "first ones, random"
    );
    for way in ways {
        for (len, figures) in lens.iter().zip(&way.figures) {
            let [one, first] = figures.each_ref().map(|figures| median(figures));
            let base = way.figures[0].each_ref().map(|figures| median(figures));
            writeln!(
                text,
                "{:<20} {len:>9} {one:>8.0} × {:>5.2} {first:>14.0} × {:>5.2}",
                way.name,
                one / base[0],
                first / base[1]
            )
            .expect("text can be written");
        }
    }
    text
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn hex(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
