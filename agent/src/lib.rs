//! The control side of ciliate.
//!
//! # Layout
//! - [`cli`]: what the verbs do
//! - [`config`]: TOML → configuration, all errors at once
//! - [`topology`]: what one node must look like
//! - [`plan`]: what must change, in which order, and why
//! - [`reconcile`]: observe → plan → apply → verify
//! - [`daemon`]: the resident agent's loop
//! - [`host`]: the kernel's network objects
//! - [`datapath`]: BPF maps and programs
//! - [`observe`]: what the node is doing
//! - [`uplink`]: leases of DHCP servers
//! - [`manual`]: what warnings and drop reasons mean

pub mod cli;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod host;
pub mod manual;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod topology;
pub mod uplink;
