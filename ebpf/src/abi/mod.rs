//! Every map key and value: the only contract between kernel and agent.
//!
//! All types are `repr(C)` with explicit padding and a fixed size; addresses and ports hold the
//! bytes of the wire, everything else is in the machine's order. A change of layout raises
//! [`SCHEMA`], which is part of the pin path, so that an agent never reads another layout.
//!
//! # Layout
//! - `key`: what identifies a flow
//! - `datagram`: datagrams in fragments
//! - `flow`: decisions, and connections that wait for their other side
//! - `binding`: which outside addresses and ports are whose
//! - `note`: short notes about flows
//! - `node`: the node and the parties on it
//! - `device`: devices, and what lies beyond them
//! - `policy`: who may talk to whom

mod binding;
mod datagram;
mod device;
mod flow;
mod key;
mod node;
mod note;
mod policy;

pub use crate::address::{Addr4, Addr6};
pub use binding::{Binding, TAKEN_NS, WITH_OTHER_NS};
pub use datagram::{Datagram, FragmentKey, Order, Overtaking};
pub use device::{Device, Lengths, Prefix, PrefixKey};
pub use flow::{Action, Flow, NextHop, Pending, Stage};
pub use key::FlowKey;
pub use node::{Masquerade, Node, Party, Timeouts};
pub use note::{Line, NOTES_PER_LINE};
pub use policy::{
    Count, Decision, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPort, Ruling, Side, Sides,
    Subject, TERM_SLOTS,
};

/// Number of this layout; stands in the pin path as `v<SCHEMA>`.
///
/// Whoever raises it keeps the types of the layout before as `previous`, with conversions: the agent
/// carries flows, pending flows and bindings of that one over, and refuses all others.
#[cfg(not(feature = "next-schema"))]
pub const SCHEMA: u32 = 3;
#[cfg(feature = "next-schema")]
pub const SCHEMA: u32 = 4;

/// The layout before this one.
#[cfg(feature = "next-schema")]
pub use flow::previous;

/// What the layout that tests upgrade to adds to values.
const ADDED: usize = if cfg!(feature = "next-schema") { 8 } else { 0 };

/// Zone and receiver of flows from and to the world behind any device; also the key of the
/// world's entry among the parties, and what `LOCAL4` and `LOCAL6` hold for an address that
/// endpoints are masqueraded with.
pub const OUTSIDE: u32 = u32::MAX;

/// Number of pending flows that each endpoint may have at once, and of lines of notes about whom it
/// lets in: a power of two.
pub const PENDING_PER_SLOT: u32 = 256;

/// Number of entries of the `OVERTAKING` map, which senders share by a hash of their address: a power
/// of two.
pub const OVERTAKING_SLOTS: u32 = 256;

/// Number of lines of notes about packets on their way through the node's stack: a power of two.
pub const TICKET_LINES: u32 = 2048;

/// Number of entries of the `LENGTHS` map: for IPv4 one for each side of policy, then for IPv6.
pub const LENGTHS_SLOTS: u32 = 4;

/// Identity of the node itself.
pub const IDENTITY_HOST: u32 = 1;

/// Number of entries of the `DROPS` map: one for each possible reason.
pub const DROP_SLOTS: u32 = 256;

/// Slot of flows that the node's own stack began.
pub const SLOT_HOST: u16 = 0;
/// Slot of flows that began outside.
pub const SLOT_OUTSIDE: u16 = 1;

/// Index of the IPv4 slow path in the map of tail calls.
pub const CALL_SLOW4: u32 = 0;
/// Index of the IPv6 slow path in the map of tail calls.
pub const CALL_SLOW6: u32 = 1;
/// Index of the ARP program in the map of tail calls.
pub const CALL_ARP: u32 = 2;
/// Index of the IPv4 slow path for those that ask the former tables before it.
pub const CALL_DECIDE4: u32 = 3;
/// Index of the IPv6 slow path for those that ask the former tables before it.
pub const CALL_DECIDE6: u32 = 4;
/// Number of entries of the map of tail calls.
pub const CALLS: u32 = 5;

/// Number of entries of the map of programs of hooks before these, by the number of the hook.
pub const FORMER_SLOTS: u32 = 8;

macro_rules! layout {
    ($($type:ty: $len:expr),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $len);
        // SAFETY: `repr(C)` with explicit padding only; all fields are integers or arrays.
        #[cfg(not(target_arch = "bpf"))]
        #[expect(unsafe_code, reason = "aya copies these types to and from the kernel")]
        unsafe impl aya::Pod for $type {}
    )+};
}

layout! {
    Addr4: 4, Addr6: 16, FlowKey<Addr4>: 16, FlowKey<Addr6>: 40, Flow<Addr4>: 160 + ADDED,
    Flow<Addr6>: 184 + ADDED, Binding<Addr4>: 32 + ADDED, Binding<Addr6>: 56 + ADDED, Device: 32, Prefix: 4, Sides<Prefix>: 8, PrefixKey<Addr4>: 12,
    PrefixKey<Addr6>: 24, Lengths: 72, Pending<Addr4>: 72 + ADDED,
    Pending<Addr6>: 96 + ADDED, Party: 48, Node: 128, FragmentKey<Addr4>: 16, FragmentKey<Addr6>: 40,
    Datagram: 8, Overtaking: 8, Count: 16, Line: 64, Sides<Subject>: 24,
    PolicyKey: 12, Sides<PolicyEntry>: 16, PolicyPort: 8, Ruling: 4, Sides<Ruling>: 8,
}

#[cfg(feature = "next-schema")]
layout! {
    previous::Flow<Addr4>: 160, previous::Flow<Addr6>: 184, previous::Binding<Addr4>: 32,
    previous::Binding<Addr6>: 56, previous::Pending<Addr4>: 72, previous::Pending<Addr6>: 96,
}
