//! What a policy costs as it grows: packets of established connections, first packets of new ones,
//! and the change of one rule.
//!
//! An endpoint may reach a list of addresses outside, and nothing else. The list grows; its
//! addresses are either all treated alike, as those of one rule are, or each in a way of its own.
//! The sizes take turns, and only ratios to the smallest one mean something.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use aya::programs::SchedClassifier;
use aya_obj::generated::bpf_map_type;
use ciliate::datapath::execute::Executor;
use ciliate::datapath::table;
use ciliate::plan::object::{Key, Value};
use ciliate::plan::policy::{Decision, Direction, Entry, EntryKey, Policy, Verdict};
use ciliate::topology::Prefix;
use datapath::checksum::fold;
use datapath::hook::Hook;
use ipnet::{IpNet, Ipv4Net};

use crate::bed::{Bed, SLOT_TWO};
use crate::case::{REDIRECT, say};
use crate::frame::{ESTABLISHED, Family, SYN, SYN_ACK, tcp, udp};
use crate::measure::{Input, Spread, run};
use crate::uplink::FAR4;
use crate::wrapper::{DESTINATIONS, Vary, Wrapped, wrap};

const SIZES: [usize; 3] = [10, 1_000, 100_000];

/// First packets in each round: fewer than make the ports repeat.
const FIRST_PACKETS: u32 = 60_000;

/// Number of the policy, and the identity of all addresses that are treated alike.
const POLICY: u32 = 7;
const CLASS: u32 = 0x0100_0000;

/// Most that a figure may be, as a multiple of the one of the smallest list.
const ESTABLISHED_MAX: f64 = 1.03;
const HOT_MAX: f64 = 1.5;
const RANDOM_MAX: f64 = 2.0;

/// Longest that one more rule on top of the largest list may take.
const EDIT_MAX: Duration = Duration::from_millis(10);
const LOAD_MAX: Duration = Duration::from_secs(1);

/// Measures all sizes and judges what came of it.
///
/// # Errors
/// When something cannot be measured, or costs more than it may.
pub(crate) fn measure(bed: &Bed, rounds: u32, runs: u32) -> Result<String> {
    let mut executor = Executor::new(bed.pins.clone(), 1 << 30)?;
    let mut text = String::new();
    let mut faults = Vec::new();
    for kind in [Kind::Alike, Kind::Apart] {
        let mut growth = Growth::new(bed, kind)?;
        for _ in 0..rounds {
            growth.round(bed, &mut executor, runs)?;
        }
        text += &growth.report(&mut faults);
    }
    ensure!(faults.is_empty(), "{text}{}", faults.join("\n"));
    Ok(text)
}

/// Tells how the addresses of a list are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Alike,
    Apart,
}

/// Is one size of the list, and what it costs.
struct Size {
    policy: Arc<Policy>,
    /// The same with a rule more, and with an address more.
    edited: [Arc<Policy>; 2],
    /// Goes to one address of the list, and to all of them in random order.
    hot: Wrapped,
    random: Wrapped,
    hot_ns: Vec<f64>,
    random_ns: Vec<f64>,
    established_ns: Vec<f64>,
    load: Vec<f64>,
    /// How long each of the two edits took.
    edits: [Vec<f64>; 2],
}

struct Growth {
    kind: Kind,
    sizes: Vec<Size>,
    established: Wrapped,
    /// The wrappers alone.
    bare_first: Wrapped,
    bare_established: Wrapped,
}

impl Growth {
    fn new(bed: &Bed, kind: Kind) -> Result<Self> {
        let program = bed.program(Hook::FromContainer)?;
        let empty = crate::empty(bed)?;
        let two = &bed.two;
        let first = udp(Family::V4, two, &bed.far, [0; 2]);
        let segment = tcp(Family::V4, two, &bed.one, PORTS, ESTABLISHED);
        let wrapped = |frame, vary, table: &OwnedFd, program: &SchedClassifier| {
            wrap(&bed.loader, frame, vary, table.as_fd(), program)
        };
        let nothing = destinations(&[listed(0)])?;
        let mut sizes = Vec::new();
        for size in SIZES {
            let addresses: Vec<_> = (0..size).map(listed).collect();
            let random = destinations(&addresses)?;
            let hot = destinations(&addresses[..1])?;
            sizes.push(Size {
                policy: policy(kind, &addresses),
                edited: [
                    with_rule(&policy(kind, &addresses)),
                    policy(kind, &(0..=size).map(listed).collect::<Vec<_>>()),
                ],
                hot: wrapped(&first, Vary::NewTo, &hot, &program)?,
                random: wrapped(&first, Vary::NewTo, &random, &program)?,
                hot_ns: Vec::new(),
                random_ns: Vec::new(),
                established_ns: Vec::new(),
                load: Vec::new(),
                edits: [Vec::new(), Vec::new()],
            });
        }
        Ok(Self {
            kind,
            sizes,
            established: wrapped(&segment, Vary::Same, &nothing, &program)?,
            bare_first: wrapped(&first, Vary::NewTo, &nothing, &empty)?,
            bare_established: wrapped(&segment, Vary::Same, &nothing, &empty)?,
        })
    }

    fn round(&mut self, bed: &Bed, executor: &mut Executor, runs: u32) -> Result<()> {
        let round = u32::try_from(self.sizes[0].hot_ns.len())?;
        let first = udp(Family::V4, &bed.two, &bed.far, [0; 2]);
        let segment = tcp(Family::V4, &bed.two, &bed.one, PORTS, ESTABLISHED);
        for size in &mut self.sizes {
            let nothing = Arc::default();
            set(bed, executor, [&nothing, &nothing])?;
            let load = set(bed, executor, [&nothing, &size.policy])?;
            size.load.push(load.as_secs_f64());
            connect(bed)?;
            let input = |frame, count| Input {
                frame,
                ifindex: bed.two.ifindex,
                ingress: 0,
                count,
            };
            let timed = |wrapped: &Wrapped, frame, count, runs| -> Result<f64> {
                run(&wrapped.entry, input(frame, count), runs / 10)?;
                let (returned, ns) = run(&wrapped.entry, input(frame, count + runs / 10), runs)?;
                let drops = || table::read_drops(&bed.pins);
                ensure!(returned == REDIRECT, "returned {returned}: {:?}", drops());
                Ok(ns)
            };
            // New flows of a round are new to the rounds before it, too.
            let count = round * FIRST_PACKETS * 2;
            let bare = timed(&self.bare_first, &first, count, FIRST_PACKETS)?;
            let hot = timed(&size.hot, &first, count, FIRST_PACKETS)?;
            let random = timed(&size.random, &first, count, FIRST_PACKETS)?;
            size.hot_ns.push(hot - bare);
            size.random_ns.push(random - bare);
            let bare = timed(&self.bare_established, &segment, 0, runs)?;
            let established = timed(&self.established, &segment, 0, runs)?;
            size.established_ns.push(established - bare);
            let mut before = &size.policy;
            for (edited, took) in size.edited.iter().zip(&mut size.edits) {
                took.push(set(bed, executor, [before, edited])?.as_secs_f64());
                before = edited;
            }
            set(bed, executor, [before, &nothing])?;
        }
        Ok(())
    }

    /// Writes the figures, and what of them is too much.
    fn report(&self, faults: &mut Vec<String>) -> String {
        let mut text = format!(
            "policy whose addresses are treated {}: ns for each packet, and as a multiple of the \
             first line\n{:>9} {:>18} {:>18} {:>18} {:>10} {:>10} {:>10}\n",
            match self.kind {
                Kind::Alike => "alike",
                Kind::Apart => "each in its own way",
            },
            "addresses",
            "established",
            "first, one",
            "first, random",
            "load ms",
            "+rule ms",
            "+addr ms"
        );
        let median = |figures: &[f64]| Spread::of(figures).median;
        let base = &self.sizes[0];
        for (size, addresses) in self.sizes.iter().zip(SIZES) {
            let cell = |of: fn(&Size) -> &Vec<f64>, most: f64, faults: &mut Vec<String>| {
                let ratios: Vec<f64> = of(size)
                    .iter()
                    .zip(of(base))
                    .map(|(ns, base)| ns / base)
                    .collect();
                let ratio = median(&ratios);
                if ratio > most {
                    faults.push(format!(
                        "{addresses} addresses: {ratio:.2}, more than {most}"
                    ));
                }
                format!("{:>10.1} × {ratio:>5.2}", median(of(size)))
            };
            let established = cell(|size| &size.established_ns, ESTABLISHED_MAX, faults);
            let hot = cell(|size| &size.hot_ns, HOT_MAX, faults);
            // What rules treat alike has one identity, so the other kind does not grow so large.
            let most = if self.kind == Kind::Alike {
                RANDOM_MAX
            } else {
                f64::INFINITY
            };
            let random = cell(|size| &size.random_ns, most, faults);
            let [rule, address] = size.edits.each_ref().map(|edit| median(edit));
            let load = median(&size.load);
            for (what, took, most) in [("load", load, LOAD_MAX), ("edit", rule, EDIT_MAX)] {
                if took > most.as_secs_f64() {
                    faults.push(format!("{addresses} addresses: {what} took {took:.3} s"));
                }
            }
            text += &format!(
                "{addresses:>9} {established} {hot} {random} {:>10.1} {:>10.1} {:>10.1}\n",
                load * 1e3,
                rule * 1e3,
                address * 1e3
            );
        }
        text
    }
}

const PORTS: [u16; 2] = [41_000, 81];

/// Makes the connection of the established packets known under the present policy.
fn connect(bed: &Bed) -> Result<()> {
    let (from, to, back) = (&bed.two, &bed.one, [PORTS[1], PORTS[0]]);
    say(bed, from, &tcp(Family::V4, from, to, PORTS, SYN))?;
    say(bed, to, &tcp(Family::V4, to, from, back, SYN_ACK))?;
    say(bed, from, &tcp(Family::V4, from, to, PORTS, ESTABLISHED))?;
    Ok(())
}

/// Makes a policy hold in place of another one; returns how long it took until it did.
fn set(bed: &Bed, executor: &mut Executor, policies: [&Arc<Policy>; 2]) -> Result<Duration> {
    let [before, after] = policies.map(|policy| Value::Policy(Arc::clone(policy)));
    let generation = || table::read_node(&bed.pins).map(|node| node.generation);
    let present = generation()?;
    thread::scope(|scope| {
        let start = Instant::now();
        let watch = scope.spawn(move || -> Result<Duration> {
            while generation()? == present {
                thread::sleep(Duration::from_micros(100));
            }
            Ok(start.elapsed())
        });
        executor
            .set(&Key::Policy, Some(&before), &after, 0)
            .context("set policy")?;
        watch
            .join()
            .map_err(|_| anyhow::anyhow!("watch the generation: the thread panicked"))?
    })
}

/// Returns an address of the list: neighbours in the list are far apart.
fn listed(index: usize) -> Ipv4Addr {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let [_, low @ ..] = index.wrapping_mul(0x009e_3779).to_be_bytes();
    Ipv4Addr::new(60, low[0], low[1], low[2])
}

fn policy(kind: Kind, addresses: &[Ipv4Addr]) -> Arc<Policy> {
    let allow = Verdict {
        decision: Decision::Allow,
        term: 1,
    };
    let deny = Verdict {
        decision: Decision::Deny,
        term: 0,
    };
    let key = |direction, identity| EntryKey {
        subject: POLICY,
        direction,
        identity,
    };
    let mut policy = crate::bed::policy();
    let two = policy.subjects.entry(SLOT_TWO).or_default();
    two.policy = POLICY;
    let others = [
        (key(Direction::Egress, 0), deny),
        (key(Direction::Egress, 1_001), allow),
        (key(Direction::Ingress, 0), allow),
    ];
    let entry = |(key, verdict)| (key, Entry { row: 0, verdict });
    policy.entries.extend(others.map(entry));
    for (address, index) in addresses.iter().zip(0..) {
        let identity = match kind {
            Kind::Alike => CLASS,
            Kind::Apart => CLASS + index,
        };
        let prefix = Prefix {
            identity,
            excluded: true,
        };
        let net = IpNet::V4(Ipv4Net::from(*address));
        policy.prefixes.insert(net, prefix);
        let allowed = entry((key(Direction::Egress, identity), allow));
        policy.entries.insert(allowed.0, allowed.1);
    }
    Arc::new(policy)
}

type Table = [[u32; 2]; DESTINATIONS as usize];

/// Returns a policy with one more rule, which speaks of another endpoint.
fn with_rule(policy: &Policy) -> Arc<Policy> {
    let mut policy = policy.clone();
    let key = EntryKey {
        subject: POLICY,
        direction: Direction::Ingress,
        identity: 1_001,
    };
    let verdict = Verdict {
        decision: Decision::Deny,
        term: 2,
    };
    policy.entries.insert(key, Entry { row: 0, verdict });
    Arc::new(policy)
}

/// Makes a table of destinations, in the order of the wire: the list over and over.
fn destinations(addresses: &[Ipv4Addr]) -> Result<OwnedFd> {
    let len = DESTINATIONS * 8;
    let map = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, len, 1, 0);
    let data = MapData::create(map, "bench_targets", None).context("create table")?;
    let fd = data
        .fd()
        .as_fd()
        .try_clone_to_owned()
        .context("duplicate descriptor")?;
    let entry = |address: &Ipv4Addr| {
        let word = u32::from_ne_bytes(address.octets());
        [word, u32::from(identification(*address))]
    };
    let entries = addresses.iter().cycle().map(entry);
    let entries: Box<[_]> = entries.take(DESTINATIONS as usize).collect();
    let entries: Box<Table> = entries
        .try_into()
        .map_err(|_| anyhow::anyhow!("wrong number of destinations"))?;
    let mut table = Array::<_, Table>::try_from(Map::from_map_data(data)?)?;
    table.set(0, entries, 0).context("fill table")?;
    Ok(fd)
}

/// Returns the identification with which a header to this address has the checksum of one to the
/// bench's far end, whose identification is 0.
fn identification(address: Ipv4Addr) -> u16 {
    let sum = |address: Ipv4Addr| {
        let [a, b, c, d] = address.octets();
        u64::from(u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, d]))
    };
    // What the address adds, the identification takes away again.
    fold(sum(FAR4) + u64::from(!fold(sum(address))))
}
