//! One node with three endpoints, and a world behind its device.
//!
//! ```text
//!  web ┐
//!  db  ├─ edge-1 ── up0 192.0.2.10 2001:db8:2::10 ──── eth0 192.0.2.1 2001:db8:2::1, world
//!  api ┘
//! ```
//!
//! The world is one namespace that knows nothing of the endpoints' prefixes: what it answers, it
//! answers to the node's address.

use std::net::IpAddr;

use serde_json::Value;

use super::conversation::{bound, exchange_with, pattern, transfer_seen};
use super::namespace::{Namespace, Outcome};
use super::node::{FILE, OneNode, answers, ping};
use super::wait_until;
use crate::party::Family;

/// What a transfer consists of, in bytes.
const TRANSFER_LEN: usize = 4 << 20;

const NODE_LINKS: [&str; 6] = [
    "ip link add up0 type veth peer name eth0 netns world",
    "ip link set up0 up",
    "ip address add 192.0.2.10/24 dev up0",
    "ip address add 2001:db8:2::10/64 dev up0 nodad",
    "ip route add default via 192.0.2.1 dev up0",
    "ip route add default via 2001:db8:2::1 dev up0",
];
const WORLD_LINKS: [&str; 3] = [
    "ip link set eth0 up",
    "ip address add 192.0.2.1/24 dev eth0",
    "ip address add 2001:db8:2::1/64 dev eth0 nodad",
];

/// Is a node with a way out.
#[derive(Debug)]
pub struct Outside {
    pub net: OneNode,
    pub world: Namespace,
}

impl Outside {
    /// Makes namespaces and links, and leaves the node to the test.
    #[expect(
        clippy::new_without_default,
        reason = "it changes the thread that calls it"
    )]
    pub fn new() -> Self {
        let net = OneNode::prepared();
        let world = Namespace::add("world");
        for place in [&net.host, &world] {
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        let outside = Self { net, world };
        outside.join();
        outside
    }

    /// Joins the node and the world by the device.
    pub fn join(&self) {
        for (place, lines) in [
            (&self.net.host, &NODE_LINKS[..]),
            (&self.world, &WORLD_LINKS),
        ] {
            for line in lines {
                place.run(line);
            }
        }
        for family in Family::BOTH {
            // The kernel may take a second to notice that a link has a carrier.
            wait_until("the link is there", || {
                answers(&self.net.host, Self::far(family))
            });
        }
    }

    /// Writes the file of the node with this setting of `host_routing`.
    pub fn write(&self, host_routing: &str) {
        self.net.write(&format!(
            "{FILE}\n[[device]]\nname = \"up0\"\nmasquerade = true\n\n[routing]\nhost_routing = \"{host_routing}\"\n"
        ));
    }

    /// Sets the node up with this setting of `host_routing`.
    pub fn apply(&self, host_routing: &str) -> Outcome {
        self.write(host_routing);
        self.net.apply()
    }

    /// Returns what `status` says of host routing: the mode and the reason.
    pub fn host_routing(&self) -> (String, String) {
        let status = self.net.status();
        let word = |value: &Value| value.as_str().expect("a text").to_owned();
        let found = &status["host_routing"];
        (word(&found["mode"]), word(&found["reason"]))
    }

    /// Checks that everything passes between endpoints and to the world, which sees the node.
    ///
    /// # Panics
    /// If something does not.
    pub fn expect_traffic(&self) {
        for family in Family::BOTH {
            let (far, near) = (Self::far(family), Self::near(family));
            let inside = &self.net;
            ping(&inside.web, far);
            ping(&inside.web, inside.address("db", family));
            ping(&inside.host, inside.address("web", family));
            ping(&inside.host, far);
            for round in 0..6 {
                let client = bound(&inside.web, inside.address("web", family));
                let seen = exchange_with(&client, &bound(&self.world, far));
                assert_eq!(seen.ip(), near, "round {round} of {family:?}");
            }
            for (server, address, source) in [
                (&self.world, far, near),
                (
                    &inside.db,
                    inside.address("db", family),
                    inside.address("web", family),
                ),
            ] {
                let (data, seen) = transfer_seen(&inside.web, server, address, TRANSFER_LEN);
                assert!(
                    data == pattern(TRANSFER_LEN),
                    "{address} should get what was sent"
                );
                assert_eq!(seen.ip(), source, "of {address}");
            }
        }
    }

    /// Returns the world's address.
    pub fn far(family: Family) -> IpAddr {
        match family {
            Family::V4 => [192, 0, 2, 1].into(),
            Family::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, 1].into(),
        }
    }

    /// Returns the node's address, as the world sees it.
    pub fn near(family: Family) -> IpAddr {
        match family {
            Family::V4 => [192, 0, 2, 10].into(),
            Family::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10].into(),
        }
    }
}
