//! What the node is doing: status and flows, read from the kernel alone.
//!
//! # Layout
//! - [`status`](mod@status): modes with reasons, endpoints, maps, drops
//! - [`lease`]: the lease of a device
//! - [`flow`]: the flow table, with names in place of indices

pub mod flow;
pub mod lease;
pub mod status;
