//! Addresses as map keys hold them: the bytes of the wire, aligned for word compares.

/// Holds an IPv4 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Addr4(u32);

/// Holds an IPv6 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Addr6([u64; 2]);

impl Addr4 {
    /// Wraps four bytes in the order of the wire.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// Returns the four bytes in the order of the wire.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// Tells whether the address is a multicast or the limited broadcast address.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        matches!(self.octets(), [224..=239, ..] | [255, 255, 255, 255])
    }

    /// Tells whether no router forwards packets from the address: it is unspecified, loopback,
    /// multicast or reserved (RFC 6890), or link-local (RFC 3927).
    #[inline(always)]
    pub const fn is_martian(self) -> bool {
        matches!(self.octets(), [0 | 127 | 224..=255, ..] | [169, 254, ..])
    }

    /// Returns the sum of the address's 16-bit words, for a pseudo-header (RFC 1071).
    #[inline(always)]
    pub const fn word_sum(self) -> u64 {
        (self.0 & 0xffff) as u64 + (self.0 >> 16) as u64
    }
}

impl Addr6 {
    /// Wraps sixteen bytes in the order of the wire.
    pub const fn new(octets: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(octets);
        let high = (number >> 64) as u64;
        let low = (number & u64::MAX as u128) as u64;
        Self([high.to_be(), low.to_be()])
    }

    /// Returns the sixteen bytes in the order of the wire.
    pub const fn octets(self) -> [u8; 16] {
        let high = u64::from_be(self.0[0]) as u128;
        let low = u64::from_be(self.0[1]) as u128;
        (high << 64 | low).to_be_bytes()
    }

    /// Wraps two words that hold the bytes of the wire.
    #[inline(always)]
    pub const fn from_wire(words: [u64; 2]) -> Self {
        Self(words)
    }

    /// Returns two words that hold the bytes of the wire.
    #[inline(always)]
    pub const fn wire(self) -> [u64; 2] {
        self.0
    }

    /// Tells whether the address lies in `ff00::/8`.
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        u64::from_be(self.0[0]) >> 56 == 0xff
    }

    /// Tells whether the address lies in `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        u64::from_be(self.0[0]) >> 54 == 0xfe80 >> 6
    }

    /// Tells whether no router forwards packets from the address: it is unspecified, loopback,
    /// multicast or link-local (RFC 4291).
    #[inline(always)]
    pub const fn is_martian(self) -> bool {
        let is_loopback = self.0[0] == 0 && u64::from_be(self.0[1]) <= 1;
        is_loopback || self.is_multicast() || self.is_link_local()
    }

    /// Tells whether the address is `::`.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.0[0] | self.0[1] == 0
    }

    /// Returns the sum of the address's 16-bit words, for a pseudo-header (RFC 1071).
    #[inline(always)]
    pub const fn word_sum(self) -> u64 {
        let mut sum = 0;
        let mut half = 0;
        while half < 2 {
            let words = self.0[half];
            sum +=
                (words & 0xffff) + (words >> 16 & 0xffff) + (words >> 32 & 0xffff) + (words >> 48);
            half += 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::{Addr4, Addr6};

    #[test]
    fn octets_survive_the_round_trip() {
        let four = [192, 0, 2, 1];
        let six = core::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6).octets();

        assert_eq!(Addr4::new(four).octets(), four);
        assert_eq!(Addr6::new(six).octets(), six);
    }

    #[test]
    fn classes_are_recognised() {
        assert!(Addr4::new([224, 0, 0, 1]).is_multicast());
        assert!(Addr4::new([255, 255, 255, 255]).is_multicast());
        assert!(!Addr4::new([223, 255, 255, 255]).is_multicast());
        assert!(!Addr4::new([240, 0, 0, 1]).is_multicast());
        assert!(Addr6::new([0xff; 16]).is_multicast());
        let mut link_local = [0; 16];
        (link_local[0], link_local[1]) = (0xfe, 0xbf);
        assert!(Addr6::new(link_local).is_link_local());
        assert!(!Addr6::new(link_local).is_unspecified());
        assert!(Addr6::default().is_unspecified());
    }
}
