//! Policy: who may talk to whom, as a set of disjoint decisions.
//!
//! ```text
//! subject, direction, identity of the other side ──► PolicyEntry: a row, and what holds besides
//!                                   row, protocol, port ──► Ruling
//! ```
//!
//! Every value exists twice, and the lowest bit of the node's generation says which side holds:
//! one word switches a whole policy, and no packet sees half of one. What a side does not know has
//! no decision there.

/// Tells which of two sides a generation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side(u8);

impl Side {
    /// Returns the side of a generation.
    #[inline(always)]
    pub const fn of(generation: u32) -> Self {
        Self((generation & 1) as u8)
    }

    /// Returns the number of the side.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Returns the other side: the one that a new policy is written to.
    #[must_use]
    pub const fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// Holds a value for each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sides<T> {
    values: [T; 2],
}

impl<T: Copy> Sides<T> {
    /// Returns the same value for both sides.
    pub const fn both(value: T) -> Self {
        Self { values: [value; 2] }
    }

    /// Returns the value of a side.
    #[inline(always)]
    pub const fn get(&self, side: Side) -> T {
        if side.0 == 0 {
            self.values[0]
        } else {
            self.values[1]
        }
    }

    /// Sets the value of a side.
    pub const fn set(&mut self, side: Side, value: T) {
        self.values[side.0 as usize & 1] = value;
    }
}

/// Describes a party as policy sees it; the key is that of [`super::Party::subject`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Subject {
    pub identity: u32,
    /// Number of its policy; 0 if everything is allowed.
    pub policy: u32,
    /// Not 0 if what would be denied is let through.
    pub audit: u16,
    /// Its slot, for the agent.
    pub slot: u16,
}

/// Direction of a connection that others open to the subject.
pub const INGRESS: u32 = 1;
/// Direction of a connection that the subject opens.
pub const EGRESS: u32 = 2;

/// Names what holds between a subject and an identity, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct PolicyKey {
    /// Number of the policy.
    pub policy: u32,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u32,
    /// Identity of the other side; 0 for all that have no entry of their own.
    pub identity: u32,
}

/// Is what holds between a subject and an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PolicyEntry {
    /// Number of the row whose ranges have decisions of their own; 0 if there is none.
    pub row: u32,
    /// What is decided about everything else.
    pub ruling: Ruling,
}

/// Names ports of a protocol within a row: the address of an entry of the trie `RANGES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct PolicyPort {
    /// Number of the row, in the order of the wire.
    row: [u8; 4],
    protocol: u8,
    /// In the order of the wire.
    port: [u8; 2],
    pad: u8,
}

impl PolicyPort {
    /// Length of the row in bits: no range is wider.
    pub const ROW_BITS: u32 = 32;
    /// Length of a row, a protocol and a port in bits.
    pub const BITS: u32 = 56;

    /// Names a port, or of ICMP a type and a code.
    #[inline(always)]
    pub const fn new(row: u32, protocol: u8, port: u16) -> Self {
        Self {
            row: row.to_be_bytes(),
            protocol,
            port: port.to_be_bytes(),
            pad: 0,
        }
    }

    pub const fn row(&self) -> u32 {
        u32::from_be_bytes(self.row)
    }

    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }
}

/// Is what is decided about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Ruling {
    decision: u16,
    /// Number of the term that says so; 0 if none does.
    pub term: u16,
}

/// Tells what becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Decision {
    Allow = 1,
    Deny = 2,
    /// Denied, and the sender is told so.
    Reject = 3,
}

impl Ruling {
    /// Describes a ruling of a term.
    #[inline(always)]
    pub const fn new(decision: Decision, term: u16) -> Self {
        Self {
            decision: decision as u16,
            term,
        }
    }

    /// Returns the decision; `None` if this side knows of none.
    #[inline(always)]
    pub const fn decision(&self) -> Option<Decision> {
        match self.decision {
            0 => None,
            1 => Some(Decision::Allow),
            3 => Some(Decision::Reject),
            _ => Some(Decision::Deny),
        }
    }
}

/// Number of entries of the `TERMS` map: one for each number of a term.
pub const TERM_SLOTS: u32 = 4096;

/// Counts packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

impl Count {
    /// Returns what was counted since an earlier count; nothing if that is not one.
    #[inline(always)]
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}
