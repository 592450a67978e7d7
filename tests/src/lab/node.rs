//! One node with three endpoints.
//!
//! ```text
//!  web 10.0.1.10 fd00:1::10 ┐
//!  db  10.0.1.11 fd00:1::11 ├─ edge-1, the machine itself: 10.0.1.0/24, fd00:1::/64
//!  api 10.0.1.12 fd00:1::12 ┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ciliate::datapath::pin::Pins;
use datapath::verdict::DropReason;
use serde_json::Value;

use super::agent;
use super::inventory::Inventory;
use super::machine::{BPFFS, Machine};
use super::namespace::{Namespace, Outcome};
use super::wait_until;
use crate::party::{Family, MTU, Who};

/// Is the file of the node.
pub const FILE: &str = r#"
[[node]]
name = "edge-1"
ipv4 = "10.0.1.0/24"
ipv6 = "fd00:1::/64"

[[endpoint]]
name = "web"
ipv4 = "10.0.1.10"
ipv6 = "fd00:1::10"

[[endpoint]]
name = "db"
ipv4 = "10.0.1.11"
ipv6 = "fd00:1::11"

[[endpoint]]
name = "api"
ipv4 = "10.0.1.12"
ipv6 = "fd00:1::12"
"#;

/// Is a node and its endpoints' namespaces.
#[derive(Debug)]
pub struct OneNode {
    pub machine: Machine,
    /// The node's own namespace.
    pub host: Namespace,
    pub web: Namespace,
    pub db: Namespace,
    pub api: Namespace,
    pub file: PathBuf,
}

impl OneNode {
    /// Sets the node up.
    #[expect(
        clippy::new_without_default,
        reason = "it changes the thread that calls it"
    )]
    pub fn new() -> Self {
        let node = Self::prepared();
        node.apply();
        node
    }

    /// Makes the namespaces and the file, and leaves the rest to the test.
    pub fn prepared() -> Self {
        Self::on(Machine::new())
    }

    /// Makes the namespaces and the file on a machine.
    pub fn on(machine: Machine) -> Self {
        let [web, db, api] = ["web", "db", "api"].map(Namespace::add);
        let file = machine.write("ciliate.toml", FILE);
        let host = machine.own.clone();
        Self {
            machine,
            host,
            web,
            db,
            api,
            file,
        }
    }

    /// Replaces the file.
    pub fn write(&self, text: &str) {
        self.machine.write("ciliate.toml", text);
    }

    /// Runs the agent with the file; it must end with `code`.
    pub fn ciliate(&self, verb: &str, code: i32) -> Outcome {
        agent::expect(&self.host, &format!("{verb} {}", self.file.display()), code)
    }

    pub fn apply(&self) -> Outcome {
        self.ciliate("apply", 0)
    }

    /// Applies, and checks that nothing is left to be done and that packets pass.
    pub fn converge(&self) {
        self.apply();
        self.ciliate("plan", 0);
        self.ping_all();
    }

    pub fn down(&self) -> Outcome {
        agent::expect(&self.host, "down", 0)
    }

    pub fn status(&self) -> Value {
        agent::json(&self.host, "status")
    }

    /// Returns how many packets were dropped for this reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.status()["drops"][reason.text()].as_u64().unwrap_or(0)
    }

    /// Waits until so many packets more than `before` were dropped for this reason.
    pub fn expect_drops(&self, reason: DropReason, before: u64, more: u64) {
        wait_until(
            &format!("{} counts {more} more than {before}", reason.text()),
            || self.drops(reason) == before + more,
        );
    }

    /// Sends an echo request in each direction and family between `web` and `db`, and from the
    /// node to `web`.
    pub fn ping_all(&self) {
        for family in Family::BOTH {
            ping(&self.web, self.address("db", family));
            ping(&self.db, self.address("web", family));
            ping(&self.host, self.address("web", family));
        }
    }

    /// Returns an address of an endpoint, or of the router as `host`.
    pub fn address(&self, name: &str, family: Family) -> IpAddr {
        self.who(name).ip(family)
    }

    /// Describes an endpoint as it is, or the node as `host`.
    pub fn who(&self, name: &str) -> Who {
        let (name, namespace, last) = match name {
            "host" => ("host", &self.host, 1),
            "web" => ("web", &self.web, 10),
            "db" => ("db", &self.db, 11),
            _ => ("api", &self.api, 12),
        };
        let [own, gateway] = if name == "host" {
            ["cilium_host", "cilium_net"].map(|link| self.host.mac(link))
        } else {
            [namespace.mac("eth0"), self.host.mac(&format!("lxc{name}"))]
        };
        let last6 = u16::from_str_radix(&last.to_string(), 16).expect("digits");
        Who {
            name,
            link: 0,
            mac: own,
            gateway_mac: gateway,
            ipv4: Some(Ipv4Addr::new(10, 0, 1, last)),
            ipv6: Some(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last6)),
            mtu: MTU,
            slot: 0,
            identity: 0,
        }
    }

    /// Returns everything there is on the machine and in the endpoints' namespaces.
    pub fn inventory(&self) -> Inventory {
        let places = [
            ("node", &self.host),
            ("web", &self.web),
            ("db", &self.db),
            ("api", &self.api),
        ];
        Inventory::of_machine(&places)
    }
}

/// Returns where the node's pins lie.
pub fn pins() -> Pins {
    Pins::new(Path::new(BPFFS), "edge-1")
}

/// Sends one echo request, which must be answered.
pub fn ping(from: &Namespace, to: IpAddr) {
    from.run(&format!("ping -n -c 1 -W 2 {to}"));
}

/// Tells whether an echo request is answered.
pub fn answers(from: &Namespace, to: IpAddr) -> bool {
    from.attempt(&format!("ping -n -c 1 -W 1 {to}")).code == Some(0)
}
