//! The control side of ciliate.
//!
//! # Layout
//! - [`plan`]: what must change, in which order, and why
//! - [`topology`]: what one node must look like

pub mod datapath;
pub mod plan;
pub mod topology;
