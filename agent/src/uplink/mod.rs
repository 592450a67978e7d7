//! Leases of DHCP servers for devices (RFC 2131, 2132, 3396, 3442), on the wire types of smoltcp.
//!
//! smoltcp's own client cannot be given a lease to go on with, nor does it tell when one ends: an
//! address that survives a restart of the agent needs both. So the states are ours, and reading and
//! writing messages is smoltcp's.
//!
//! A lease that is got is written to the node's file of leases; from there it is part of what is
//! desired, and the one mechanism applies, repairs and removes it. Nothing here changes the kernel.
//!
//! # Layout
//! - [`message`]: what is asked, as a packet
//! - [`answer`]: what a server says, from a packet
//! - [`route`]: the classless routes in it
//! - [`client`]: the states of one device; time comes in as an argument
//! - [`wait`]: how long an answer is waited for
//! - [`watch`]: the clients of a node, their sockets and the file of leases

pub mod answer;
pub mod client;
pub mod message;
pub mod route;
pub mod wait;
pub mod watch;

pub use watch::{Uplinks, Wanted};
