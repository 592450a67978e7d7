//! Runs programs and takes the time.
//!
//! The time is the processor time of this thread around `BPF_PROG_TEST_RUN`, which leaves out
//! what else runs on the processor meanwhile; the kernel's own figure is whole nanoseconds only.
//! Entering the kernel is part of it and vanishes in a million runs.

use anyhow::{Context, Result, ensure};
use aya::TestRun as _;
use aya::programs::{SchedClassifier, TestRunOptions};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

use crate::frame::Frame;

/// Length of the part of `__sk_buff` that we give, and where fields stand in it.
const CONTEXT_LEN: usize = 68;
const CONTEXT_INGRESS_IFINDEX: usize = 36;
const CONTEXT_IFINDEX: usize = 40;
const CONTEXT_COUNT: usize = 64;

/// Is a packet at a link, ready to be run.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) ifindex: u32,
    /// Link that the packet came into the namespace by; 0 for none.
    pub(crate) ingress: u32,
    /// Number of the first run.
    pub(crate) count: u32,
}

/// Runs a program `runs` times; returns what the last run returned and the nanoseconds per run.
///
/// # Errors
/// When the kernel refuses the run.
pub(crate) fn run(program: &SchedClassifier, input: Input<'_>, runs: u32) -> Result<(u32, f64)> {
    let context = context(input);
    let mut options = TestRunOptions::new();
    options.data_in = Some(&input.frame.bytes);
    options.ctx_in = Some(&context);
    options.repeat = runs;
    let start = cpu_time()?;
    let result = program.test_run(options).context("run program")?;
    let spent = cpu_time()?.saturating_sub(start);
    Ok((
        result.return_value,
        spent.as_secs_f64() * 1e9 / f64::from(runs),
    ))
}

/// Runs a program `runs` times and expects a return value; returns the packet as it is afterwards.
///
/// # Errors
/// When the kernel refuses the run, or the program returns something else.
pub(crate) fn packet_after(
    program: &SchedClassifier,
    input: Input<'_>,
    runs: u32,
    expected: u32,
) -> Result<Vec<u8>> {
    let context = context(input);
    let mut out = vec![0; input.frame.bytes.len()];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&input.frame.bytes);
    options.data_out = Some(&mut out);
    options.ctx_in = Some(&context);
    options.repeat = runs;
    let result = program.test_run(options).context("run program")?;
    let found = result.return_value;
    ensure!(
        found == expected,
        "program returned {found}, not {expected}"
    );
    Ok(out)
}

fn context(input: Input<'_>) -> [u8; CONTEXT_LEN] {
    let mut context = [0; CONTEXT_LEN];
    let fields = [
        (CONTEXT_INGRESS_IFINDEX, input.ingress),
        (CONTEXT_IFINDEX, input.ifindex),
        (CONTEXT_COUNT, input.count),
    ];
    for (offset, value) in fields {
        context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    context
}

fn cpu_time() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read clock")?;
    Ok(Duration::from(time))
}

/// Sums up the rounds of a figure, in nanoseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Sums up; of no figures all three are 0.
    pub(crate) fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        let last = sorted.len().saturating_sub(1);
        Self {
            min: at(0),
            median: at(last / 2).midpoint(at(last.div_ceil(2))),
            max: at(last),
        }
    }
}
