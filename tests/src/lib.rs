//! What the privileged tests share.
//!
//! # Layout
//! - [`isolation`]: a network namespace and a BPF file system of a test's own
//! - [`party`]: the node that the tests describe, and who is on it
//! - [`frame`]: packets, built byte by byte
//! - [`segment`]: segments of TCP, with everything that a test wants to set
//! - [`packet`]: captured packets, read and judged
//! - [`snapshot`]: flows, pending flows and fragments of a node, to be given and compared
//! - [`kernel`]: the loaded programs, and packets sent through them
//! - [`row`]: one row of a packet table, run on the host and in the kernel
//! - [`random`]: a small generator of repeatable numbers
//! - [`rules`]: random policies
//! - [`lab`]: a machine of a test's own, a node on it, captures at the far side
//! - [`traffic`]: random packets that make flows, and damaged ones

#![expect(clippy::missing_panics_doc, reason = "a test may fail at any step")]

pub mod frame;
pub mod isolation;
pub mod kernel;
pub mod lab;
pub mod packet;
pub mod party;
pub mod random;
pub mod row;
pub mod rules;
pub mod segment;
pub mod snapshot;
pub mod traffic;
