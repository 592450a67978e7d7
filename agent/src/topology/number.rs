//! Numbers that derive from what they stand for.
//!
//! A number comes from the SHA-256 of its content, so that it survives insertions, reordering and
//! restarts, and so that all nodes that read a file agree without talking. Where two digests want
//! the same number, the smaller one has it and the other takes the next candidate from its own
//! digest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sha2::{Digest as _, Sha256};

pub(super) type Sha = [u8; 32];

/// Returns the digest of a list of texts without zero bytes.
pub(super) fn digest<'p>(parts: impl IntoIterator<Item = &'p str>) -> Sha {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().into()
}

/// Gives each digest a number of its own, in the order of the digests. A digest gets none if
/// there are more of them than numbers.
pub(super) fn assign(digests: &BTreeSet<Sha>, numbers: &Range<u32>) -> BTreeMap<Sha, u32> {
    let mut taken = BTreeSet::new();
    let mut assigned = BTreeMap::new();
    for digest in digests {
        if let Some(number) = candidates(digest, numbers).find(|number| taken.insert(*number)) {
            assigned.insert(*digest, number);
        }
    }
    assigned
}

/// Returns the numbers that a digest may have, the preferred one first, each possible one at
/// least once.
pub(super) fn candidates(digest: &Sha, numbers: &Range<u32>) -> impl Iterator<Item = u32> {
    let (start, count) = (numbers.start, numbers.end - numbers.start);
    let words = digest.chunks_exact(4).map(move |word| {
        let word = word
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
        start + word % count
    });
    words.chain(numbers.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Range<u32> = 256..65_536;

    fn preferred(digest: &Sha) -> u32 {
        candidates(digest, &NUMBERS).next().expect("a candidate")
    }

    /// Returns two digests that prefer the same number, the smaller one first.
    fn colliding() -> (Sha, Sha) {
        let mut seen = BTreeMap::new();
        for name in (0..2000).map(|i| format!("name-{i}")) {
            let digest = digest([name.as_str()]);
            if let Some(first) = seen.insert(preferred(&digest), digest) {
                return (first.min(digest), first.max(digest));
            }
        }
        panic!("2,000 digests without a collision");
    }

    #[test]
    fn a_collision_is_resolved_the_same_way_in_every_order() {
        let (small, large) = colliding();

        let numbers = assign(&BTreeSet::from([large, small]), &NUMBERS);

        assert_eq!(
            numbers[&small],
            preferred(&small),
            "the smaller digest keeps its number"
        );
        assert_eq!(
            Some(numbers[&large]),
            candidates(&large, &NUMBERS).nth(1),
            "the larger one takes its next"
        );
    }

    #[test]
    fn numbers_are_distinct_and_in_range_also_when_most_are_taken() {
        let names: Vec<_> = (0..crate::config::ENDPOINTS_MAX)
            .map(|i| i.to_string())
            .collect();
        let digests = names.iter().map(|name| digest([name.as_str()])).collect();

        let numbers: BTreeSet<_> = assign(&digests, &NUMBERS).into_values().collect();

        assert_eq!(numbers.len(), names.len());
        assert!(numbers.iter().all(|number| NUMBERS.contains(number)));
    }
}
