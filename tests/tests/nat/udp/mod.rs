//! RFC 4787: UDP.
//!
//! # Layout
//! - [`mapping`]: which outside tuple a datagram leaves with
//! - [`session`]: what comes in, and for how long
//! - [`shape`]: sizes, fragments, checksums, payloads

mod mapping;
mod session;
mod shape;
