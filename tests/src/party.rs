//! The node that the tests describe, and who is on it.
//!
//! ```text
//!   a  10.0.1.10  fd00:1::10  lxc 111 ┐
//!   b  10.0.1.11  fd00:1::11  lxc 112 ├─ node 10.0.1.0/24, fd00:1::/64 ── cilium_host 100
//!   c  10.0.1.12              lxc 113 │
//!   d             fd00:1::13  lxc 114 ┘        a link without an endpoint: 115
//!
//!   device 120, masquerade 203.0.113.2 and 2001:db8:1::2, next hop 203.0.113.1 / 2001:db8:1::1:
//!     far    198.51.100.7    2001:db8:51::7    behind the next hop
//!     friend 198.51.101.7    2001:db8:52::7    behind the next hop, never masqueraded
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::{
    Action, Addr4, Addr6, Device, Flow, Masquerade, NextHop, Node, OUTSIDE, Party, Prefix, Stage,
    Subject,
};
use datapath::model::ModelNode;
use datapath::packet::MacPair;
use datapath::tables::Route;

use crate::frame::Tuple;

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

/// Index of the device.
pub const DEVICE_LINK: u32 = 120;
pub const DEVICE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
pub const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

/// Addresses that endpoints are masqueraded with; the device's own.
pub const OUTER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
pub const NEXT_HOP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const NEXT_HOP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// Addresses behind the next hop.
pub const FAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 7);
/// Addresses behind the next hop that are excluded from masquerading.
pub const FRIEND4: Ipv4Addr = Ipv4Addr::new(198, 51, 101, 7);
pub const FRIEND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x52, 0, 0, 0, 0, 7);
/// Identity of what is excluded.
pub const FRIENDS: u32 = 16_777_216;
/// First and last port of the masquerade range.
pub const PORTS: [u16; 2] = [49_152, 65_535];

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

    /// Returns the address behind the next hop of this family.
    pub fn far(self) -> IpAddr {
        self.pick(FAR4, FAR6)
    }

    /// Returns the excluded address of this family.
    pub fn friend(self) -> IpAddr {
        self.pick(FRIEND4, FRIEND6)
    }

    /// Returns the masquerade address of this family.
    pub fn outer(self) -> IpAddr {
        self.pick(OUTER4, OUTER6)
    }

    /// Returns the address of the next hop of this family.
    pub fn next_hop(self) -> IpAddr {
        self.pick(NEXT_HOP4, NEXT_HOP6)
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

/// Is behind the next hop.
pub const FAR: Who = beyond("far", FAR4, FAR6);
/// Is behind the next hop, and never masqueraded towards.
pub const FRIEND: Who = beyond("friend", FRIEND4, FRIEND6);

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
        slot: number as u16 + 1,
        identity: 20_000 + number as u32,
    }
}

const fn beyond(name: &'static str, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Who {
    Who {
        name,
        link: DEVICE_LINK,
        mac: NEXT_HOP_MAC,
        gateway_mac: DEVICE_MAC,
        ipv4: Some(ipv4),
        ipv6: Some(ipv6),
        mtu: MTU,
        slot: 1,
        identity: 2,
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

    /// Returns its IPv4 address as keys of maps hold it.
    pub fn addr4(&self) -> Addr4 {
        Addr4::new(self.ipv4.expect("has an IPv4 address").octets())
    }

    /// Returns its IPv6 address as keys of maps hold it.
    pub fn addr6(&self) -> Addr6 {
        Addr6::new(self.ipv6.expect("has an IPv6 address").octets())
    }

    /// Returns its entry in the map of parties.
    pub fn party(&self) -> Party {
        if *self == HOST {
            return Party::host(self.link, self.mac, self.gateway_mac, self.mtu);
        }
        let ipv4 = self.ipv4.map(|address| Addr4::new(address.octets()));
        let ipv6 = self.ipv6.map(|address| Addr6::new(address.octets()));
        let macs = (self.mac, self.gateway_mac);
        Party::endpoint(self.link, self.slot, (ipv4, ipv6), macs, self.mtu)
    }

    /// Returns what it is to policy, while everything is allowed.
    pub fn subject(&self) -> Subject {
        Subject {
            identity: self.identity,
            ..Subject::default()
        }
    }

    /// Returns the decision about packets that it sends to `to`: nothing counted yet, both sides
    /// have spoken.
    pub fn flow_to(&self, to: &Self) -> AnyFlow {
        let mut flow = AnyFlow::default();
        flow.generation = GENERATION;
        flow.zone = self.link;
        flow.arrives = MacPair::new(self.gateway_mac, self.mac);
        (flow.target, flow.receiver) = (to.link, to.link);
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

    /// Returns the decision about packets that it sends out of the device, untranslated.
    pub fn flow_out(&self, family: Family) -> AnyFlow {
        let mut flow = self.flow_to(&HOST);
        flow.begin(Action::Device);
        flow.set_stage(Stage::Established);
        (flow.target, flow.receiver, flow.target_identity) = (DEVICE_LINK, OUTSIDE, 2);
        flow.leaves = MacPair::default();
        flow.mtu = MTU;
        let (next_hop, number) = next_hop(family);
        flow.set_next_hop(next_hop, number);
        flow
    }

    /// Returns the decision about packets that come to it from outside, untranslated.
    pub fn flow_in(&self) -> AnyFlow {
        let mut flow = A.flow_to(self);
        (flow.zone, flow.source_identity, flow.arrives) = (OUTSIDE, 2, MacPair::default());
        flow
    }
}

/// Is a flow of either family; the addresses of IPv4 take the first four bytes.
pub type AnyFlow = Flow<Addr6>;

/// Returns the next hop of a family as a flow has it, and the kernel's number of the family.
pub fn next_hop(family: Family) -> (NextHop, u8) {
    let mut bytes = [0; 16];
    let number = match family.next_hop() {
        IpAddr::V4(hop) => {
            bytes[..4].copy_from_slice(&hop.octets());
            2
        }
        IpAddr::V6(hop) => {
            bytes = hop.octets();
            10
        }
    };
    let [low, high] = [0, 8].map(|at| {
        let half = bytes[at..at + 8].try_into().expect("eight bytes");
        u64::from_ne_bytes(half)
    });
    let address = [low, high];
    (NextHop { address }, number)
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
    node.to_stack = MacPair::new(HOST.mac, HOST.gateway_mac);
    node.masquerade = Masquerade {
        ports: PORTS,
        ..Masquerade::default()
    };
    node
}

/// Returns the node in memory, with everybody on it and no flows.
pub fn model() -> ModelNode {
    let mut model = ModelNode::new(node(), SLOTS, 0);
    for who in ALL {
        model.add(who.party());
        model.add_subject(&who.party(), who.subject());
    }
    model.add_outside();
    model.add_subject(&Party::outside(), FAR.subject());
    let outer4 = Addr4::new(OUTER4.octets());
    let outer6 = Addr6::new(OUTER6.octets());
    model.add_device(Device::new(
        DEVICE_LINK,
        DEVICE_MAC,
        Some(outer4),
        Some(outer6),
    ));
    let excluded = Prefix::new(FRIENDS, true);
    let friends4 = Addr4::new(FRIEND4.octets());
    let friends6 = Addr6::new(FRIEND6.octets());
    model.add_prefixes((friends4, 32), (friends6, 128), excluded);
    add_routes(&mut model);
    model
}

/// Takes the masquerade addresses from the device, which masquerades all the same.
pub fn take_address(model: &mut ModelNode) {
    model.tables4.local.remove(&Addr4::new(OUTER4.octets()));
    model.tables6.local.remove(&Addr6::new(OUTER6.octets()));
    model.add_device(Device::new(DEVICE_LINK, DEVICE_MAC, None, None).masquerading());
}

/// Gives the node a socket at the source of a flow.
pub fn add_socket(model: &mut ModelNode, tuple: &Tuple) {
    let port = tuple.ports[0].to_be();
    match tuple.source {
        IpAddr::V4(source) => {
            let source = Addr4::new(source.octets());
            model.tables4.sockets.insert((source, port, tuple.protocol));
        }
        IpAddr::V6(source) => {
            let source = Addr6::new(source.octets());
            model.tables6.sockets.insert((source, port, tuple.protocol));
        }
    }
}

/// Adds the routes of the device: as the kernel has them, see `kernel`.
fn add_routes(model: &mut ModelNode) {
    let route = |family| {
        let (next_hop, number) = next_hop(family);
        Route {
            ifindex: DEVICE_LINK,
            mtu: MTU,
            family: number,
            is_resolved: 1,
            next_hop,
        }
    };
    // Whoever else is on the segment has not been heard of.
    let unresolved = |family| Route {
        mtu: u16::MAX,
        is_resolved: 0,
        ..route(family)
    };
    let own = Route::default();
    for (address, len, route) in [
        (FAR4, 32, route(Family::V4)),
        (FRIEND4, 32, route(Family::V4)),
        (NEXT_HOP4, 32, route(Family::V4)),
        (OUTER4, 32, own),
        (Ipv4Addr::new(203, 0, 113, 255), 32, own),
        (OUTER4, 24, unresolved(Family::V4)),
    ] {
        let address = Addr4::new(address.octets());
        model.tables4.routes.push((address, len, route));
    }
    let anycast = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0);
    for (address, len, route) in [
        (FAR6, 128, route(Family::V6)),
        (FRIEND6, 128, route(Family::V6)),
        (NEXT_HOP6, 128, route(Family::V6)),
        (OUTER6, 128, own),
        (anycast, 128, own),
        (OUTER6, 64, unresolved(Family::V6)),
    ] {
        let address = Addr6::new(address.octets());
        model.tables6.routes.push((address, len, route));
    }
}
