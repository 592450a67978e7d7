//! The control side of ciliate.
//!
//! # Layout
//! - [`host`]: the kernel's network objects: netlink, namespaces, sysctls, the BPF file system
//! - [`plan`]: what must change, in which order, and why
//! - [`topology`]: what one node must look like

pub mod host;
pub mod plan;
pub mod topology;
