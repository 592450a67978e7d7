//! Devices, and what is known of the addresses beyond them.

use crate::address::{Addr4, Addr6};

/// Describes a device that faces the outside; the key is its index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Device {
    /// Address of its link.
    pub mac: [u8; 6],
    families: u8,
    pad: u8,
    pub ifindex: u32,
    /// Address that endpoints are masqueraded with.
    pub masquerade4: Addr4,
    pub masquerade6: Addr6,
}

const FAMILY4: u8 = 1;
const FAMILY6: u8 = 2;
const MASQUERADING: u8 = 4;

impl Device {
    /// Describes a device; without an address of a family, that family is not masqueraded.
    pub fn new(
        ifindex: u32,
        mac: [u8; 6],
        masquerade4: Option<Addr4>,
        masquerade6: Option<Addr6>,
    ) -> Self {
        Self {
            mac,
            families: (u8::from(masquerade4.is_some()) * FAMILY4)
                | (u8::from(masquerade6.is_some()) * FAMILY6),
            pad: 0,
            ifindex,
            masquerade4: masquerade4.unwrap_or_default(),
            masquerade6: masquerade6.unwrap_or_default(),
        }
    }

    /// Says that endpoints are masqueraded although there may be no address to do it with: what
    /// has none must not leave.
    #[must_use]
    pub fn masquerading(self) -> Self {
        Self {
            families: self.families | MASQUERADING,
            ..self
        }
    }

    /// Tells whether endpoints are masqueraded, as far as there is an address.
    #[inline(always)]
    pub const fn is_masquerading(&self) -> bool {
        self.families != 0
    }

    /// Tells whether IPv4 is masqueraded.
    #[inline(always)]
    pub const fn masquerades4(&self) -> bool {
        self.families & FAMILY4 != 0
    }

    /// Tells whether IPv6 is masqueraded.
    #[inline(always)]
    pub const fn masquerades6(&self) -> bool {
        self.families & FAMILY6 != 0
    }
}

/// Describes the addresses of a prefix; the longest one counts. See [`crate::beyond`].
///
/// An identity takes 26 bits, as in Cilium, and leaves room for what else is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix {
    word: u32,
}

/// Names a prefix: the address has zeros behind its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct PrefixKey<A> {
    pub address: A,
    /// In bits.
    pub len: u32,
    pad: u32,
}

impl<A> PrefixKey<A> {
    #[inline(always)]
    pub const fn new(address: A, len: u32) -> Self {
        Self {
            address,
            len,
            pad: 0,
        }
    }
}

/// Lists the lengths of prefixes of one family, on one side of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Lengths {
    pub count: u32,
    /// What is known of addresses in no prefix, as a prefix of length 0 would say it.
    pub rest: Prefix,
    /// In bits, the shortest first; 0 is not among them.
    pub bits: [u8; Self::MOST as usize],
}

impl Lengths {
    /// Most lengths that there may be.
    pub const MOST: u32 = 64;
}

impl Default for Lengths {
    fn default() -> Self {
        Self {
            count: 0,
            rest: Prefix::default(),
            bits: [0; Self::MOST as usize],
        }
    }
}

const EXCLUDED: u32 = 1 << 31;

impl Prefix {
    /// Describes a prefix; packets to an excluded one are never masqueraded.
    pub fn new(identity: u32, is_excluded: bool) -> Self {
        Self {
            word: (identity & !EXCLUDED) | (u32::from(is_excluded) * EXCLUDED),
        }
    }

    /// Returns the identity; 0 if this side does not know the prefix.
    #[inline(always)]
    pub const fn identity(self) -> u32 {
        self.word & !EXCLUDED
    }

    #[inline(always)]
    pub const fn is_excluded(self) -> bool {
        self.word & EXCLUDED != 0
    }
}
