//! Values that describe the node and the parties on it.

use super::{OUTSIDE, SLOT_HOST, SLOT_OUTSIDE};
use crate::address::{Addr4, Addr6};
use crate::packet::MacPair;

/// Describes one party to a connection: an endpoint, the node's own stack behind `cilium_host`,
/// or the world. The key is the index of the host-side link, or [`OUTSIDE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Party {
    pub ifindex: u32,
    /// Number of the slice of the tables of pending flows; for an endpoint also its number.
    pub slot: u16,
    /// Largest packet that it takes, in bytes.
    pub mtu: u16,
    pub ipv6: Addr6,
    pub ipv4: Addr4,
    /// Address of its own link.
    pub mac: [u8; 6],
    /// Address of the link that faces it.
    pub gateway_mac: [u8; 6],
    kind: u8,
    families: u8,
    pad: [u8; 6],
}

const FAMILY4: u8 = 1;
const FAMILY6: u8 = 2;

impl Party {
    /// Describes the node's stack: `mac` is the address of `cilium_host`, `gateway_mac` that of
    /// `cilium_net`.
    pub fn host(ifindex: u32, mac: [u8; 6], gateway_mac: [u8; 6], mtu: u16) -> Self {
        Self {
            ifindex,
            slot: SLOT_HOST,
            mtu,
            mac,
            gateway_mac,
            ..Self::default()
        }
    }

    /// Describes the world behind the devices.
    pub fn outside() -> Self {
        Self {
            ifindex: OUTSIDE,
            slot: SLOT_OUTSIDE,
            mtu: u16::MAX,
            ..Self::default()
        }
    }

    /// Describes an endpoint; `mac` is its own address, `gateway_mac` that of its `lxc` link.
    pub fn endpoint(
        ifindex: u32,
        slot: u16,
        (ipv4, ipv6): (Option<Addr4>, Option<Addr6>),
        (mac, gateway_mac): ([u8; 6], [u8; 6]),
        mtu: u16,
    ) -> Self {
        let families =
            if ipv4.is_some() { FAMILY4 } else { 0 } | if ipv6.is_some() { FAMILY6 } else { 0 };
        Self {
            ifindex,
            ipv6: ipv6.unwrap_or_default(),
            ipv4: ipv4.unwrap_or_default(),
            slot,
            mtu,
            mac,
            gateway_mac,
            kind: 1,
            families,
            pad: [0; 6],
        }
    }

    /// Returns the key of what it is to policy: the address of its link, or of the node and of the
    /// world the slot. Slots change with the number of endpoints, addresses do not.
    #[inline(always)]
    pub const fn subject(&self) -> u64 {
        if !self.is_endpoint() {
            return self.slot as u64;
        }
        let [a, b, c, d, e, f] = self.mac;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    #[inline(always)]
    pub const fn is_endpoint(&self) -> bool {
        self.kind == 1
    }

    /// Tells whether the party has this IPv4 address.
    #[inline(always)]
    pub fn has_ipv4(&self, address: Addr4) -> bool {
        self.families & FAMILY4 != 0 && self.ipv4 == address
    }

    /// Tells whether the party has this IPv6 address.
    #[inline(always)]
    pub fn has_ipv6(&self, address: Addr6) -> bool {
        self.families & FAMILY6 != 0 && self.ipv6 == address
    }

    /// Returns its IPv4 address, if it has one.
    pub fn ipv4(&self) -> Option<Addr4> {
        (self.families & FAMILY4 != 0).then_some(self.ipv4)
    }

    /// Returns its IPv6 address, if it has one.
    pub fn ipv6(&self) -> Option<Addr6> {
        (self.families & FAMILY6 != 0).then_some(self.ipv6)
    }
}

/// Says how long a connection may be idle, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Timeouts {
    pub tcp_established: u32,
    /// Of one that opens or closes.
    pub tcp_transitory: u32,
    pub udp: u32,
    pub icmp: u32,
    pub other: u32,
}

impl Timeouts {
    /// Returns the shortest of them.
    #[inline(always)]
    pub fn least(&self) -> u32 {
        let tcp = self.tcp_established.min(self.tcp_transitory);
        tcp.min(self.udp).min(self.icmp).min(self.other)
    }
}

impl Default for Timeouts {
    /// RFC 5382 REQ-5: 124 and 4 minutes; RFC 4787 REQ-5 recommends 5 minutes; RFC 5508 REQ-2: 60
    /// seconds at least.
    fn default() -> Self {
        Self {
            tcp_established: 7_440,
            tcp_transitory: 240,
            udp: 300,
            icmp: 60,
            other: 60,
        }
    }
}

/// Says how endpoints are masqueraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Masquerade {
    /// First and last port of the range, in the machine's order; 0 while nothing is masqueraded.
    pub ports: [u16; 2],
    /// Most bindings of one endpoint; 0 for no limit.
    pub max_ports: u32,
    /// Whether a binding serves every remote address, not one remote address and port.
    pub endpoint_independent: u8,
    /// Whether a binding lets every remote address in, not only those that were spoken to.
    pub unfiltered: u8,
    /// Whether ports are chosen at random.
    pub random_ports: u8,
    pub pad: u8,
}

/// Describes the node; the only entry of its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Node {
    /// A flow that was decided under another number is decided again.
    pub generation: u32,
    /// Index of `cilium_host`; 0 while the node is not set up.
    pub host_ifindex: u32,
    /// Number of entries of the tables of pending flows, less one.
    pub pending_mask: u32,
    families: u8,
    /// Length of the node's prefix for endpoints.
    pub prefix4_len: u8,
    pub prefix6_len: u8,
    /// Whether the node's stack forwards everything, and none is redirected past it.
    pub legacy_routing: u8,
    pub prefix4: Addr4,
    pub router4: Addr4,
    pub prefix6: Addr6,
    pub router6: Addr6,
    /// Digest of the configuration that the generation stands for; the kernel ignores it.
    pub fingerprint: u64,
    pub masquerade: Masquerade,
    pub timeouts: Timeouts,
    /// Addresses of frames that enter the node's stack through `cilium_host`.
    pub to_stack: MacPair,
    /// Index of `cilium_net`, at which the stack refuses what it gets.
    pub net_ifindex: u32,
    /// Whether the node's stack puts fragments together, and so in order, that it forwards.
    pub reassembles: u32,
    /// For each side of policy, whether the node itself has one: bit 0 and bit 1.
    pub guards: u32,
    /// Whether both sides of policy say the same; the kernel ignores it.
    pub is_settled: u32,
    spare: [u32; 1],
}

impl Node {
    /// Sets prefix and router address of IPv4.
    pub fn set_ipv4(&mut self, prefix: (Addr4, u8), router: Addr4) {
        self.families |= FAMILY4;
        (self.prefix4, self.prefix4_len) = prefix;
        self.router4 = router;
    }

    /// Sets prefix and router address of IPv6.
    pub fn set_ipv6(&mut self, prefix: (Addr6, u8), router: Addr6) {
        self.families |= FAMILY6;
        (self.prefix6, self.prefix6_len) = prefix;
        self.router6 = router;
    }

    /// Returns the prefix and its length of IPv4, if the node has one.
    pub fn ipv4(&self) -> Option<(Addr4, u8)> {
        self.has_ipv4().then_some((self.prefix4, self.prefix4_len))
    }

    /// Returns the prefix and its length of IPv6, if the node has one.
    pub fn ipv6(&self) -> Option<(Addr6, u8)> {
        self.has_ipv6().then_some((self.prefix6, self.prefix6_len))
    }

    /// Tells whether policy has something to say about the node's own packets.
    #[inline(always)]
    pub const fn guards_host(&self) -> bool {
        self.guards >> (self.generation & 1) & 1 != 0
    }

    /// Tells whether endpoints of this node have IPv4 addresses.
    #[inline(always)]
    pub const fn has_ipv4(&self) -> bool {
        self.families & FAMILY4 != 0
    }

    /// Tells whether endpoints of this node have IPv6 addresses.
    #[inline(always)]
    pub const fn has_ipv6(&self) -> bool {
        self.families & FAMILY6 != 0
    }
}
