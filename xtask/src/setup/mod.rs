//! Set-up: what a fresh clone on a fresh Debian lacks is installed and said, with its size and time.
//!
//! Three sources: rustup for parts of the pinned toolchain, cargo for tools of a pinned version (below `target/tools`, never
//! over the user's own), apt for programs. What is there already is left alone, so that a second run prints one line.

mod package;
mod tool;
mod toolchain;

use std::time::{Duration, Instant};

use anyhow::Result;

use self::tool::BPF_LINKER;
pub(crate) use self::tool::{CARGO_DENY, CARGO_FUZZ};

/// What the caller is about to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Build the agent and send packets through a lab
    Demo,
    /// Build, lint and test everything
    Test,
    /// Also the stages of `test --full`
    Full,
}

/// Installs what the group needs and returns how long that took.
pub(crate) fn run(group: Group) -> Result<Duration> {
    let start = Instant::now();
    let mut installed = toolchain::install_missing(group)?;
    let mut tools = vec![BPF_LINKER];
    if group == Group::Full {
        tools.extend([CARGO_DENY, CARGO_FUZZ]);
    }
    for tool in tools {
        installed |= tool.install_unless_present()?;
    }
    installed |= package::install_missing(group)?;

    let took = start.elapsed();
    let outcome = if installed {
        "done"
    } else {
        "nothing was missing"
    };
    println!("set-up: {outcome} ({:.1} s)", took.as_secs_f32());
    Ok(took)
}

/// Prints what is being installed, before it starts.
fn announce(what: &str) {
    println!("set-up: installing {what}");
}

/// Prints what was installed, with its size and time.
fn report(what: &str, size: &str, start: Instant) {
    println!(
        "set-up: installed {what}: {size}, {:.1} s",
        start.elapsed().as_secs_f32()
    );
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_told_in_megabytes_with_one_decimal() {
        assert_eq!(megabytes(47_944_344), "47.9 MB");
        assert_eq!(megabytes(99_999), "0.0 MB");
    }
}
