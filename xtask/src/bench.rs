//! `cargo xtask bench`: the benches of package `tests`, built as the caller and run as root.

use anyhow::{Result, bail};

use crate::privilege::privileged;
use crate::setup::{self, Group};
use crate::{build, process};

pub(crate) fn run(quick: bool) -> Result<()> {
    setup::run(Group::Demo)?;
    let benches = build::benches()?;
    if benches.is_empty() {
        bail!("bench: package tests has no benches");
    }
    for bench in benches {
        println!("== {}", bench.name);
        let mut command = privileged(&bench.path);
        command.arg("--bench").current_dir(&bench.folder);
        if quick {
            command.arg("--quick");
        }
        process::run(&mut command)?;
    }
    Ok(())
}
