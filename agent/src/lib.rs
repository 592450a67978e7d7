//! The control side of ciliate.
//!
//! # Layout
//! - [`cli`]: what the verbs do
//! - [`config`]: TOML → configuration, all errors at once
//! - [`plan`]: what must change, in which order, and why
//! - [`topology`]: what one node must look like

pub mod cli;
pub mod config;
pub mod plan;
pub mod topology;
