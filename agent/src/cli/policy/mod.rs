//! `ciliate policy`: what the policy of a file means; offline, without root.
//!
//! Both verbs read the tables that the kernel would get, so that what they say is what it does.
//! Only counters are the kernel's own, for who may read them.
//!
//! # Layout
//! - [`trial`]: `policy test`
//! - [`show`](mod@show): `policy show`
//! - `cast`: the nodes of the file, and whom a word on the command line means
//! - `probe`: the port that is tried
//! - [`count`]: what terms have counted
//! - `line`: rules and terms, on a line

mod cast;
pub mod count;
mod line;
mod probe;
pub mod show;
pub mod trial;

pub use show::show;
pub use trial::test;
