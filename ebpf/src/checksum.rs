//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Folds a sum of 16-bit words to 16 bits.
#[inline(always)]
pub const fn fold(mut sum: u64) -> u16 {
    // Four folds bring any 64-bit sum down: 48 + 16, 33, 17, 16 bits.
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Returns a checksum after one 16-bit word below it changed; all in the order of the wire
/// (RFC 1624, equation 3).
#[inline(always)]
pub const fn update(check: u16, old: u16, new: u16) -> u16 {
    !fold((!check as u64) + (!old as u64) + new as u64)
}

/// Returns a checksum after what it covers changed by this one's-complement difference.
#[inline(always)]
pub const fn add(check: u16, difference: u16) -> u16 {
    !fold((!check as u64) + difference as u64)
}

/// Returns the one's-complement difference between two sums of at most 16 words of 16 bits; 0 if
/// they are the same for a checksum.
#[inline(always)]
pub const fn sum_difference(old: u64, new: u64) -> u16 {
    match fold(16 * 0xffff - old + new) {
        0xffff => 0,
        difference => difference,
    }
}

/// Returns the one's-complement difference between two words, for `Packet::adjust_sum`.
#[inline(always)]
pub const fn difference(old: u16, new: u16) -> u32 {
    fold(!old as u64 + new as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::{fold, update};

    /// RFC 1071 §3 gives these bytes and their sum.
    #[test]
    fn the_example_of_rfc_1071_holds() {
        let words = [0x0001_u64, 0xf203, 0xf4f5, 0xf6f7];

        assert_eq!(fold(words.iter().sum()), 0xddf2);
    }

    /// RFC 1624 §4: checksum 0xdd2f, word 0x5555 becomes 0x3285, checksum becomes 0x0000.
    #[test]
    fn the_example_of_rfc_1624_holds() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_updated_checksum_equals_one_computed_anew() {
        let mut words = [
            0x4500_u64, 0x0054, 0x1234, 0x4000, 0x4001, 0x0a00, 0x0001, 0x0a00, 0x0002,
        ];
        let before = !fold(words.iter().sum());
        let old = words[4] as u16;
        words[4] -= 0x0100;

        assert_eq!(
            update(before, old, words[4] as u16),
            !fold(words.iter().sum())
        );
    }
}
