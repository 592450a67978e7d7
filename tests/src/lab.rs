//! A machine of a test's own, a node on it, and captures at the far side.
//!
//! # Layout
//! - [`machine`]: namespaces for network and mounts in which a test is alone
//! - [`namespace`]: named network namespaces, commands and sockets inside them
//! - [`agent`]: the binary under test
//! - [`node`]: one node with three endpoints
//! - [`wire`]: whole frames sent and captured on a link
//! - [`program`]: small BPF programs of somebody else
//! - [`resident`]: the resident agent, in the background
//! - [`stream`]: numbered datagrams of which none may be missing
//! - [`inventory`]: everything that a namespace consists of, to be compared
//! - [`trace`]: the system calls of the agent, judged

pub mod agent;
pub mod inventory;
pub mod machine;
pub mod namespace;
pub mod node;
pub mod program;
pub mod resident;
pub mod stream;
pub mod trace;
pub mod wire;

use std::thread;
use std::time::{Duration, Instant};

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until `is_so` holds; `what` says what should have come about.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
