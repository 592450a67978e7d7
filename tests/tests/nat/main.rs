//! The rows of the requirements that masquerading must meet, one test each.
//!
//! Rows whose timers are minutes or hours run with timers of seconds (`unsafe_timeouts`), and say
//! so; packets of the test, not the agent's word, decide what was seen.
//!
//! # Layout
//! - [`udp`]: RFC 4787
//! - [`tcp`]: RFC 5382
//! - [`icmp`]: RFC 5508
//! - [`binding`]: RFC 7857, RFC 6888, RFC 6864
//! - [`router`]: RFC 1812, RFC 4443, RFC 8200
//! - [`exclusion`]: what is translated, and what is not
//! - [`forge`]: errors of ICMP about a packet, in all variants
//! - [`piece`]: fragments, and what they make together
//! - [`talk`]: a conversation by TCP, segment by segment

mod binding;
mod exclusion;
mod forge;
mod icmp;
mod piece;
mod router;
mod talk;
mod tcp;
mod udp;
