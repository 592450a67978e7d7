//! `cargo xtask test`: all stages in order, each with its time; the first that fails ends the run.
//!
//! Set-up counts apart. What was counted (test functions, checked examples, guest commands) is summed in the last line, in the
//! form that test runners use.

mod stage;
mod tally;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub(crate) use self::tally::Tally;
use crate::privilege::refuse_foreign_files;
use crate::setup::{self, Group};
use crate::workspace;

struct Stage {
    name: &'static str,
    run: fn(&mut Tally) -> Result<()>,
}

const STAGES: [Stage; 10] = [
    Stage {
        name: "format",
        run: stage::format,
    },
    Stage {
        name: "lints",
        run: stage::lints,
    },
    Stage {
        name: "lints of the BPF programs",
        run: stage::bpf_lints,
    },
    Stage {
        name: "build",
        run: stage::build,
    },
    Stage {
        name: "unit and golden tests",
        run: stage::unit,
    },
    Stage {
        name: "privileged tests",
        run: stage::privileged,
    },
    Stage {
        name: "compliance sheet",
        run: stage::compliance,
    },
    Stage {
        name: "examples",
        run: stage::examples,
    },
    Stage {
        name: "demo",
        run: stage::demo,
    },
    Stage {
        name: "guest with kernel 6.1",
        run: stage::guest,
    },
];

const LATER_STAGES: [Stage; 4] = [
    Stage {
        name: "long runs",
        run: stage::long_runs,
    },
    Stage {
        name: "benchmark",
        run: stage::bench,
    },
    Stage {
        name: "licences",
        run: stage::licences,
    },
    Stage {
        name: "fuzzing",
        run: stage::fuzz,
    },
];

struct Done {
    name: &'static str,
    took: Duration,
    tally: Tally,
}

pub(crate) fn run(full: bool) -> Result<()> {
    let took = setup::run(if full { Group::Full } else { Group::Test })?;
    let later = if full { LATER_STAGES.as_slice() } else { &[] };
    let mut done = Vec::new();
    let outcome = STAGES
        .iter()
        .chain(later)
        .try_for_each(|stage| run_stage(stage, &mut done));
    print_summary(took, &done);
    outcome?;
    refuse_foreign_files(&workspace::target())
}

fn run_stage(stage: &Stage, done: &mut Vec<Done>) -> Result<()> {
    println!("\n== {}", stage.name);
    let start = Instant::now();
    let mut tally = Tally::default();
    let result = (stage.run)(&mut tally).and_then(|()| tally.require_no_failure());
    if result.is_err() && tally.failed == 0 {
        // Something that is no test function failed.
        tally.failed = 1;
    }
    done.push(Done {
        name: stage.name,
        took: start.elapsed(),
        tally,
    });
    result.with_context(|| format!("stage {}", stage.name))
}

fn print_summary(setup: Duration, done: &[Done]) {
    println!("\n{:<28} {:>8}", "stage", "seconds");
    let mut sum = Tally::default();
    let mut took = Duration::ZERO;
    for stage in done {
        println!(
            "{:<28} {:>8.1}  {}",
            stage.name,
            stage.took.as_secs_f32(),
            stage.tally.brief()
        );
        sum += stage.tally;
        took += stage.took;
    }
    println!(
        "{:<28} {:>8.1}  (set-up apart: {:.1})",
        "all",
        took.as_secs_f32(),
        setup.as_secs_f32()
    );
    println!(
        "\n{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.ignored
    );
}
