//! Identities: the numbers that policy sees instead of labels.
//!
//! A number derives from the SHA-256 of what it stands for, so that it survives insertions,
//! reordering and restarts, and so that all nodes that read a file agree without talking. Below
//! 65,536 two of some hundreds of label sets do collide: then the one with the smaller digest
//! keeps the number and the other takes the next candidate from its own digest. This is decided
//! over all endpoints of the file, never over those of one node.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::config::Endpoint;

/// First number that is not reserved for an entity (as in Cilium).
const FIRST: u32 = 256;

/// End of the numbers that fit Cilium's 16 bits.
const END: u32 = 1 << 16;

type Sha = [u8; 32];

/// Returns the identity of each endpoint of a file, in its order.
pub(super) fn identities(endpoints: &[Endpoint]) -> Vec<u32> {
    let digests: Vec<_> = endpoints.iter().map(digest).collect();
    let numbers = number(&digests.iter().copied().collect());
    digests.iter().map(|digest| numbers[digest]).collect()
}

/// Returns the digest of what an identity stands for: the labels, or without any the endpoint.
fn digest(endpoint: &Endpoint) -> Sha {
    let mut hash = Sha256::new();
    // Each part ends with a zero byte, which neither names nor labels contain.
    let mut part = |text: &str| {
        hash.update(text);
        hash.update([0]);
    };
    if endpoint.labels.is_empty() {
        part("endpoint");
        part(&endpoint.node);
        part(endpoint.name.get_ref());
    } else {
        part("labels");
        for (key, value) in &endpoint.labels {
            part(key);
            part(value);
        }
    }
    hash.finalize().into()
}

/// Gives each digest a number of its own, in the order of the digests.
fn number(digests: &BTreeSet<Sha>) -> BTreeMap<Sha, u32> {
    let mut taken = BTreeSet::new();
    let mut numbers = BTreeMap::new();
    for digest in digests {
        // `config` accepts fewer endpoints than there are numbers, so one is found.
        if let Some(number) = candidates(digest).find(|number| taken.insert(*number)) {
            numbers.insert(*digest, number);
        }
    }
    numbers
}

/// Returns the numbers that a digest may have, the preferred one first, each possible one at
/// least once.
fn candidates(digest: &Sha) -> impl Iterator<Item = u32> {
    let words = digest.chunks_exact(4).map(|word| {
        let word = word
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
        FIRST + word % (END - FIRST)
    });
    words.chain(FIRST..END)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(names: &[String]) -> Vec<Sha> {
        names
            .iter()
            .map(|name| Sha256::digest(name).into())
            .collect()
    }

    fn preferred(digest: &Sha) -> u32 {
        candidates(digest).next().expect("a candidate")
    }

    /// Returns two digests that prefer the same number, the smaller one first.
    fn colliding() -> (Sha, Sha) {
        let names: Vec<_> = (0..2000).map(|i| format!("name-{i}")).collect();
        let mut seen = BTreeMap::new();
        for digest in digests(&names) {
            if let Some(first) = seen.insert(preferred(&digest), digest) {
                return (first.min(digest), first.max(digest));
            }
        }
        panic!("2,000 digests without a collision");
    }

    #[test]
    fn a_collision_is_resolved_the_same_way_in_every_order() {
        let (small, large) = colliding();

        let numbers = number(&BTreeSet::from([large, small]));

        assert_eq!(
            numbers[&small],
            preferred(&small),
            "the smaller digest keeps its number"
        );
        assert_eq!(Some(numbers[&large]), candidates(&large).nth(1));
    }

    #[test]
    fn numbers_are_distinct_and_in_range_also_when_most_are_taken() {
        let names: Vec<_> = (0..crate::config::ENDPOINTS_MAX)
            .map(|i| i.to_string())
            .collect();
        let digests = digests(&names).into_iter().collect();

        let numbers: BTreeSet<_> = number(&digests).into_values().collect();

        assert_eq!(numbers.len(), names.len());
        assert!(numbers.iter().all(|number| (FIRST..END).contains(number)));
    }
}
