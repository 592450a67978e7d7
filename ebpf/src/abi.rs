//! Every map key and value: the only contract between kernel and agent.
//!
//! All types are `repr(C)` with explicit padding and a fixed size; addresses and ports hold the
//! bytes of the wire, everything else is in the machine's order. A change of layout raises
//! [`SCHEMA`], which is part of the pin path, so that an agent never reads another layout.

use core::fmt;

pub use crate::address::{Addr4, Addr6};
use crate::packet::{MacPair, proto};

/// Number of this layout; stands in the pin path as `v<SCHEMA>`.
pub const SCHEMA: u32 = 1;

/// Number of pending flows that each endpoint may have at once: a power of two.
pub const PENDING_PER_SLOT: u32 = 256;

/// Number of entries of the `DROPS` map: one for each possible reason.
pub const DROP_SLOTS: u32 = 256;

/// Slot of flows that the node's own stack began.
pub const SLOT_HOST: u16 = 0;

/// Index of the IPv4 slow path in the map of tail calls.
pub const CALL_SLOW4: u32 = 0;
/// Index of the IPv6 slow path in the map of tail calls.
pub const CALL_SLOW6: u32 = 1;
/// Index of the ARP program in the map of tail calls.
pub const CALL_ARP: u32 = 2;
/// Number of entries of the map of tail calls.
pub const CALLS: u32 = 3;

/// Identifies a flow: a 5-tuple in one direction.
///
/// Echoes of ICMP carry their identifier as both ports and their type as `tag`, so that a
/// request and the reply to it are the two directions of one connection. Protocols without
/// ports have 0 there.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    src: A,
    dst: A,
    /// From the lowest bits up: source port, destination port, protocol, tag, 16 bits 0. It is
    /// written as one word because it is read as words right afterwards, by the hash: a load
    /// that spans several narrow stores waits until they have left the store buffer.
    rest: u64,
}

impl<A: Copy> FlowKey<A> {
    /// Makes a key; ports in the order of the wire.
    #[inline(always)]
    pub const fn new(src: A, dst: A, proto: u8, ports: [u16; 2], tag: u8) -> Self {
        let ports = ports[0] as u64 | (ports[1] as u64) << 16;
        Self {
            src,
            dst,
            rest: ports | (proto as u64) << 32 | (tag as u64) << 40,
        }
    }

    /// Returns the key of the opposite direction.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        let tag = match (self.proto(), self.tag()) {
            (proto::ICMP, 8) => 0,
            (proto::ICMP, 0) => 8,
            (proto::ICMP6, 128) => 129,
            (proto::ICMP6, 129) => 128,
            (_, tag) => tag,
        };
        let [src_port, dst_port] = self.ports();
        Self::new(self.dst, self.src, self.proto(), [dst_port, src_port], tag)
    }

    #[inline(always)]
    pub const fn src(&self) -> A {
        self.src
    }

    #[inline(always)]
    pub const fn dst(&self) -> A {
        self.dst
    }
}

impl<A> FlowKey<A> {
    #[inline(always)]
    pub const fn proto(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    /// Returns the source port, or the identifier of an echo.
    pub const fn src_port(&self) -> u16 {
        u16::from_be(self.ports()[0])
    }

    /// Returns the destination port, or the identifier of an echo.
    pub const fn dst_port(&self) -> u16 {
        u16::from_be(self.ports()[1])
    }

    /// Returns what the later fragments of a datagram of this flow cannot say themselves.
    #[inline(always)]
    pub const fn fragment_ports(&self) -> FragmentPorts {
        FragmentPorts {
            ports: self.ports(),
            tag: self.tag(),
            pad: [0; 3],
        }
    }

    /// Returns the type of an echo, 1 for other messages of ICMP, 0 for everything else.
    #[inline(always)]
    pub const fn tag(&self) -> u8 {
        (self.rest >> 40) as u8
    }

    #[inline(always)]
    const fn ports(&self) -> [u16; 2] {
        [self.rest as u16, (self.rest >> 16) as u16]
    }
}

impl<A: fmt::Debug> fmt::Debug for FlowKey<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowKey")
            .field("src", &self.src)
            .field("dst", &self.dst)
            .field("ports", &[self.src_port(), self.dst_port()])
            .field("proto", &self.proto())
            .field("tag", &self.tag())
            .finish_non_exhaustive()
    }
}

/// Tells how a packet of a flow leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// From endpoint to endpoint, past the node's stack; the packet is routed here, so its hop
    /// limit falls by one.
    Peer = 1,
    /// From the node's stack to an endpoint.
    Endpoint = 2,
    /// From an endpoint to the node's stack.
    Host = 3,
}

impl Action {
    /// Returns the action with this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Peer),
            2 => Some(Self::Endpoint),
            3 => Some(Self::Host),
            _ => None,
        }
    }
}

/// Tells how far a connection has come; the same in both of its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Only its opener has spoken.
    Opening = 0,
    /// Both sides have spoken.
    Established = 1,
    /// A side has ended or reset it.
    Closing = 2,
}

impl Stage {
    /// Returns the stage with this number; an unknown one counts as closing.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Opening,
            1 => Self::Established,
            _ => Self::Closing,
        }
    }
}

/// Remembers the decision about a flow.
///
/// The first 48 bytes are what the fast path reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// Generation of the configuration that the decision was made under.
    pub generation: u32,
    /// Index of the link that its packets come from.
    pub zone: u32,
    /// When the decision was last confirmed, which is when the flow was last seen, give or take
    /// a second; `CLOCK_MONOTONIC`.
    pub decided_ns: u64,
    /// Addresses that its frames arrive with; compared for flows from endpoints.
    pub arrives: MacPair,
    /// Index of the link that its packets go to.
    pub target: u32,
    /// Addresses that its frames leave with.
    pub leaves: MacPair,
    /// Largest packet that the target takes, in bytes.
    pub mtu: u16,
    action: u8,
    stage: u8,
    /// What has passed; two processors may lose a count to each other.
    pub packets: u64,
    /// Bytes of these packets, with their Ethernet headers.
    pub bytes: u64,
    /// When its first packet came.
    pub created_ns: u64,
    pub source_identity: u32,
    pub target_identity: u32,
    spare: [u8; 16],
}

impl Flow {
    /// Returns the action; `None` if the number is not one of ours.
    #[inline(always)]
    pub const fn action(&self) -> Option<Action> {
        Action::from_number(self.action)
    }

    /// Begins the flow anew: nothing counted, one side has spoken.
    #[inline(always)]
    pub const fn begin(&mut self, action: Action) {
        self.action = action as u8;
        self.stage = Stage::Opening as u8;
        self.packets = 0;
        self.bytes = 0;
        self.spare = [0; 16];
    }

    #[inline(always)]
    pub const fn stage(&self) -> Stage {
        Stage::from_number(self.stage)
    }

    #[inline(always)]
    pub const fn set_stage(&mut self, stage: Stage) {
        self.stage = stage as u8;
    }
}

/// Remembers a connection whose other side has not spoken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pending<A> {
    /// Not 0 while a processor writes the entry.
    pub lock: u32,
    /// Grows with each write.
    pub version: u32,
    /// The opener's flow.
    pub key: FlowKey<A>,
    /// Index of the link that its packets come from.
    pub zone: u32,
    pub generation: u32,
    /// When its first packet came.
    pub created_ns: u64,
    /// When its latest packet came.
    pub seen_ns: u64,
    pub packets: u64,
    pub bytes: u64,
}

/// Describes one party to a connection: an endpoint, or the node's own stack behind
/// `cilium_host`. The key is the index of the host-side link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Party {
    pub ifindex: u32,
    pub identity: u32,
    pub ipv6: Addr6,
    pub ipv4: Addr4,
    /// Number of the slice of the tables of pending flows; for an endpoint also its number.
    pub slot: u16,
    /// Largest packet that it takes, in bytes.
    pub mtu: u16,
    /// Address of its own link.
    pub mac: [u8; 6],
    /// Address of the link that faces it.
    pub gateway_mac: [u8; 6],
    kind: u8,
    families: u8,
    pad: [u8; 2],
}

const FAMILY4: u8 = 1;
const FAMILY6: u8 = 2;

impl Party {
    /// Describes the node's stack: `mac` is the address of `cilium_host`, `gateway_mac` that of
    /// `cilium_net`.
    pub fn host(ifindex: u32, mac: [u8; 6], gateway_mac: [u8; 6], mtu: u16) -> Self {
        Self {
            ifindex,
            identity: 1,
            slot: SLOT_HOST,
            mtu,
            mac,
            gateway_mac,
            ..Self::default()
        }
    }

    /// Describes an endpoint; `mac` is its own address, `gateway_mac` that of its `lxc` link.
    pub fn endpoint(
        ifindex: u32,
        (slot, identity): (u16, u32),
        (ipv4, ipv6): (Option<Addr4>, Option<Addr6>),
        (mac, gateway_mac): ([u8; 6], [u8; 6]),
        mtu: u16,
    ) -> Self {
        let families =
            if ipv4.is_some() { FAMILY4 } else { 0 } | if ipv6.is_some() { FAMILY6 } else { 0 };
        Self {
            ifindex,
            identity,
            ipv6: ipv6.unwrap_or_default(),
            ipv4: ipv4.unwrap_or_default(),
            slot,
            mtu,
            mac,
            gateway_mac,
            kind: 1,
            families,
            pad: [0; 2],
        }
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
    pad: u8,
    pub prefix4: Addr4,
    pub router4: Addr4,
    pub prefix6: Addr6,
    pub router6: Addr6,
    /// Digest of the configuration that the generation stands for; the kernel ignores it.
    pub fingerprint: u64,
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

/// Identifies a datagram that is on its way in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey<A> {
    src: A,
    dst: A,
    /// Identification, in the order of the wire.
    id: u32,
    proto: u8,
    pad: [u8; 3],
}

impl<A> FragmentKey<A> {
    #[inline(always)]
    pub const fn new(src: A, dst: A, id: u32, proto: u8) -> Self {
        Self {
            src,
            dst,
            id,
            proto,
            pad: [0; 3],
        }
    }
}

/// Remembers what the first fragment of a datagram said: ports and tag as in [`FlowKey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentPorts {
    pub ports: [u16; 2],
    pub tag: u8,
    pub pad: [u8; 3],
}

/// Counts what was dropped for one reason, on one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DropCount {
    pub packets: u64,
    pub bytes: u64,
}

macro_rules! layout {
    ($($type:ty: $len:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $len);
        // SAFETY: `repr(C)` with explicit padding only; all fields are integers or arrays.
        #[cfg(not(target_arch = "bpf"))]
        #[expect(unsafe_code, reason = "aya copies these types to and from the kernel")]
        unsafe impl aya::Pod for $type {}
    )+};
}

layout! {
    Addr4: 4, Addr6: 16, FlowKey<Addr4>: 16, FlowKey<Addr6>: 40, Flow: 96, Pending<Addr4>: 64,
    Pending<Addr6>: 88, Party: 48, Node: 64, FragmentKey<Addr4>: 16, FragmentKey<Addr6>: 40,
    FragmentPorts: 8, DropCount: 16,
}

#[cfg(test)]
mod tests {
    use super::{Addr4, FlowKey, proto};

    #[test]
    fn a_key_reversed_twice_is_itself_and_an_echo_request_turns_into_its_reply() {
        let [a, b] = [Addr4::new([10, 0, 0, 1]), Addr4::new([10, 0, 0, 2])];
        let tcp = FlowKey::new(a, b, proto::TCP, [1, 2], 0);
        let request = FlowKey::new(a, b, proto::ICMP, [7, 7], 8);

        assert_eq!(tcp.reversed().reversed(), tcp);
        assert_eq!(
            request.reversed(),
            FlowKey::new(b, a, proto::ICMP, [7, 7], 0)
        );
        assert_eq!(request.reversed().reversed(), request);
    }
}
