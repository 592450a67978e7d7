//! RFC 1812, RFC 4443, RFC 8200: what a router owes.
//!
//! # Layout
//! - [`hop`]: hop limits, and errors about them
//! - [`header`]: headers that are refused, and those that are kept
//! - [`place`]: addresses that go nowhere
//! - [`way`]: routes, neighbours, next hops, and changes of them

mod header;
mod hop;
mod place;
mod way;
