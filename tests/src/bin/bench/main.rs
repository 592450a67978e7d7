//! Nanoseconds per packet of each hook, by `BPF_PROG_TEST_RUN` with live maps.
//!
//! Usage: `cargo run --release -p tests --bin bench -- --quick`, as root. Each program runs a
//! million times per round behind a wrapper that restores the packet; the rounds of all cases
//! take turns, so that what else the machine does hits all of them. Only ratios within one run
//! mean something on another machine.
//!
//! # Layout
//! - [`bed`], [`uplink`]: the node: namespaces, links, maps, programs
//! - [`frame`], [`wrapper`], [`assembler`]: packets, and what restores them
//! - [`case`], [`masquerade`], [`cold`], [`part`]: what is measured
//! - [`growth`]: policies of several sizes
//! - [`measure`], [`report`]: the clock and the table

mod assembler;
mod bed;
mod case;
mod cold;
mod frame;
mod growth;
mod masquerade;
mod measure;
mod part;
mod report;
mod uplink;
mod wrapper;

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::SchedClassifier;
use ciliate::datapath::object::DIGEST;
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use assembler::Assembler;
use bed::Bed;
use case::{Case, Group, REDIRECT};
use frame::{ESTABLISHED, Family, tcp};
use measure::{Input, Spread, run};
use report::{Line, Report, Sum};
use wrapper::{Wrapped, wrap};

/// Rounds with and without `--quick`.
const QUICK_ROUNDS: u32 = 7;
const ROUNDS: u32 = 21;
const GROWTH_QUICK_ROUNDS: u32 = 3;
const GROWTH_ROUNDS: u32 = 9;

/// Measures the datapath's cost per packet.
#[derive(Debug, Parser)]
struct Arguments {
    /// Take 7 rounds instead of 21
    #[arg(long)]
    quick: bool,
    /// Write the figures to a file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if this case costs more than this, net of the wrapper
    #[arg(long, value_name = "CASE=NS", value_parser = limit)]
    max_net_ns: Vec<Limit>,
    /// Measure what policies cost as they grow, and nothing else
    #[arg(long)]
    growth: bool,
    /// Measure only cases whose name contains one of these
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Runs in each round
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Rounds
    #[arg(long)]
    rounds: Option<u32>,
    /// Processor to run on; the last one if not given
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let last = std::thread::available_parallelism()?.get() - 1;
    let cpu = arguments.cpu.unwrap_or(last);
    pin_to(cpu)?;
    let bed = Bed::new()?;
    if arguments.growth {
        let rounds = if arguments.quick {
            GROWTH_QUICK_ROUNDS
        } else {
            GROWTH_ROUNDS
        };
        let text = growth::measure(&bed, arguments.rounds.unwrap_or(rounds), arguments.runs)?;
        return io::stdout()
            .write_all(text.as_bytes())
            .context("write to stdout");
    }
    let report = measure_all(&bed, &arguments, cpu)?;
    io::stdout()
        .write_all(report.table()?.as_bytes())
        .context("write to stdout")?;
    if let Some(path) = &arguments.json {
        report.write_json(path)?;
    }
    judge(&report, &arguments.max_net_ns)
}

/// Is the most that a case may cost.
#[derive(Clone, Debug)]
struct Limit {
    id: String,
    net_ns: f64,
}

fn limit(text: &str) -> Result<Limit> {
    let (id, number) = text.split_once('=').context("not of the form CASE=NS")?;
    Ok(Limit {
        id: id.to_owned(),
        net_ns: number.parse().context("not a number of nanoseconds")?,
    })
}

/// Fails if cases cost more than they may, and names all of them.
fn judge(report: &Report, limits: &[Limit]) -> Result<()> {
    let mut faults = Vec::new();
    for Limit { id, net_ns: limit } in limits {
        match report.net_ns(id) {
            None => faults.push(format!("{id}: not measured, cannot be judged")),
            Some(net_ns) if net_ns > *limit => {
                faults.push(format!("{id}: {net_ns:.1} ns, more than {limit} ns"));
            }
            Some(_) => {}
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Is a case with its wrapper, the same wrapper in front of nothing, and what came out.
struct Bench {
    case: Case,
    wrapped: Wrapped,
    /// What the untimed runs go to.
    warm: Wrapped,
    bare: Wrapped,
    gross_ns: Vec<f64>,
    wrapper_ns: Vec<f64>,
}

fn measure_all(bed: &Bed, arguments: &Arguments, cpu: usize) -> Result<Report> {
    let ports = wrapper::ports_table()?;
    let empty = empty(bed)?;
    let wanted = |case: &Case| {
        arguments.only.is_empty() || arguments.only.iter().any(|text| case.id.contains(text))
    };
    let mut cases = vec![reference(bed)?];
    cases.extend(case::hooks(bed)?);
    cases.extend(part::cases(bed)?);
    let mut benches = Vec::new();
    for case in cases.into_iter().filter(wanted) {
        benches.push(prepare(bed, case, &empty, ports.as_fd())?);
    }
    for bench in &benches {
        case::check(&bed.pins, &bench.case, &bench.wrapped.entry)?;
    }
    for case in cold::cases(bed, ports.as_fd())?.into_iter().filter(wanted) {
        benches.push(prepare(bed, case, &empty, ports.as_fd())?);
    }
    let default = if arguments.quick {
        QUICK_ROUNDS
    } else {
        ROUNDS
    };
    let rounds = arguments.rounds.unwrap_or(default);
    let frame = tcp(Family::V4, &bed.one, &bed.two, [40_000, 80], ESTABLISHED);
    let idle = Input {
        frame: &frame,
        ifindex: bed.one.ifindex,
        ingress: 0,
        count: 0,
    };
    let mut empty_ns = Vec::new();
    for _ in 0..rounds {
        empty_ns.push(run(&empty, idle, arguments.runs)?.1);
        for bench in &mut benches {
            bench.round(arguments.runs)?;
        }
    }
    Ok(Report {
        kernel: kernel()?,
        cpu: processor()?,
        cpu_number: cpu,
        object: DIGEST.to_owned(),
        runs: arguments.runs,
        rounds,
        empty_ns: Spread::of(&empty_ns),
        cases: lines(&benches, &empty_ns),
    })
}

/// Returns the lines of all cases and of their sums.
fn lines(benches: &[Bench], empty_ns: &[f64]) -> Vec<Line> {
    let cases = benches.iter().map(|bench| bench.line(empty_ns));
    let find = |id: &str| benches.iter().find(|bench| bench.case.id == id);
    let sums = masquerade::sums().into_iter().filter_map(|sum| {
        let [one, other] = sum.parts.each_ref().map(|id| find(id));
        Some(one?.plus(other?, sum, empty_ns))
    });
    cases.chain(sums).collect()
}

fn prepare(bed: &Bed, case: Case, empty: &SchedClassifier, ports: BorrowedFd<'_>) -> Result<Bench> {
    let wrapped = wrap(&bed.loader, &case.frame, case.vary, ports, &case.program)?;
    let warm = case.warmed_by.as_ref().unwrap_or(&case.program);
    let warm = wrap(&bed.loader, &case.frame, case.vary, ports, warm)?;
    let bare = wrap(&bed.loader, &case.frame, case.vary, ports, empty)?;
    Ok(Bench {
        case,
        wrapped,
        warm,
        bare,
        gross_ns: Vec::new(),
        wrapper_ns: Vec::new(),
    })
}

impl Bench {
    /// Takes one figure each of the program and of its wrapper.
    fn round(&mut self, runs: u32) -> Result<()> {
        let warm_runs = &self.case.warm_runs;
        let runs = self.case.runs.unwrap_or(runs);
        // New flows of a round are new to the rounds before it, too.
        let done = u32::try_from(self.gross_ns.len())?;
        let count = done.wrapping_mul(runs.wrapping_add(*warm_runs));
        let input = self.case.input(count);
        if *warm_runs != 0 {
            run(&self.bare.entry, input, *warm_runs)?;
        }
        self.wrapper_ns.push(run(&self.bare.entry, input, runs)?.1);
        if *warm_runs != 0 {
            run(&self.warm.entry, input, *warm_runs)?;
        }
        let input = Input {
            count: count.wrapping_add(*warm_runs),
            ..input
        };
        let (returned, gross_ns) = run(&self.wrapped.entry, input, runs)?;
        if returned != self.case.returns {
            bail!(
                "{}: returned {returned}, not {}",
                self.case.id,
                self.case.returns
            );
        }
        self.gross_ns.push(gross_ns);
        Ok(())
    }

    fn line(&self, empty_ns: &[f64]) -> Line {
        let Case {
            id, title, group, ..
        } = &self.case;
        let name = (id.clone(), title.clone(), *group);
        line(name, &self.gross_ns, &self.wrapper_ns, empty_ns)
    }

    /// Returns the line of a packet that goes through this program, then through the other.
    fn plus(&self, other: &Self, sum: Sum, empty_ns: &[f64]) -> Line {
        let add = |one: &[f64], other: &[f64]| -> Vec<f64> {
            one.iter()
                .zip(other)
                .map(|(one, other)| one + other)
                .collect()
        };
        let gross_ns = add(&self.gross_ns, &other.gross_ns);
        let wrapper_ns = add(&self.wrapper_ns, &other.wrapper_ns);
        line(
            (sum.id, sum.title, sum.group),
            &gross_ns,
            &wrapper_ns,
            empty_ns,
        )
    }
}

/// Makes a line of what the rounds gave.
fn line(
    (id, title, group): (String, String, Group),
    gross_ns: &[f64],
    wrapper_ns: &[f64],
    empty_ns: &[f64],
) -> Line {
    let pairs = |with: &[f64], join: fn(f64, f64) -> f64| {
        let joined: Vec<f64> = gross_ns
            .iter()
            .zip(with)
            .map(|(gross, other)| join(*gross, *other))
            .collect();
        Spread::of(&joined)
    };
    Line {
        id,
        title,
        group,
        gross_ns: Spread::of(gross_ns),
        wrapper_ns: Spread::of(wrapper_ns),
        net_ns: pairs(wrapper_ns, |gross, wrapper| gross - wrapper),
        ratio: pairs(empty_ns, |gross, empty| gross / empty),
    }
}

/// Makes a program that returns at once what a redirect returns.
fn empty(bed: &Bed) -> Result<SchedClassifier> {
    let mut code = Assembler::default();
    code.exit_with(REDIRECT.cast_signed());
    bed.loader.load("bench_empty", &code.finish())
}

/// Makes the case whose net figure is 0 but for noise.
fn reference(bed: &Bed) -> Result<Case> {
    let frame = tcp(Family::V4, &bed.one, &bed.two, [40_000, 80], ESTABLISHED);
    let name = (
        Group::Reference,
        "empty",
        "wrapper, empty program (net: noise)",
    );
    Ok(Case::new(
        name,
        empty(bed)?,
        (frame, bed.one.ifindex),
        REDIRECT,
    ))
}

fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("choose CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pin to CPU {cpu}"))
}

fn kernel() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    Ok(fs::read_to_string(path)
        .with_context(|| format!("read {path}"))?
        .trim()
        .to_owned())
}

fn processor() -> Result<String> {
    let path = "/proc/cpuinfo";
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = line
        .and_then(|line| line.split_once(':'))
        .map_or("unknown CPU", |(_, name)| name);
    Ok(name.trim().to_owned())
}
