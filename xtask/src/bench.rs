//! `cargo xtask bench`: the program `bench` of package `tests`, built as the caller and run as root.

use anyhow::Result;

use crate::privilege::privileged;
use crate::setup::{self, Group};
use crate::{build, process, workspace};

pub(crate) fn run(quick: bool) -> Result<()> {
    setup::run(Group::Demo)?;
    let mut bench = privileged(build::bench()?);
    bench.current_dir(workspace::root());
    if quick {
        bench.arg("--quick");
    }
    process::run(&mut bench)
}
