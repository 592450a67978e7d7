//! Datagrams that are on their way in fragments.

/// Identifies a datagram that is on its way in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey<A> {
    src: A,
    dst: A,
    /// Identification, in the order of the wire.
    id: u32,
    proto: u8,
    pad: [u8; 3],
}

impl<A> FragmentKey<A> {
    #[inline(always)]
    pub const fn new(src: A, dst: A, id: u32, proto: u8) -> Self {
        Self {
            src,
            dst,
            id,
            proto,
            pad: [0; 3],
        }
    }
}

/// Remembers a datagram that is on its way in fragments: what its first one said, ports and tag as
/// in [`FlowKey`], or that another one overtook it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Datagram {
    pub ports: [u16; 2],
    pub tag: u8,
    order: u8,
    /// When its first fragment was seen, or the one that overtook it, in units of 268 ms.
    pub seen: u16,
}

/// Unit in which the age of a datagram is counted: 268 ms.
const TICK_NS: u64 = 1 << 28;

/// Longest time between two fragments of a datagram: 30 s, as in the kernel.
const LIFETIME_TICKS: u16 = 112;

/// Tells in which order the fragments of a datagram come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// The first one came first.
    FirstFirst = 0,
    /// Another one came first; the node's stack gets them all.
    Overtaken = 1,
    /// The node's stack has put them in order.
    Restored = 2,
}

impl Datagram {
    /// Describes a datagram whose first fragment, or the one that overtook it, came at `now_ns`.
    #[inline(always)]
    pub const fn new(ports: [u16; 2], tag: u8, order: Order, now_ns: u64) -> Self {
        Self {
            ports,
            tag,
            order: order as u8,
            seen: (now_ns / TICK_NS) as u16,
        }
    }

    /// Tells in which order its fragments come.
    #[inline(always)]
    pub const fn order(&self) -> Order {
        match self.order {
            0 => Order::FirstFirst,
            1 => Order::Overtaken,
            _ => Order::Restored,
        }
    }

    /// Tells whether fragments of it may still come; later another datagram may have its
    /// identification.
    #[inline(always)]
    pub const fn is_live(&self, now_ns: u64) -> bool {
        let age = ((now_ns / TICK_NS) as u16).wrapping_sub(self.seen);
        age <= LIFETIME_TICKS
    }

    /// Returns the same without its time.
    #[must_use]
    pub const fn timeless(self) -> Self {
        Self { seen: 0, ..self }
    }
}

/// Counts the datagrams that overtook fragments made the node's stack hold, of senders that share
/// the entry, in one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Overtaking {
    /// Number of the stretch.
    pub stretch: u32,
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::{Datagram, Order, TICK_NS};

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn datagrams_live_for_half_a_minute_also_when_their_clock_turns() {
        let turn_ns = (TICK_NS << 16) - SECOND_NS;

        for begun_ns in [5 * SECOND_NS, turn_ns] {
            let datagram = Datagram::new([1, 2], 0, Order::FirstFirst, begun_ns);

            assert!(datagram.is_live(begun_ns));
            assert!(datagram.is_live(begun_ns + 30 * SECOND_NS));
            assert!(!datagram.is_live(begun_ns + 31 * SECOND_NS));
        }
    }
}
