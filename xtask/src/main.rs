//! `cargo xtask <verb>`: one entry for people and for CI.
//!
//! # Layout
//! - [`setup`]: installs what is missing: toolchain parts, bpf-linker, Debian packages
//! - [`build`]: cargo builds and the executables they give
//! - [`demo`]: the lab brought up, spoken through and taken down
//! - [`test`]: all stages of the tests with their times
//! - [`vm`]: a Debian kernel under QEMU with the programs and tests inside
//! - [`bench`]: figures per packet
//! - [`compliance`]: requirements of masquerading, row by row
//! - [`process`], [`privilege`], [`workspace`]: child processes, sudo, paths
//!
//! Everything is built as the caller; only what needs root goes through sudo, unless the caller is root.
#![expect(
    clippy::print_stdout,
    reason = "a task runner talks to the person who typed it"
)]

mod bench;
mod build;
mod compliance;
mod demo;
mod privilege;
mod process;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::setup::Group;

/// Tasks of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing for `test` (or, with --demo, for `demo`) and say what it was
    Setup {
        /// Only what the demo uses
        #[arg(long)]
        demo: bool,
    },
    /// Bring a lab up in fresh network namespaces, send packets through it, take it down without a trace
    Demo,
    /// Format, lints, unit, privileged, example and guest tests, each with its time
    Test {
        /// Also long runs, the benchmark's limit, fuzzing for a minute per target, licences
        #[arg(long)]
        full: bool,
    },
    /// Boot a Debian kernel under QEMU and run programs and tests in it
    Vm {
        /// The kernel series
        #[arg(default_value = "6.1")]
        kernel: String,
        /// Run this shell command in the guest instead of the usual ones
        #[arg(long, value_name = "COMMAND")]
        run: Option<String>,
    },
    /// Build the programs that tests of upgrades upgrade to, beside the plain ones
    Variants,
    /// Measure the cost of each hook per packet
    Bench {
        /// Fewer rounds: a figure within minutes
        #[arg(long)]
        quick: bool,
    },
    /// Test the requirements of masquerading row by row and write tests/NAT-COMPLIANCE.md
    Compliance,
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup { demo: true } => setup::run(Group::Demo).map(|_| ()),
        Verb::Setup { demo: false } => setup::run(Group::Test).map(|_| ()),
        Verb::Demo => demo::run(),
        Verb::Test { full } => test::run(full),
        Verb::Vm { kernel, run } => vm::run(&kernel, run.as_deref()),
        Verb::Variants => build::variants(),
        Verb::Bench { quick } => bench::run(quick),
        Verb::Compliance => compliance::run(),
    }
}
