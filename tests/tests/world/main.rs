//! Real clients, from an endpoint to the world and to the endpoint of another node.
//!
//! Tests run in both modes of host routing, with checksums made by the links and by the
//! kernel, in both families; what arrives at the far sides meanwhile is captured and judged: no bad
//! checksum, and in the world no address of an endpoint.
//!
//! # Layout
//! - [`probe`]: ping, traceroute, tracepath
//! - [`transfer`]: curl, iperf3
//! - [`name`]: dnsmasq and dig
//! - [`connection`]: half-closed and simultaneous-open TCP
//! - [`inward`]: what the world begins
//! - [`way`]: other devices, dead and smaller next hops, several of them, rules
//! - [`fork`]: the node with two devices for that

mod connection;
mod fork;
mod inward;
mod name;
mod probe;
mod transfer;
mod way;
