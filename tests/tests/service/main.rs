//! The agent as a service: what it tells the init system, what it may do, whom it shares the machine
//! with, and what starts it.

mod boot;
mod doctor;
mod notify;
mod other;
mod privilege;
mod systemd;
mod unit;

use std::process::Child;

use tests::lab::node::OneNode;
use tests::lab::resident::Resident;

/// Starts an agent that keeps the node.
fn start(net: &OneNode) -> Resident {
    Resident::start(&net.machine, &net.host, &net.file.display().to_string())
}

/// Is a process that ends with this value.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
