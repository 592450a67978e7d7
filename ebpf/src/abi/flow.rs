//! Values of the flow tables: decisions, and connections that wait for their other side.

#[cfg(feature = "next-schema")]
pub mod previous;

use super::{Count, FlowKey};
use crate::packet::MacPair;

/// Tells how a packet of a flow leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// To an endpoint, past the node's stack; the packet is routed here, so its hop limit falls
    /// by one.
    Peer = 1,
    /// From the node's stack to an endpoint.
    Endpoint = 2,
    /// From an endpoint to the node's stack, which is the receiver.
    Host = 3,
    /// Out of a device to the next hop, past the node's stack; routed here as well.
    Device = 4,
    /// To wherever the node's stack routes it.
    Stack = 5,
}

impl Action {
    /// Returns the action with this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Peer),
            2 => Some(Self::Endpoint),
            3 => Some(Self::Host),
            4 => Some(Self::Device),
            5 => Some(Self::Stack),
            _ => None,
        }
    }
}

/// Tells how far a connection has come, as seen from the sender of one of its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Only its opener has spoken.
    Opening = 0,
    /// Both sides have spoken.
    Established = 1,
    /// Both sides have ended it, or one has reset it.
    Closing = 2,
    /// The flow's sender has said that it ends.
    Ended = 3,
    /// The flow's receiver has said that it ends.
    PeerEnded = 4,
}

impl Stage {
    /// Returns the stage with this number; an unknown one counts as closing.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Opening,
            1 => Self::Established,
            3 => Self::Ended,
            4 => Self::PeerEnded,
            _ => Self::Closing,
        }
    }

    /// Returns the same stage as seen from the other side.
    #[inline(always)]
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Ended => Self::PeerEnded,
            Self::PeerEnded => Self::Ended,
            Self::Opening | Self::Established | Self::Closing => self,
        }
    }
}

/// Is the neighbour that packets out of a device go to: an address in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NextHop {
    /// An IPv4 address takes the first four bytes.
    pub address: [u64; 2],
}

/// Remembers the decision about a flow.
///
/// The first 64 bytes are what the fast path reads and writes; what follows up to `sums` it reads
/// only for packets that it translates or sends out of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow<A> {
    #[cfg(feature = "next-schema")]
    shift: u64,
    /// Generation of the configuration that the decision was made under.
    pub generation: u32,
    /// Where its packets come from: the index of a link, or [`super::OUTSIDE`].
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
    flags: u8,
    /// What has passed; two processors may lose a count to each other.
    pub packets: u64,
    /// Bytes of these packets, with their Ethernet headers.
    pub bytes: u64,
    /// What its packets say when they leave: the key itself, or its translation.
    pub out: FlowKey<A>,
    /// Where packets out of a device go next.
    pub next_hop: NextHop,
    /// What the translation adds to checksums: by its addresses, and by its ports.
    pub sums: [u16; 2],
    next_hop_family: u8,
    stage: u8,
    spare_bytes: [u8; 2],
    /// When its first packet came.
    pub created_ns: u64,
    /// Where its packets go to: the index of a link, or [`super::OUTSIDE`].
    pub receiver: u32,
    pub source_identity: u32,
    pub target_identity: u32,
    /// Numbers of the terms of policy that allow the connection: at its opener, and at the one that
    /// it was opened to; 0 where none speaks of it.
    pub terms: [u16; 2],
    /// What of `packets` and `bytes` is counted for these terms.
    pub credited: Count,
    spare: [u8; 16],
}

/// The node's stack forwards the flow's packets between two of our hooks.
const THROUGH_STACK: u8 = 1;
/// `out` differs from the key.
const TRANSLATED: u8 = 2;
/// The connection was opened by the receiver.
const REPLY: u8 = 4;

impl<A> Flow<A> {
    /// Returns the action; `None` if the number is not one of ours.
    #[inline(always)]
    pub const fn action(&self) -> Option<Action> {
        Action::from_number(self.action)
    }

    /// Begins the flow anew: nothing counted, one side has spoken, nothing translated.
    #[inline(always)]
    pub const fn begin(&mut self, action: Action) {
        self.action = action as u8;
        self.stage = Stage::Opening as u8;
        self.flags = 0;
        self.packets = 0;
        self.bytes = 0;
        self.sums = [0; 2];
        self.next_hop = NextHop { address: [0; 2] };
        self.next_hop_family = 0;
        self.spare_bytes = [0; 2];
        self.terms = [0; 2];
        self.credited = Count {
            packets: 0,
            bytes: 0,
        };
        self.spare = [0; 16];
    }

    /// Returns the same flow, of another family's type, with this key as what leaves.
    #[cfg(not(target_arch = "bpf"))]
    pub fn carrying<B>(&self, out: FlowKey<B>) -> Flow<B> {
        Flow {
            #[cfg(feature = "next-schema")]
            shift: self.shift,
            generation: self.generation,
            zone: self.zone,
            decided_ns: self.decided_ns,
            arrives: self.arrives,
            target: self.target,
            leaves: self.leaves,
            mtu: self.mtu,
            action: self.action,
            flags: self.flags,
            packets: self.packets,
            bytes: self.bytes,
            out,
            next_hop: self.next_hop,
            sums: self.sums,
            next_hop_family: self.next_hop_family,
            stage: self.stage,
            spare_bytes: self.spare_bytes,
            created_ns: self.created_ns,
            receiver: self.receiver,
            source_identity: self.source_identity,
            target_identity: self.target_identity,
            terms: self.terms,
            credited: self.credited,
            spare: self.spare,
        }
    }

    /// Returns what has passed.
    #[inline(always)]
    pub const fn passed(&self) -> Count {
        Count {
            packets: self.packets,
            bytes: self.bytes,
        }
    }

    #[inline(always)]
    pub const fn set_action(&mut self, action: Action) {
        self.action = action as u8;
    }

    #[inline(always)]
    pub const fn stage(&self) -> Stage {
        Stage::from_number(self.stage)
    }

    #[inline(always)]
    pub const fn set_stage(&mut self, stage: Stage) {
        self.stage = stage as u8;
    }

    /// Tells whether its packets go to the node's stack to be forwarded there.
    #[inline(always)]
    pub const fn is_for_stack(&self) -> bool {
        self.is_through_stack() || self.action == Action::Stack as u8
    }

    /// Tells whether the node's stack forwards the flow's packets between two of our hooks.
    #[inline(always)]
    pub const fn is_through_stack(&self) -> bool {
        self.flags & THROUGH_STACK != 0
    }

    #[inline(always)]
    pub const fn set_through_stack(&mut self) {
        self.flags |= THROUGH_STACK;
    }

    #[inline(always)]
    pub const fn set_past_stack(&mut self) {
        self.flags &= !THROUGH_STACK;
    }

    /// Tells whether packets of the flow leave with other addresses or ports.
    #[inline(always)]
    pub const fn is_translated(&self) -> bool {
        self.flags & TRANSLATED != 0
    }

    /// Tells whether the flow's receiver opened the connection.
    #[inline(always)]
    pub const fn is_reply(&self) -> bool {
        self.flags & REPLY != 0
    }

    #[inline(always)]
    pub const fn set_reply(&mut self) {
        self.flags |= REPLY;
    }

    /// Returns the same flow with nothing said about its opener and the terms that allow it.
    #[cfg(not(target_arch = "bpf"))]
    #[must_use]
    pub fn without_origin(self) -> Self {
        Self {
            flags: self.flags & !REPLY,
            terms: [0; 2],
            credited: Count::default(),
            ..self
        }
    }

    /// Sets what packets leave with, and what that adds to their checksums.
    #[inline(always)]
    pub const fn set_translation(&mut self, out: FlowKey<A>, sums: [u16; 2])
    where
        A: Copy,
    {
        self.out = out;
        self.sums = sums;
        self.flags |= TRANSLATED;
    }

    /// Sets the next hop; `family` is the kernel's number of the address family.
    #[inline(always)]
    pub const fn set_next_hop(&mut self, next_hop: NextHop, family: u8) {
        self.next_hop = next_hop;
        self.next_hop_family = family;
    }

    /// Returns the kernel's number of the next hop's address family.
    #[inline(always)]
    pub const fn next_hop_family(&self) -> u8 {
        self.next_hop_family
    }
}

/// Remembers a connection whose other side has not spoken yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pending<A> {
    #[cfg(feature = "next-schema")]
    pub shift: u64,
    /// Not 0 while a processor writes the entry.
    pub lock: u32,
    /// Grows by one before and after each write: odd while a processor writes.
    pub version: u32,
    /// The opener's flow.
    pub key: FlowKey<A>,
    /// Index of the link that its packets come from.
    pub zone: u32,
    pub generation: u32,
    /// Not 0 if its packets are translated.
    pub is_translated: u32,
    pub pad: u32,
    /// When its first packet came.
    pub created_ns: u64,
    /// When its latest packet came.
    pub seen_ns: u64,
    pub packets: u64,
    pub bytes: u64,
}
