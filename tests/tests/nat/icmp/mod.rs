//! RFC 5508: ICMP.
//!
//! # Layout
//! - [`query`]: echo requests and their replies
//! - [`inward`]: errors from outside
//! - [`outward`]: errors from inside
//! - [`limit`]: errors of the gateway's own

mod inward;
mod limit;
mod outward;
mod query;
