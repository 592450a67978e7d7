//! `cargo xtask bench`: the program `bench` of package `tests`, built as the caller and run as root.

use anyhow::Result;

use crate::privilege::privileged;
use crate::setup::{self, Group};
use crate::{build, process, workspace};

/// What a packet of an established connection between two endpoints of a node may cost, in
/// nanoseconds, less the cost of measuring.
const MAX_NET_NS: u32 = 60;

pub(crate) fn run(quick: bool) -> Result<()> {
    setup::run(Group::Demo)?;
    measure(quick)
}

/// Measures, and fails where the fast path has become slow.
pub(crate) fn measure(quick: bool) -> Result<()> {
    let mut bench = privileged(build::bench()?);
    bench.current_dir(workspace::root());
    bench.arg("--max-net-ns").arg(MAX_NET_NS.to_string());
    if quick {
        bench.arg("--quick");
    }
    process::run(&mut bench)
}
