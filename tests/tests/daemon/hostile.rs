//! A script that damages something of ours every tenth of a second.
//!
//! ```text
//!  e0 … e59   one of them is damaged, or the node is
//!  calm, still  nobody touches them: their streams lose nothing
//! ```
//!
//! What was repaired is told by the agent's log, a line for each object; that it is true, by the
//! plan afterwards, which is empty. Objects are damaged in random order, and none a second time
//! before a while has passed: an agent that saw the same one undone again and again would leave it
//! alone, as another test shows.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ciliate::datapath::table;
use datapath::abi::Addr4;
use tests::lab::agent;
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::node::pins;
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::lab::wait_until;

use super::{ANNOUNCED, UNANNOUNCED, busy, descriptors};

const ENDPOINTS: u8 = 60;

/// Time between two damages.
const PERIOD: Duration = Duration::from_millis(100);

/// How long it goes on, in seconds, unless the environment says otherwise.
const SECS: u64 = 60;
const SECS_VARIABLE: &str = "CILIATE_HOSTILE_SECS";

/// How long an object, and how long an endpoint, is left alone after it was damaged.
const OBJECT_REST: Duration = Duration::from_secs(15);
const ENDPOINT_REST: Duration = Duration::from_secs(4);

/// How long the agent may take to reach its size.
const WARM_UP: Duration = Duration::from_secs(10);

/// Most that it may grow afterwards, in KiB: less than a page for every damage.
const GROWTH_KIB: u64 = 512;

/// Is a node with many endpoints.
struct Crowd {
    machine: Machine,
    host: Namespace,
    file: PathBuf,
}

impl Crowd {
    fn new() -> Self {
        let machine = Machine::new();
        let mut text = String::from(
            "[[node]]\nname = \"edge-1\"\nipv4 = \"10.0.1.0/24\"\nipv6 = \"fd00:1::/64\"\n",
        );
        let names = (0..ENDPOINTS).map(|number| format!("e{number}"));
        for (name, last) in names.chain(["calm".into(), "still".into()]).zip(10..) {
            Namespace::add(&name);
            write!(
                text,
                "[[endpoint]]\nname = \"{name}\"\nipv4 = \"10.0.1.{last}\"\nipv6 = \"fd00:1::{last}\"\n"
            )
            .expect("a text grows");
        }
        let file = machine.write("ciliate.toml", &text);
        let host = machine.own.clone();
        Self {
            machine,
            host,
            file,
        }
    }

    /// Starts streams between the two that nobody touches.
    fn streams() -> [Stream; 2] {
        let [calm, still] = ["calm", "still"].map(Namespace::named);
        let last = 10 + ENDPOINTS;
        let address4 = format!("10.0.1.{}", last + 1).parse().expect("an address");
        let address6 = format!("fd00:1::{last}").parse().expect("an address");
        [
            Stream::start(&calm, &still, address4),
            Stream::start(&still, &calm, address6),
        ]
    }
}

/// Is something that can be damaged, and how.
#[derive(Clone, Debug)]
struct Damage {
    /// The endpoint; `None` for the node.
    endpoint: Option<u8>,
    kind: usize,
    within: Duration,
    /// What the line of the repair contains.
    told: String,
}

/// Ways to damage an endpoint, of which the last is not announced.
const OF_ENDPOINT: usize = 9;

/// Ways to damage the node: commands (`LINKS` is where tcx links are pinned) and sysctls, and what
/// the line of the repair contains.
const OF_NODE: [(&str, &str); 6] = [
    ("ip route del 10.0.1.0/24", "route add 10.0.1.0/24"),
    (
        "ip address del 10.0.1.1/32 dev cilium_host",
        "10.0.1.1/32 dev cilium_host",
    ),
    (
        "net/ipv4/conf/cilium_host/forwarding=0",
        "cilium_host/forwarding",
    ),
    (
        "net/ipv4/conf/cilium_host/rp_filter=1",
        "cilium_host/rp_filter",
    ),
    ("rm LINKS/cilium_host_egress", "tcx_egress"),
    (
        "net/ipv4/conf/cilium_host/send_redirects=1",
        "cilium_host/send_redirects",
    ),
];

/// Of these, the one that is not announced.
const QUIET_OF_NODE: usize = 5;

impl Damage {
    fn all() -> Vec<Self> {
        let of_endpoints = (0..ENDPOINTS).flat_map(|number| {
            (0..OF_ENDPOINT).map(move |kind| Self {
                endpoint: Some(number),
                kind,
                within: bound(kind + 1 == OF_ENDPOINT),
                told: format!("e{number}"),
            })
        });
        let of_node = OF_NODE.iter().zip(0..).map(|((_, told), kind)| Self {
            endpoint: None,
            kind,
            within: bound(kind == QUIET_OF_NODE),
            told: (*told).to_owned(),
        });
        of_endpoints.chain(of_node).collect()
    }

    fn inflict(&self, host: &Namespace) {
        let Some(number) = self.endpoint else {
            let (damage, _) = OF_NODE[self.kind];
            if let Some((path, value)) = damage.split_once('=') {
                host.set_sysctl(path, value);
            } else {
                let links = pins().links().display().to_string();
                host.run(&damage.replace("LINKS", &links));
            }
            return;
        };
        let name = format!("e{number}");
        let inside = Namespace::named(&name);
        let last = number + 10;
        match self.kind {
            0 => drop(host.run(&format!("tc filter del dev lxc{name} ingress"))),
            1 => drop(host.run(&format!("tc qdisc del dev lxc{name} clsact"))),
            2 => drop(host.run(&format!("ip link set lxc{name} down"))),
            3 => drop(host.run(&format!("ip link del lxc{name}"))),
            4 => drop(inside.run("ip route del default")),
            5 => drop(inside.run(&format!("ip -6 address del fd00:1::{last}/128 dev eth0"))),
            6 => drop(host.run(&format!("ip link set lxc{name} mtu 1400"))),
            7 => drop(inside.run("ip link del eth0")),
            _ => {
                let mut addresses = table::local4(&pins()).expect("open a map");
                let address = Addr4::new([10, 0, 1, last]);
                addresses.remove(&address).expect("the address is known");
            }
        }
    }

    /// Tells whether a line of the log is about the repair of this.
    fn is_told_by(&self, line: &str) -> bool {
        if self.endpoint.is_none() {
            return line.contains(&self.told);
        }
        let mut words = line.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.any(|word| word.strip_prefix("lxc").unwrap_or(word) == self.told)
    }
}

fn bound(is_quiet: bool) -> Duration {
    let bound = if is_quiet { UNANNOUNCED } else { ANNOUNCED };
    bound * busy()
}

/// Chooses what to damage next.
struct Script {
    damages: Vec<(Damage, Option<Instant>)>,
    random: u64,
}

impl Script {
    fn new() -> Self {
        let all = Damage::all().into_iter();
        Self {
            damages: all.map(|damage| (damage, None)).collect(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Returns something that, and whose endpoint, has been left alone for a while.
    fn choose(&mut self, now: Instant) -> Damage {
        loop {
            // Marsaglia's xorshift.
            for shift in [13_i32, -7, 17] {
                self.random ^= if shift > 0 {
                    self.random << shift
                } else {
                    self.random >> -shift
                };
            }
            let len = u64::try_from(self.damages.len()).expect("a length");
            let place = usize::try_from(self.random % len).expect("an index");
            let (damage, _) = self.damages[place].clone();
            let is_resting = |other: &(Damage, Option<Instant>)| {
                let same = other.0.endpoint == damage.endpoint && other.0.kind == damage.kind;
                let rest = if same {
                    OBJECT_REST
                } else if damage.endpoint.is_some() && other.0.endpoint == damage.endpoint {
                    ENDPOINT_REST
                } else {
                    return false;
                };
                other.1.is_some_and(|then| now.duration_since(then) < rest)
            };
            if !self.damages.iter().any(is_resting) {
                self.damages[place].1 = Some(now);
                return damage;
            }
        }
    }
}

/// Knows what is not repaired yet, and how long the rest took.
struct Ledger<'a> {
    agent: &'a Resident,
    /// How much of the log has been read, in bytes.
    read: usize,
    open: Vec<(Damage, Instant)>,
    took: [Vec<Duration>; 2],
}

impl Ledger<'_> {
    fn watch(&mut self) {
        let log = self.agent.log();
        let end = log.rfind('\n').map_or(self.read, |at| at + 1);
        let (new, now) = (log[self.read..end].to_owned(), Instant::now());
        self.read = end;
        for line in new.lines().filter(|line| line.contains("repaired: ")) {
            while let Some(at) = self.open.iter().position(|(open, _)| open.is_told_by(line)) {
                let (damage, then) = self.open.swap_remove(at);
                let is_quiet = damage.within > bound(false);
                self.took[usize::from(is_quiet)].push(now.duration_since(then));
            }
        }
        for (damage, then) in &self.open {
            assert!(
                now.duration_since(*then) < damage.within,
                "should be repaired within {:?}: {damage:?}\n{log}",
                damage.within
            );
        }
    }

    fn report(&mut self) {
        for (what, took) in ["announced", "unannounced"].iter().zip(&mut self.took) {
            took.sort();
            let at = |share: usize| took[(took.len() - 1) * share / 100];
            let (count, median, p99, most) = (took.len(), at(50), at(99), at(100));
            eprintln!(
                "{count} {what} damages repaired within {median:?} (p99 {p99:?}, most {most:?})"
            );
        }
    }
}

#[test]
fn hostile_script_is_undone_in_time_and_others_do_not_notice() {
    let secs = env::var(SECS_VARIABLE)
        .ok()
        .and_then(|secs| secs.parse().ok());
    let duration = Duration::from_secs(secs.unwrap_or(SECS));
    let crowd = Crowd::new();
    let file = crowd.file.display().to_string();
    let agent = Resident::start(&crowd.machine, &crowd.host, &file);
    let streams = Crowd::streams();
    let resting = descriptors(agent.pid());
    let mut script = Script::new();
    let mut ledger = Ledger {
        agent: &agent,
        read: 0,
        open: Vec::new(),
        took: [Vec::new(), Vec::new()],
    };

    let start = Instant::now();
    let mut warm = None;
    let mut next = start;
    while start.elapsed() < duration {
        if Instant::now() >= next {
            let damage = script.choose(next);
            damage.inflict(&crowd.host);
            ledger.open.push((damage, Instant::now()));
            next += PERIOD;
        }
        ledger.watch();
        if start.elapsed() > WARM_UP {
            warm.get_or_insert_with(|| resident_kib(agent.pid()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    while !ledger.open.is_empty() {
        ledger.watch();
        thread::sleep(Duration::from_millis(5));
    }

    ledger.report();
    for stream in streams {
        stream.expect_complete();
    }
    wait_until("the plan is empty", || {
        agent::ciliate(&crowd.host, &format!("plan {file}")).code == Some(0)
    });
    let (before, after) = (
        warm.expect("it went on for a while"),
        resident_kib(agent.pid()),
    );
    eprintln!("resident memory: {before} KiB, then {after} KiB; {resting} descriptors");
    assert_eq!(
        descriptors(agent.pid()),
        resting,
        "descriptors should not grow"
    );
    assert!(after <= before + GROWTH_KIB, "memory should not grow");
}

/// Returns the resident memory of a process in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.expect("a number of KiB")
}
