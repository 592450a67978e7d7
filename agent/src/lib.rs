//! The control side of ciliate.
//!
//! # Layout
//! - [`config`]: TOML → configuration, all errors at once
//! - [`plan`]: what must change, in which order, and why
//! - [`topology`]: what one node must look like

pub mod config;
pub mod plan;
pub mod topology;
