//! The host's network objects against the running kernel.
//!
//! Needs root. Each test runs on a thread of its own in a network namespace of its own, which
//! vanishes with the thread; namespaces for endpoints have names and are deleted by their
//! guards, also when a test fails. Nothing outside of these namespaces is read or changed.

#![expect(clippy::unwrap_used, reason = "a test may fail at any step")]

mod devices;
mod filters;
mod firewall;
mod iptables;
mod links;
mod namespaces;
mod node;
mod observation;
mod obstacles;
mod routes;
mod rules;
mod run;

use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use ciliate::host::netns;
use ciliate::host::{Netlink, named};
use ciliate::plan::object::{Mac, Netns};
use nix::sched::{CloneFlags, unshare};

/// Marks the namespaces of these tests.
const LAB: &str = "host-test";

/// Runs a test in a fresh network namespace.
fn isolated(test: impl FnOnce() + Send) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "needs root: run `sudo -E cargo test -p ciliate --test host`"
    );
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare the network namespace");
        test();
    };
    thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic));
}

/// Is a namespace for an endpoint, deleted when dropped.
struct Endpoint {
    netns: Netns,
    name: String,
}

impl Endpoint {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ciliate-test-{}-{number}", std::process::id());
        named::create(&name, LAB).expect("create the endpoint's namespace");
        Self {
            netns: Netns::Name(name.clone()),
            name,
        }
    }

    fn open(&self) -> OwnedFd {
        netns::open(&self.netns).expect("open the endpoint's namespace")
    }

    fn netlink(&self) -> Netlink {
        netns::netlink_in(self.open()).expect("enter the endpoint's namespace")
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Err(error) = named::delete(&self.name, LAB) {
            eprintln!("{error}");
        }
    }
}

/// Returns a locally administered address that ends with `last`.
fn mac(last: u8) -> Mac {
    Mac([0x02, 0, 0, 0, 0, last])
}
