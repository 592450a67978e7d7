//! Desired state minus observed state: the steps between them. Pure.
//!
//! # Layout
//! - [`object`], [`link`], [`masquerade`]: keys and values of everything that a node is made of
//! - [`ambient`]: what surrounds it
//! - [`desired`](mod@desired): topology → desired state
//! - `outside`: the part of it that concerns devices, prefixes and peers
//! - `uplink`: the part of that which configures devices
//! - [`lease`]: what a DHCP server lent
//! - [`host_routing`]: past the host's stack or through it
//! - [`policy`]: who may talk to whom, as the tables of the kernel hold it
//! - [`lockout`]: whom a policy about the node would cut off
//! - [`reserved`]: ports that the host's own connections must not get
//! - [`refusal`], [`warning`], [`notes`]: what stands against it, and what a person should know
//! - [`cutover`]: tables that are exchanged for others
//! - `departure`: what has to leave, why, and what vanishes with it
//! - [`diff`]: desired − observed → ordered steps
//! - `reason`: why a step is needed
//! - [`difference`]: what differs between two values of an object, in words
//! - `risk`: what a step may cost
//! - [`step`]: a step and a plan
//! - [`command`]: a step as the `ip`, `tc` or `bpftool` command that it resembles
//! - `entry`: the same for entries of maps
//! - [`render`]: a plan for people and as JSON

pub mod ambient;
pub mod command;
pub mod cutover;
mod departure;
pub mod desired;
pub mod diff;
pub mod difference;
mod entry;
pub mod host_routing;
pub mod lease;
pub mod link;
pub mod lockout;
pub mod masquerade;
pub mod notes;
pub mod object;
mod outside;
pub mod policy;
mod reason;
pub mod refusal;
pub mod render;
pub mod reserved;
mod risk;
pub mod step;
mod uplink;
pub mod warning;

pub use desired::{Desired, desired, notes};
pub use diff::{plan, restore, resume};
pub use difference::UNFINISHED_MTU;
pub use notes::Notes;
pub use refusal::{Refusal, Refusals};
pub use step::{Action, Place, Plan, Step};
