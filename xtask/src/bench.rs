//! `cargo xtask bench`: the program `bench` of package `tests`, built as the caller and run as root.

use anyhow::Result;

use crate::privilege::privileged;
use crate::setup::{self, Group};
use crate::{build, process, workspace};

/// What a packet of an established connection may cost, in nanoseconds, less the cost of
/// measuring: between two endpoints of a node, and masqueraded through both programs that it meets
/// on its way out, and on its way back.
const MAX_NET_NS: [(&str, u32); 10] = [
    ("from_container/peer/tcp/v4", 60),
    ("from_container/peer/tcp/v6", 60),
    ("node/world/tcp/v4", 80),
    ("node/world/tcp/v6", 80),
    ("node/world/udp/v4", 80),
    ("node/world/udp/v6", 80),
    ("from_netdev/world/tcp/v4", 80),
    ("from_netdev/world/tcp/v6", 80),
    ("from_netdev/world/udp/v4", 80),
    ("from_netdev/world/udp/v6", 80),
];

pub(crate) fn run(quick: bool) -> Result<()> {
    setup::run(Group::Demo)?;
    measure(quick)
}

/// Measures, and fails where the fast path has become slow, or a policy costs more as it grows.
pub(crate) fn measure(quick: bool) -> Result<()> {
    let mut bench = privileged(build::bench()?);
    bench.current_dir(workspace::root());
    for (case, limit) in MAX_NET_NS {
        bench.arg("--max-net-ns").arg(format!("{case}={limit}"));
    }
    if quick {
        bench.arg("--quick");
    }
    process::run(&mut bench)?;
    let mut growth = privileged(build::bench()?);
    growth.current_dir(workspace::root()).arg("--growth");
    if quick {
        growth.arg("--quick");
    }
    process::run(&mut growth)
}
