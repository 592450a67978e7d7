//! Who is behind an address outside: the longest prefix that it lies in.
//!
//! Prefixes lie in one hash table, each under its address and length, and the lengths that occur are
//! searched by halves:
//!
//! ```text
//! lengths in use   8   16   24   32        60.1.2.3: /16 is there ──► /24 is there ──► /32 is not
//! ```
//!
//! For this the agent puts markers where a search for a longer prefix comes by, and each entry says
//! all that is known there: a marker what the prefix around it says. So a table of 100,000 prefixes
//! costs some lookups, and not the walk through a tree.

use crate::abi::{Lengths, OUTSIDE, Prefix, PrefixKey};
use crate::family::Address;
use crate::tables::{Step, Tables};
use crate::work::Work;

/// Probes that find one of [`Lengths::MOST`] lengths.
const PROBES: u32 = Lengths::MOST.ilog2() + 1;

/// Is a search for the longest prefix of an address.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Finding<A> {
    address: A,
    /// The lengths that are still possible: from the first of these places to before the other.
    low: u32,
    high: u32,
    /// What is known so far.
    pub prefix: Prefix,
    pad: u32,
}

/// Finds what is known of the other side of the packet in `work`, if that is outside.
#[inline(never)]
pub fn find<A: Address, T: Tables<A>>(tables: &mut T, work: &mut Work<A>) {
    let address = match (work.sender, work.receiver) {
        (OUTSIDE, _) => work.header.src,
        (_, OUTSIDE) => work.header.dst,
        (_, _) => return,
    };
    let side = work.moment.side();
    let (count, prefix) = tables.lengths(side);
    work.beyond.address = address;
    work.beyond.prefix = prefix;
    (work.beyond.low, work.beyond.high) = (0, count);
    if count != 0 {
        tables.repeat::<Probe>(work, PROBES);
    }
}

/// Looks for a prefix of one length.
struct Probe;

impl<A: Address> Step<A> for Probe {
    #[inline(always)]
    fn step<T: Tables<A>>(tables: &mut T, work: &mut Work<A>) -> bool {
        let side = work.moment.side();
        let finding = &mut work.beyond;
        if finding.low >= finding.high {
            return true;
        }
        let middle = u32::midpoint(finding.low, finding.high);
        let len = tables.length(side, middle);
        let key = PrefixKey::new(finding.address.first(len), len);
        if let Some(prefix) = tables.prefix(&key, side) {
            finding.prefix = prefix;
            finding.low = middle + 1;
        } else {
            finding.high = middle;
        }
        false
    }
}
