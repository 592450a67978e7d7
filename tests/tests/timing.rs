//! How long a cold `apply` takes.
//!
//! The figures are the agent's own (`--timings`). They hold for an optimised binary; another one
//! gets ten times as long. Each is the median of five runs.

use std::fmt::Write as _;

use ciliate::host::named;
use tests::lab::agent;
use tests::lab::machine::Machine;

const RUNS: usize = 5;

/// Marks the namespaces of this test.
const MARK: &str = "timing";

/// Factor for a binary that is not optimised.
const UNOPTIMISED: f64 = 10.0;

#[test]
fn cold_apply_is_quick() {
    for (endpoints, total_ms) in [(10, 60.0), (100, 400.0)] {
        let machine = Machine::new();
        let file = machine.write("ciliate.toml", &file(endpoints));
        let line = format!("apply {} --timings", file.display());
        let mut runs: Vec<(f64, f64, String)> = (0..RUNS)
            .map(|_| {
                let printed = agent::expect(&machine.own, &line, 0).stdout;
                agent::expect(&machine.own, "down", 0);
                (
                    millis(&printed, "total"),
                    millis(&printed, "load and verify"),
                    breakdown(&printed),
                )
            })
            .collect();
        runs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (total, _, breakdown) = &runs[RUNS / 2];
        let mut loads: Vec<f64> = runs.iter().map(|run| run.1).collect();
        loads.sort_by(f64::total_cmp);
        let load = loads[RUNS / 2];
        eprintln!("cold apply with {endpoints} endpoints:\n{breakdown}");

        let factor = if agent::is_release() {
            1.0
        } else {
            UNOPTIMISED
        };
        assert!(
            *total <= total_ms * factor,
            "{endpoints} endpoints should take {total_ms} ms: {breakdown}"
        );
        assert!(
            load <= 15.0 * factor,
            "loading should take 15 ms, not {load}"
        );
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
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix(phase))
        .expect("a line of the phase");
    let number = line.split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

fn breakdown(printed: &str) -> String {
    let times = |line: &&str| line.contains(" ms") && !line.starts_with(['+', ' ']);
    printed.lines().filter(times).collect::<Vec<_>>().join("\n")
}
