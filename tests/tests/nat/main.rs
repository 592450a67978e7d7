//! The rows of the requirements that masquerading must meet, one test each.
//!
//! # Layout
//! - [`udp`]: RFC 4787

mod udp;
