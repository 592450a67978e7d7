//! The node that the tests describe, and who is on it.
//!
//! ```text
//!   a  10.0.1.10  fd00:1::10  lxc 111 ┐
//!   b  10.0.1.11  fd00:1::11  lxc 112 ├─ node 10.0.1.0/24, fd00:1::/64 ── cilium_host 100
//!   c  10.0.1.12              lxc 113 │
//!   d             fd00:1::13  lxc 114 ┘        a link without an endpoint: 115
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::{Action, Addr4, Addr6, Flow, Node, Party, Stage};
use datapath::model::ModelNode;
use datapath::packet::MacPair;

/// Slices of the tables of pending flows.
pub const SLOTS: u32 = 8;

/// Generation of the node's configuration.
pub const GENERATION: u32 = 7;

/// Largest packet of every link but `d`'s, in bytes.
pub const MTU: u16 = 1500;

/// Largest packet of `d`, in bytes.
pub const SMALL_MTU: u16 = 1280;

/// Index of a link that no endpoint is behind.
pub const EMPTY_LINK: u32 = 115;

pub const ROUTER4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

/// Addresses of the node's prefix that nobody has.
pub const UNUSED4: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 99);
pub const UNUSED6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x99);

/// Addresses far away.
pub const WORLD4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// Selects one of a party's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the address far away of this family.
    pub fn world(self) -> IpAddr {
        self.pick(WORLD4, WORLD6)
    }

    /// Returns the router address of this family.
    pub fn router(self) -> IpAddr {
        self.pick(ROUTER4, ROUTER6)
    }

    /// Returns the unused address of this family.
    pub fn unused(self) -> IpAddr {
        self.pick(UNUSED4, UNUSED6)
    }

    /// Returns the protocol number of the family's ICMP.
    pub fn icmp(self) -> u8 {
        if self == Self::V4 { 1 } else { 58 }
    }

    fn pick(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        if self == Self::V4 {
            v4.into()
        } else {
            v6.into()
        }
    }
}

/// Is an endpoint, or the node's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub name: &'static str,
    /// Index of the link that it is behind.
    pub link: u32,
    pub mac: [u8; 6],
    pub gateway_mac: [u8; 6],
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub mtu: u16,
    /// Slice of the tables of pending flows.
    pub slot: u16,
    pub identity: u32,
}

/// The node's stack; it speaks with the router addresses.
pub const HOST: Who = Who {
    name: "host",
    link: 100,
    mac: [2, 0, 0, 0, 0, 0x10],
    gateway_mac: [2, 0, 0, 0, 0, 0x11],
    ipv4: Some(ROUTER4),
    ipv6: Some(ROUTER6),
    mtu: MTU,
    slot: 0,
    identity: 1,
};
pub const A: Who = endpoint("a", 1, Some(10), Some(0x10), MTU);
pub const B: Who = endpoint("b", 2, Some(11), Some(0x11), MTU);
/// Has no IPv6 address.
pub const C: Who = endpoint("c", 3, Some(12), None, MTU);
/// Has no IPv4 address, and a small MTU.
pub const D: Who = endpoint("d", 4, None, Some(0x13), SMALL_MTU);

/// Everybody on the node.
pub const ALL: [Who; 5] = [HOST, A, B, C, D];

const fn endpoint(
    name: &'static str,
    number: u8,
    last4: Option<u8>,
    last6: Option<u16>,
    mtu: u16,
) -> Who {
    Who {
        name,
        link: 110 + number as u32,
        mac: [2, 0, 0, 0, number, 0xee],
        gateway_mac: [2, 0, 0, 0, number, 0xcc],
        ipv4: match last4 {
            Some(last) => Some(Ipv4Addr::new(10, 0, 1, last)),
            None => None,
        },
        ipv6: match last6 {
            Some(last) => Some(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last)),
            None => None,
        },
        mtu,
        slot: number as u16,
        identity: 20_000 + number as u32,
    }
}

impl Who {
    /// Returns its address of a family.
    pub fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ipv4.expect("has an IPv4 address").into(),
            Family::V6 => self.ipv6.expect("has an IPv6 address").into(),
        }
    }

    /// Returns its entry in the map of parties.
    pub fn party(&self) -> Party {
        if *self == HOST {
            return Party::host(self.link, self.mac, self.gateway_mac, self.mtu);
        }
        let ipv4 = self.ipv4.map(|address| Addr4::new(address.octets()));
        let ipv6 = self.ipv6.map(|address| Addr6::new(address.octets()));
        let names = (self.slot, self.identity);
        let macs = (self.mac, self.gateway_mac);
        Party::endpoint(self.link, names, (ipv4, ipv6), macs, self.mtu)
    }

    /// Returns the decision about packets that it sends to `to`: nothing counted yet, both sides
    /// have spoken.
    pub fn flow_to(&self, to: &Self) -> Flow {
        let mut flow = Flow::default();
        flow.generation = GENERATION;
        flow.zone = self.link;
        flow.arrives = MacPair::new(self.gateway_mac, self.mac);
        flow.target = to.link;
        flow.leaves = MacPair::new(to.mac, to.gateway_mac);
        flow.mtu = to.mtu;
        (flow.source_identity, flow.target_identity) = (self.identity, to.identity);
        flow.begin(match (*self == HOST, *to == HOST) {
            (false, false) => Action::Peer,
            (true, _) => Action::Endpoint,
            (false, true) => Action::Host,
        });
        flow.set_stage(Stage::Established);
        flow
    }
}

/// Returns the node's entry.
pub fn node() -> Node {
    let mut node = Node::default();
    (node.generation, node.host_ifindex) = (GENERATION, HOST.link);
    node.set_ipv4(
        (Addr4::new([10, 0, 1, 0]), 24),
        Addr4::new(ROUTER4.octets()),
    );
    let prefix6 = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0);
    node.set_ipv6(
        (Addr6::new(prefix6.octets()), 64),
        Addr6::new(ROUTER6.octets()),
    );
    node
}

/// Returns the node in memory, with everybody on it and no flows.
pub fn model() -> ModelNode {
    let mut model = ModelNode::new(node(), SLOTS, 0);
    for who in ALL {
        model.add(who.party());
    }
    model
}
