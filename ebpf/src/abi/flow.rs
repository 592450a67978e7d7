//! Values of the flow tables: decisions, and connections that wait for their other side.

use super::FlowKey;
use crate::packet::MacPair;

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
    /// Grows by one before and after each write: odd while a processor writes.
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
