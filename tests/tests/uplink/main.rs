//! Devices that the agent configures: by the file, or by what a DHCP server lends.
//!
//! ```text
//!  web ┐
//!  db  ├─ edge-1 ── up0 ──────── eth0 192.0.2.1, world, 203.0.113.1
//!  api ┘
//! ```
//!
//! The world masquerades nothing and knows nothing of endpoints: what it answers, it answers to the
//! address that the device has.

mod file;
mod life;
mod real;
mod restart;

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use tests::lab::agent;
use tests::lab::inventory::Inventory;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode, answers};
use tests::lab::resident::Resident;
use tests::lab::wait_until;

/// Somebody beyond the gateway.
const BEYOND: &str = "203.0.113.1";

/// What the scripted server lends.
const LENT: &str = "192.0.2.77";

/// Is a node whose device has nothing yet.
struct Uplink {
    net: OneNode,
    world: Namespace,
}

impl Uplink {
    /// Writes the file with these keys of the device.
    fn new(keys: &str) -> Self {
        let net = OneNode::prepared();
        let world = Namespace::add("world");
        for place in [&net.host, &world] {
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        net.host
            .run("ip link add up0 type veth peer name eth0 netns world");
        for line in [
            "ip link set eth0 up",
            "ip address add 192.0.2.1/24 dev eth0",
            "ip address add 2001:db8:2::1/64 dev eth0 nodad",
            "ip address add 203.0.113.1/32 dev lo",
            "ip address add 2001:db8:113::1/128 dev lo",
        ] {
            world.run(line);
        }
        let uplink = Self { net, world };
        uplink.write(keys);
        uplink
    }

    fn write(&self, keys: &str) {
        let device = "[[device]]\nname = \"up0\"\nmasquerade = true\n";
        self.net.write(&format!("{FILE}\n{device}{keys}\n"));
    }

    /// Starts the agent, and waits until it says that it is ready.
    fn run(&self) -> Resident {
        let file = self.net.file.display().to_string();
        Resident::start(&self.net.machine, &self.net.host, &file)
    }

    fn addresses(&self) -> String {
        self.net.host.run("ip -4 -o address show dev up0")
    }

    fn routes(&self) -> String {
        self.net.host.run("ip -4 route show dev up0")
    }

    /// Waits until the device has an address.
    fn expect_address(&self, address: &str) {
        wait_until(&format!("up0 has {address}"), || {
            self.addresses().contains(&format!(" {address}/"))
        });
    }

    /// Waits until the device has no address.
    fn expect_no_address(&self) {
        wait_until("up0 has no address", || self.addresses().is_empty());
    }

    /// Waits until an endpoint reaches somebody beyond the gateway.
    fn expect_way_out(&self) {
        self.expect_way_to(BEYOND);
    }

    fn expect_way_to(&self, address: &str) {
        let to: IpAddr = address.parse().expect("an address");
        wait_until(&format!("web reaches {address}"), || {
            answers(&self.net.web, to)
        });
    }

    /// Waits until the plan is empty.
    fn expect_nothing_to_do(&self) {
        let line = format!("plan {}", self.net.file.display());
        wait_until("the plan is empty", || {
            agent::ciliate(&self.net.host, &line).code == Some(0)
        });
    }

    /// Returns what `status` says of the lease.
    fn lease(&self) -> Value {
        let status = self.net.status();
        let devices = status["devices"].as_array().expect("a list").clone();
        let found = devices.into_iter().find(|device| device["name"] == "up0");
        found.expect("the device is there")["lease"].take()
    }

    /// Returns everything there is, when the kernel has noted the carrier.
    fn inventory(&self) -> Inventory {
        wait_until("the addresses of up0 are settled", || {
            let addresses = self.net.host.run("ip -6 -o address show dev up0");
            !addresses.contains("tentative")
        });
        self.net.inventory()
    }

    /// Ends the agent, and removes the node.
    fn down(&self) {
        agent::expect(&self.net.host, "down", 0);
        assert!(!Path::new("/run/ciliate").exists(), "no folder should stay");
    }
}
