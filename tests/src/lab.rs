//! A machine of a test's own, a node on it, and captures at the far side.
//!
//! # Layout
//! - [`machine`]: namespaces for network and mounts in which a test is alone
//! - [`namespace`]: named network namespaces, commands and sockets inside them
//! - [`agent`]: the binary under test
//! - [`node`]: one node with three endpoints
//! - [`outside`]: the same, and a world behind its device
//! - [`peers`]: three nodes behind a plain router
//! - [`wide`]: the same, and a world behind that router
//! - [`dhcp`]: a server that says what a test wants
//! - [`estate`]: as many nodes and endpoints as a test likes, and a world
//! - [`listener`]: sockets there that answer
//! - [`attempt`]: one attempt to speak with somebody, and what became of it
//! - [`watch`]: captures that are judged while they come
//! - [`service`]: programs that serve in the background
//! - [`conversation`]: real sockets that talk to each other
//! - [`resident`], [`trial`]: the resident agent, and a trial, in the background
//! - [`systemd`]: a systemd that starts the agent
//! - [`wire`]: whole frames sent and captured on a link
//! - [`program`]: small BPF programs of somebody else
//! - [`world`]: endpoints behind a node that masquerades, a router, servers and an attacker
//! - [`site`]: who has which address there
//! - [`topology`]: the namespaces and links of that world
//! - [`firewall`]: the firewalls that machines have
//! - [`gateway`]: what masquerades there, and how it is set up
//! - [`station`]: a place of that world: what it sends, what it receives, judged
//! - [`mouth`]: frames sent with their checksum left to the link
//! - [`offload`]: the switch for that
//! - [`compliance`]: rows of requirements, with what was seen of each
//! - [`stream`]: numbered datagrams of which none may be missing
//! - [`inventory`]: everything that a namespace consists of, to be compared
//! - [`trace`]: the system calls of the agent, judged

pub mod agent;
pub mod attempt;
pub mod compliance;
pub mod conversation;
pub mod dhcp;
pub mod estate;
pub mod firewall;
pub mod gateway;
pub mod inventory;
pub mod listener;
pub mod machine;
pub mod mouth;
pub mod namespace;
pub mod node;
pub mod offload;
pub mod outside;
pub mod peers;
pub mod program;
pub mod resident;
pub mod service;
pub mod site;
pub mod station;
pub mod stream;
pub mod systemd;
mod topology;
pub mod trace;
pub mod trial;
pub mod watch;
pub mod wide;
pub mod wire;
pub mod world;

use std::io::{self, ErrorKind};
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

/// Repeats a call that a stop of the process interrupted: one that waits with a timeout is not
/// resumed by the kernel (`signal(7)`).
///
/// # Errors
/// Whatever else the call says.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Waits for a moment: for rows about timers, where time is what is tested.
pub fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
