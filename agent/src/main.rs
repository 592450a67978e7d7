//! Arguments, logging, exit codes.

use std::io::{self, Write};
use std::process::ExitCode;

use ciliate::cli::args::Command;
use ciliate::cli::failure::Failure;
use ciliate::cli::output::Output;
use ciliate::cli::{self, exit};
use clap::Parser;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            // What cannot be printed has nobody to read it.
            let _ = error.print();
            let asked_for = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return ExitCode::from(if asked_for { exit::OK } else { exit::USAGE });
        }
    };
    env_logger::Builder::new()
        .filter_level(command.common.log_level)
        .format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "{level}: {}", record.args())
        })
        .init();
    // Not locked: what runs inside a namespace has a thread of its own, and logs.
    let (mut out, mut err) = (Output::new(io::stdout()), Output::new(io::stderr()));
    let result = cli::run(&command, &mut out, &mut err);
    ExitCode::from(result.unwrap_or_else(|failure| {
        // What is wrong with a file begins with its place, for editors to find.
        let program = if matches!(failure, Failure::File(_) | Failure::FileOfAgent(_)) {
            ""
        } else {
            "ciliate: "
        };
        let _ = writeln!(io::stderr(), "{program}{failure}");
        failure.code()
    }))
}
