//! Ports as ranges of one space of 24 bits: the protocol above the port.
//!
//! ICMP has its type in the upper byte of the port and its code in the lower, as in the kernel's
//! tables; protocols without ports have port 0, and rules mean them as a whole.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::config::policy::Ports;

/// Bits of a place in the space.
pub(super) const BITS: u8 = 24;

/// End of the space.
pub(super) const END: u32 = 1 << BITS;

/// Returns what some ports cover; `named` tells which ports go by a name.
pub(super) fn spans(ports: &Ports, named: impl Fn(&str) -> BTreeSet<u16>) -> Vec<Range<u32>> {
    let span = |protocol, first, last| place(protocol, first)..place(protocol, last) + 1;
    match ports {
        Ports::Range {
            protocol,
            first,
            last,
        } => vec![span(*protocol, *first, *last)],
        Ports::Named { protocol, name } => {
            let ports = named(name).into_iter();
            ports.map(|port| span(*protocol, port, port)).collect()
        }
        Ports::Icmp {
            protocol,
            kind,
            code,
        } => {
            let port = |code| u16::from_be_bytes([*kind, code]);
            let (first, last) = (code.unwrap_or(0), code.unwrap_or(u8::MAX));
            vec![span(*protocol, port(first), port(last))]
        }
        Ports::Protocol(protocol) => vec![span(*protocol, 0, u16::MAX)],
    }
}

fn place(protocol: u8, port: u16) -> u32 {
    u32::from(protocol) << 16 | u32::from(port)
}

/// Returns the names that ports go by.
pub(super) fn name(ports: &Ports) -> Option<&str> {
    match ports {
        Ports::Named { name, .. } => Some(name),
        Ports::Range { .. } | Ports::Icmp { .. } | Ports::Protocol(_) => None,
    }
}
