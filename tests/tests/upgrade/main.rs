//! A node's programs and tables are exchanged for others while packets pass.
//!
//! # Layout
//! - [`talk`]: streams and connections that must not notice
//! - [`sizes`]: tables of other sizes
//! - [`binary`]: other programs, another layout
//! - [`begin`]: connections that begin meanwhile

mod begin;
mod binary;
mod sizes;
mod talk;
