//! Which address and port of the outside stands for which of an endpoint.
//!
//! A binding is two entries of one map, each the key of the other:
//!
//! ```text
//! inside:  endpoint:port → remote:port   ──►  masquerade address:port → remote:port
//! outside: masquerade address:port → remote:port  ──►  endpoint:port → remote:port
//! ```
//!
//! With endpoint-independent mapping the remote side is 0 in both.

use super::FlowKey;

/// Expiry of an inside half: it ends with its outside half.
pub const WITH_OTHER_NS: u64 = u64::MAX;

/// Expiry of an entry that belongs to whoever wrote this: nobody else changes or removes it.
pub const TAKEN_NS: u64 = 1;

/// Is one half of a binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Binding<A> {
    #[cfg(feature = "next-schema")]
    pub shift: u64,
    /// The key of the other half.
    pub other: FlowKey<A>,
    /// When it ends; only packets from inside move it. [`WITH_OTHER_NS`] of an inside half, and
    /// [`TAKEN_NS`] while somebody takes the entry over or removes it.
    pub expires_ns: u64,
    /// Index of the endpoint's link.
    pub zone: u32,
    /// Not 0 once the outside has answered.
    pub answered: u16,
    /// Number of connections of TCP that are established through it.
    pub open: u16,
}
