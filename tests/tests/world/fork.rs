//! One node with two devices, each straight to the world.
//!
//! ```text
//!  web ┐           ┌ up0 192.0.2.10 ── 192.0.2.1 eth0 ┐
//!  db  ├─ edge-1 ──┤                                  ├─ world 198.51.100.2
//!  api ┘           └ up1 192.0.3.10 ── 192.0.3.1 eth1 ┘
//! ```
//!
//! Endpoints are masqueraded with one address of the node's on both, 203.0.113.9.

use std::net::IpAddr;

use serde_json::Value;
use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode, answers};
use tests::lab::offload::Offload;
use tests::lab::wait_until;
use tests::party::Family;

/// Counts what the stack forwards.
const COUNTER: &str = "table inet count {
 counter forwarded { }
 chain forward {
  type filter hook forward priority 0; policy accept
  counter name forwarded
 }
}
";

/// Is the node and the world.
pub(super) struct Fork {
    pub net: OneNode,
    pub world: Namespace,
}

impl Fork {
    /// Sets the node up; what goes out leaves by its first device.
    pub(super) fn new(host_routing: &str, offload: Offload) -> Self {
        let net = OneNode::prepared();
        let world = Namespace::add("world");
        for place in [&net.host, &world] {
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
            for which in ["all", "default"] {
                place.set_sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "0");
            }
        }
        let fork = Self { net, world };
        fork.connect();
        fork.go_by(0);
        fork.net.write(&file(host_routing));
        fork.net.apply();
        let inside = &fork.net;
        for place in [&inside.host, &inside.web, &inside.db, &fork.world] {
            offload.set_in(place);
        }
        fork
    }

    fn connect(&self) {
        for number in [0, 1] {
            let third = number + 2;
            self.net.host.run(&format!(
                "ip link add up{number} type veth peer name eth{number} netns world"
            ));
            let ends = [
                (&self.net.host, "up", "10", "10"),
                (&self.world, "eth", "1", "1"),
            ];
            for (place, link, last4, last6) in ends {
                let link = format!("{link}{number}");
                place.run(&format!("ip link set {link} up"));
                place.run(&format!(
                    "ip address add 192.0.{third}.{last4}/24 dev {link}"
                ));
                place.run(&format!(
                    "ip address add 2001:db8:{third}::{last6}/64 dev {link} nodad"
                ));
            }
        }
        for (place, v4, v6) in [
            (&self.net.host, "203.0.113.9", "2001:db8:9::9"),
            (&self.world, "198.51.100.2", "2001:db8:51::2"),
        ] {
            place.run(&format!("ip address add {v4}/32 dev lo"));
            place.run(&format!("ip address add {v6}/128 dev lo nodad"));
        }
        for number in [0, 1] {
            for family in Family::BOTH {
                wait_until("the link is there", || {
                    answers(&self.net.host, gateway(family, number))
                });
            }
        }
    }

    /// Lets the node reach the world by one of its devices.
    pub(super) fn go_by(&self, number: usize) {
        for family in Family::BOTH {
            let way = way(family, number);
            self.net.host.run(&format!("ip route replace {way}"));
        }
        self.come_by(number);
    }

    /// Lets the world answer by one of the node's devices.
    pub(super) fn come_by(&self, number: usize) {
        for family in Family::BOTH {
            let (near, hop) = (near(family), hop(family, number));
            self.world
                .run(&format!("ip route replace {near} via {hop}"));
        }
    }

    /// Counts what the node's stack forwards from now on.
    pub(super) fn count_forwarded(&self) {
        let file = self.net.machine.write("count.nft", COUNTER);
        self.net.host.run(&format!("nft -f {}", file.display()));
    }

    /// Returns how many packets the node's stack has forwarded.
    pub(super) fn forwarded(&self) -> u64 {
        let text = self
            .net
            .host
            .run("nft -j list counter inet count forwarded");
        let json: Value = serde_json::from_str(&text).expect("nft prints JSON");
        let listed = json["nftables"].as_array().expect("a list");
        let counter = listed.iter().find_map(|entry| entry.get("counter"));
        counter.expect("is there")["packets"]
            .as_u64()
            .expect("a number")
    }

    /// Returns what `flows` knows of an endpoint's packets to the world's port.
    pub(super) fn flow(&self, family: Family, port: u16) -> Value {
        let flows = agent::json(&self.net.host, "flows");
        let flows = flows.as_array().expect("a list").iter();
        let mut found = flows.filter(|flow| {
            flow["destination"] == far(family).to_string() && flow["destination_port"] == port
        });
        found.next().expect("the flow is known").clone()
    }
}

/// Returns what `ip route` is told to reach the world by a device.
pub(super) fn way(family: Family, number: usize) -> String {
    let (far, gateway) = (far(family), gateway(family, number));
    format!("{far} via {gateway} dev up{number}")
}

/// Returns the world's address.
pub(super) fn far(family: Family) -> IpAddr {
    text(family, "198.51.100.2", "2001:db8:51::2")
}

/// Returns the address that the world sees endpoints with.
pub(super) fn near(family: Family) -> IpAddr {
    text(family, "203.0.113.9", "2001:db8:9::9")
}

/// Returns the world's address on a link.
pub(super) fn gateway(family: Family, number: usize) -> IpAddr {
    let third = number + 2;
    text(
        family,
        &format!("192.0.{third}.1"),
        &format!("2001:db8:{third}::1"),
    )
}

/// Returns the node's address on a link.
fn hop(family: Family, number: usize) -> IpAddr {
    let third = number + 2;
    text(
        family,
        &format!("192.0.{third}.10"),
        &format!("2001:db8:{third}::10"),
    )
}

fn text(family: Family, v4: &str, v6: &str) -> IpAddr {
    let text = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    text.parse().expect("an address")
}

fn file(host_routing: &str) -> String {
    let device = |number| {
        format!(
            "\n[[device]]\nname = \"up{number}\"\nmasquerade = true\nmasquerade_address = [\"203.0.113.9\", \"2001:db8:9::9\"]\n"
        )
    };
    format!(
        "{FILE}{}{}\n[routing]\nhost_routing = \"{host_routing}\"\n",
        device(0),
        device(1)
    )
}
