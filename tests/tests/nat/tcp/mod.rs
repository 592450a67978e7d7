//! RFC 5382: TCP.
//!
//! # Layout
//! - [`mapping`]: which outside tuple a connection has
//! - [`state`]: what segments do to a connection, and time
//! - [`error`]: what ICMP does to one
//! - [`stream`]: what a connection carries

mod error;
mod mapping;
mod state;
mod stream;
