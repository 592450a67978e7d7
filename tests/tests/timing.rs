//! How long a cold `apply` takes.
//!
//! The figures are the agent's own (`--timings`), the median of five runs. They hold for an optimised
//! binary on a machine that does nothing else, which `CILIATE_QUIET_MACHINE` says; a busy one gets
//! three times as long, and a binary that is not optimised ten times. The kernel takes the namespaces of earlier tests
//! apart in the background, under the same lock that links are made under: so there are three
//! attempts to meet the figures.

use std::env;
use std::fmt::Write as _;

use ciliate::host::named;
use tests::lab::agent;
use tests::lab::machine::Machine;

const RUNS: usize = 5;
const ATTEMPTS: usize = 3;

/// Marks the namespaces of this test.
const MARK: &str = "timing";

/// Factor for a binary that is not optimised.
const UNOPTIMISED: f64 = 10.0;

/// Factor for a machine that others work on as well.
const BUSY: f64 = 3.0;

/// Says, whatever its value, that nobody else works on the machine.
const QUIET: &str = "CILIATE_QUIET_MACHINE";

/// Is what one run took, in milliseconds.
struct Run {
    total: f64,
    load: f64,
    breakdown: String,
}

#[test]
fn cold_apply_takes_120_ms_with_ten_endpoints_and_480_with_a_hundred() {
    // More than half of it is the verifier's: the two slow paths have some 30,000 instructions each
    // for it to look at.
    expect_cold_apply(10, 120.0, 75.0);
    expect_cold_apply(100, 480.0, 90.0);
}

/// Sets a node up and takes it down; it must take so many milliseconds, and so many of them for
/// loading.
fn expect_cold_apply(endpoints: usize, total: f64, load: f64) {
    let build = if agent::is_release() {
        1.0
    } else {
        UNOPTIMISED
    };
    let factor = if env::var_os(QUIET).is_some() {
        build
    } else {
        build * BUSY
    };
    let machine = Machine::new();
    let file = machine.write("ciliate.toml", &file(endpoints));
    let line = format!("apply {} --timings", file.display());
    let is_met = (0..ATTEMPTS).any(|_| {
        let mut runs: Vec<Run> = (0..RUNS).map(|_| cold_apply(&machine, &line)).collect();
        runs.sort_by(|one, other| one.load.total_cmp(&other.load));
        let typical_load = runs[RUNS / 2].load;
        runs.sort_by(|one, other| one.total.total_cmp(&other.total));
        let typical = &runs[RUNS / 2];
        let breakdown = &typical.breakdown;
        eprintln!("cold apply with {endpoints} endpoints:\n{breakdown}");
        typical.total <= total * factor && typical_load <= load * factor
    });
    assert!(
        is_met,
        "{endpoints} endpoints should take {total} ms, loading {load} ms of them, times {factor}"
    );
}

fn cold_apply(machine: &Machine, line: &str) -> Run {
    let printed = agent::expect(&machine.own, line, 0).stdout;
    agent::expect(&machine.own, "down", 0);
    Run {
        total: millis(&printed, "total"),
        load: millis(&printed, "load and verify"),
        breakdown: breakdown(&printed),
    }
}

/// Returns a file with so many endpoints, whose namespaces are there afterwards.
fn file(endpoints: usize) -> String {
    let mut text =
        "[[node]]\nname = \"edge-1\"\nipv4 = \"10.0.0.0/16\"\nipv6 = \"fd00:1::/64\"\n".to_owned();
    for number in 0..endpoints {
        named::create(&format!("e{number}"), MARK).expect("create a namespace");
        write!(text, "\n[[endpoint]]\nname = \"e{number}\"\n").expect("a text grows");
    }
    text
}

/// Reads a line such as `load and verify          12.34 ms  (2)`.
fn millis(printed: &str, phase: &str) -> f64 {
    let line = printed.lines().find_map(|line| line.strip_prefix(phase));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a line with the time of the phase")
}

fn breakdown(printed: &str) -> String {
    let times = |line: &&str| line.contains(" ms") && !line.starts_with(['+', ' ']);
    printed.lines().filter(times).collect::<Vec<_>>().join("\n")
}
