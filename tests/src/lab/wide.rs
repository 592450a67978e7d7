//! Three nodes behind a plain router, and a world behind the same router.
//!
//! ```text
//!  web ── edge-1 ── 198.18.1.0/24 ┐
//!  api ── edge-2 ── 198.18.2.0/24 ├─ router ── 198.51.100.0/24 ── world
//!  db  ── edge-3 ── 198.18.3.0/24 ┘    out   2001:db8:51::/64     eth0
//! ```
//!
//! The router knows the way to every endpoint, and the world sends whatever it answers to the
//! router: a packet that leaves a node untranslated would be answered like any other, and only a
//! capture shows it. All kernels answer as many packets with an error as are asked for: who is
//! asked by several programs in a row would fall silent otherwise (`icmp_ratelimit`).

use std::net::IpAddr;

use super::namespace::Namespace;
use super::node::answers;
use super::offload::Offload;
use super::peers::{ThreeNodes, address};
use super::wait_until;
use super::watch::Watch;
use crate::party::Family;

/// Largest packet between the router and the world, where it shall be small.
pub const NARROW: u16 = 1_400;

/// Is the lab, with captures at its far sides.
pub struct Wide {
    pub net: ThreeNodes,
    pub world: Namespace,
    pub offload: Offload,
}

/// Is somebody whom the first endpoint can talk to.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: &'static str,
    pub place: Namespace,
    pub address: IpAddr,
    /// The first endpoint's own address.
    pub own: IpAddr,
    /// The address that the target sees the first endpoint with.
    pub seen: IpAddr,
    /// Every hop on the way from the first endpoint, with the target itself.
    pub hops: Vec<IpAddr>,
}

impl Wide {
    /// Sets all three nodes up, and the world.
    pub fn new(host_routing: &str, offload: Offload) -> Self {
        let net = ThreeNodes::new(host_routing, offload);
        let world = Namespace::add("world");
        world.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        let wide = Self {
            net,
            world,
            offload,
        };
        wide.connect();
        offload.set_in(&wide.world);
        offload.set_in(&wide.net.router);
        wide
    }

    fn connect(&self) {
        let (router, world) = (&self.net.router, &self.world);
        router.run("ip link add out type veth peer name eth0 netns world");
        for (place, link, last) in [(router, "out", 1), (world, "eth0", 2)] {
            place.run(&format!("ip link set {link} up"));
            place.run(&format!("ip address add 198.51.100.{last}/24 dev {link}"));
            place.run(&format!(
                "ip address add 2001:db8:51::{last}/64 dev {link} nodad"
            ));
        }
        world.run("ip route add default via 198.51.100.1");
        world.run("ip route add default via 2001:db8:51::1");
        let nodes = self.net.nodes.iter().chain(&self.net.endpoints);
        for place in nodes.chain([router, world]) {
            place.set_sysctl("net/ipv4/icmp_ratelimit", "0");
            place.set_sysctl("net/ipv6/icmp/ratelimit", "0");
        }
        for family in Family::BOTH {
            wait_until("the world is there", || {
                answers(&self.net.nodes[0], Self::far(family))
            });
        }
    }

    /// Returns the first endpoint, from which others are talked to.
    pub fn client(&self) -> &Namespace {
        &self.net.endpoints[0]
    }

    /// Returns the world and the endpoint of another node, in both families.
    pub fn targets(&self) -> Vec<Target> {
        let both = Family::BOTH.into_iter();
        both.flat_map(|family| [self.target_outside(family), self.target_of_peer(family)])
            .collect()
    }

    /// Returns the world, whom endpoints reach masqueraded.
    pub fn target_outside(&self, family: Family) -> Target {
        let far = Self::far(family);
        let [near, router, _] = hops(family);
        Target {
            name: "world",
            place: self.world.clone(),
            address: far,
            own: address(0, family),
            seen: Self::near(family),
            hops: vec![near, router, far],
        }
    }

    /// Returns the endpoint of the second node, whom others reach with their own addresses.
    pub fn target_of_peer(&self, family: Family) -> Target {
        let far = address(1, family);
        let [near, router, node] = hops(family);
        Target {
            name: "peer",
            place: self.net.endpoints[1].clone(),
            address: far,
            own: address(0, family),
            seen: address(0, family),
            hops: vec![near, router, node, far],
        }
    }

    /// Captures at the far sides from now on, and at the client what comes back.
    pub fn watch(&self) -> Watches {
        let places = [&self.world, &self.net.endpoints[1], self.client()];
        let [world, peer, client] = places.map(|place| Watch::start(place, "eth0", self.offload));
        Watches {
            world,
            peer,
            client,
        }
    }

    /// Makes the link between the router and the world carry less.
    pub fn narrow(&self) {
        for (place, link) in [(&self.net.router, "out"), (&self.world, "eth0")] {
            place.run(&format!("ip link set {link} mtu {NARROW}"));
        }
    }

    /// Returns the world's address.
    pub fn far(family: Family) -> IpAddr {
        text(family, ["198.51.100.2", "2001:db8:51::2"])
    }

    /// Returns the first node's address, as the world sees it.
    pub fn near(family: Family) -> IpAddr {
        text(family, ["198.18.1.10", "2001:db8:1::10"])
    }
}

/// Is what is captured at the far sides, and what comes back from there.
pub struct Watches {
    world: Watch,
    peer: Watch,
    client: Watch,
}

impl Watches {
    /// Ends the captures: no packet may have had a bad checksum, none that came to the world the
    /// address of an endpoint, and each side must have seen something. Returns how many packets
    /// were longer than the MTU at the far sides.
    pub fn expect_sound(self, what: &str) -> u64 {
        let [world, peer, client] = [self.world, self.peer, self.client].map(Watch::end);
        for (name, report) in [("world", &world), ("peer", &peer), ("client", &client)] {
            expect_none(&format!("wrong at {name}, {what}"), &report.faults);
            assert!(report.packets > 0, "{name} should see packets, {what}");
        }
        expect_none(&format!("untranslated, {what}"), &world.inside);
        world.long + peer.long
    }
}

fn expect_none(what: &str, packets: &[String]) {
    let shown = &packets[..packets.len().min(8)];
    let count = packets.len();
    assert!(
        packets.is_empty(),
        "{count} packets are {what}, such as {shown:#?}"
    );
}

/// Tells whether an address is one that only endpoints have.
pub fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[10, 0]),
        IpAddr::V6(address) => address.octets().starts_with(&[0xfd, 0]),
    }
}

/// Does something with the lab in every mode, with checksums by the links and by the kernel, and
/// judges what the far sides captured meanwhile. Returns how many packets longer than the MTU they
/// saw, and who summed them.
pub fn everywhere(work: impl Fn(&Wide, &str)) -> Vec<(Offload, u64)> {
    every(|wide, what| {
        let watches = wide.watch();
        work(wide, what);
        (wide.offload, watches.expect_sound(what))
    })
}

/// Does something with the lab in every mode, with checksums by the links and by the kernel.
pub fn every<T>(work: impl Fn(&Wide, &str) -> T) -> Vec<T> {
    let mut results = Vec::new();
    for host_routing in ["bpf", "legacy"] {
        for offload in Offload::BOTH {
            let wide = Wide::new(host_routing, offload);
            let what = format!("{host_routing}, checksums by the links: {offload:?}");
            results.push(work(&wide, &what));
        }
    }
    results
}

/// Returns the first node as its endpoint sees it, the router as that node sees it, and the second
/// node as the router sees it.
fn hops(family: Family) -> [IpAddr; 3] {
    [
        ["10.0.1.1", "fd00:1::1"],
        ["198.18.1.1", "2001:db8:1::1"],
        ["198.18.2.10", "2001:db8:2::10"],
    ]
    .map(|texts| text(family, texts))
}

fn text(family: Family, [v4, v6]: [&str; 2]) -> IpAddr {
    let text = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    text.parse().expect("an address")
}
