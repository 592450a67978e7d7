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

/// Is one half of a binding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Binding<A> {
    /// The key of the other half. Of an entry that lets a remote address in, the key itself.
    pub other: FlowKey<A>,
    /// When it ends; only the outside half's counts, and only packets from inside move it.
    pub expires_ns: u64,
    /// Index of the endpoint's link.
    pub zone: u32,
    /// Not 0 once the outside has answered.
    pub answered: u16,
    /// Number of connections of TCP that are established through it.
    pub open: u16,
}
