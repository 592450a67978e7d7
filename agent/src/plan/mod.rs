//! Desired state minus observed state: the steps between them. Pure.
//!
//! # Layout
//! - [`object`], [`masquerade`]: keys and values of everything that a node is made of
//! - [`ambient`]: what surrounds it
//! - [`desired`](mod@desired): topology → desired state
//! - `departure`: what has to leave, why, and what vanishes with it
//! - [`diff`]: desired − observed → ordered steps
//! - `reason`: why a step is needed
//! - `difference`: what differs between two values of an object, in words
//! - `risk`: what a step may cost
//! - [`step`]: a step and a plan
//! - [`command`]: a step as the `ip`, `tc` or `bpftool` command that it resembles
//! - `entry`: the same for entries of maps
//! - [`render`]: a plan for people and as JSON

pub mod ambient;
pub mod command;
mod departure;
pub mod desired;
pub mod diff;
mod difference;
mod entry;
pub mod masquerade;
pub mod object;
mod reason;
pub mod render;
mod risk;
pub mod step;

pub use desired::desired;
pub use diff::{plan, restore, resume};
pub use difference::UNFINISHED_MTU;
pub use step::{Action, Place, Plan, Step};
