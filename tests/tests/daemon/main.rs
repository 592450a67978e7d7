//! The resident agent: what it follows, what it leaves alone, how it begins and ends.

mod control;
mod edit;
mod end;
mod file;
mod hostile;
mod quiet;
mod reload;
mod repair;
mod start;
mod trial;

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode};
use tests::lab::resident::Resident;
use tests::lab::wait_until;

/// Where the agent notes what it repaired.
const DRIFT: &str = "/run/ciliate/edge-1/agent/drift.json";

/// How long a repair takes at the most of what is announced, and of what is not.
const ANNOUNCED: Duration = Duration::from_secs(1);
const UNANNOUNCED: Duration = Duration::from_secs(6);

/// Factor for a machine that others work on as well.
const BUSY: u32 = 3;

/// Says, whatever its value, that nobody else works on the machine.
const QUIET: &str = "CILIATE_QUIET_MACHINE";

/// Is a node that an agent keeps.
struct Kept {
    agent: Resident,
    net: OneNode,
}

impl Kept {
    fn new() -> Self {
        let net = OneNode::prepared();
        let agent = start(&net);
        Self { agent, net }
    }

    /// Damages something by a command, or by a value of a sysctl (`path=value`), which must be repaired in time.
    fn expect_repair(&self, place: &Namespace, damage: &str, within: Duration) {
        self.expect_repair_alone(place, damage, within);
        self.expect_nothing_to_do();
    }

    /// Does the same on a node that lacks something else.
    fn expect_repair_alone(&self, place: &Namespace, damage: &str, within: Duration) {
        let (before, start) = (repairs(), Instant::now());
        match damage.split_once('=') {
            Some((path, value)) => place.set_sysctl(path, value),
            None => drop(place.run(damage)),
        }
        while repairs() == before {
            assert!(
                start.elapsed() < within * busy(),
                "`{damage}` should be repaired within {within:?}:\n{}",
                self.agent.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
        eprintln!("{:?} after `{damage}`: repaired", start.elapsed());
    }

    fn expect_nothing_to_do(&self) {
        let line = format!("plan {}", self.net.file.display());
        wait_until("the plan is empty", || {
            agent::ciliate(&self.net.host, &line).code == Some(0)
        });
    }
}

/// Returns the factor for times on this machine.
fn busy() -> u32 {
    if is_quiet() { 1 } else { BUSY }
}

/// Starts an agent that keeps the node.
fn start(net: &OneNode) -> Resident {
    Resident::start(&net.machine, &net.host, &net.file.display().to_string())
}

/// Returns how many descriptors a process has while it rests: the fewest of some looks.
fn descriptors(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fd");
    let looks = (0..20).map(|_| {
        thread::sleep(Duration::from_millis(10));
        fs::read_dir(&folder).expect("the process runs").count()
    });
    looks.min().expect("some looks")
}

/// Returns how many objects the agents of the node repaired.
fn repairs() -> u64 {
    let text = fs::read(DRIFT).unwrap_or_default();
    let drift: Value = serde_json::from_slice(&text).unwrap_or_default();
    drift["repairs"].as_u64().unwrap_or(0)
}

/// Tells whether nobody else works on the machine.
fn is_quiet() -> bool {
    env::var_os(QUIET).is_some()
}

/// Returns the file of the node without its last endpoint.
fn without_api() -> &'static str {
    let (without_api, _) = FILE
        .rsplit_once("[[endpoint]]")
        .expect("the file has endpoints");
    without_api
}

fn has_api(net: &OneNode) -> bool {
    net.host.run("ip -br link show").contains("lxcapi")
}

/// Returns the processor time that a process took (`proc_pid_stat(5)`: fields 14 and 15).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the agent runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let times = fields.split(' ').skip(11).take(2);
    times
        .map(|time| time.parse::<u64>().expect("a number"))
        .sum()
}
