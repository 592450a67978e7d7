//! Numbers of endpoints on their node.
//!
//! A number also names the endpoint's slice of the tables of pending flows, so it has to be
//! below the number of slices. It derives from the name, and where two names want the same
//! number the one that sorts first has it.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

/// First number of an endpoint: 0 is the host and 1 the outside.
const FIRST: u16 = 2;

/// Returns a number for each name, all different, from 2 to `slots` − 1. There are at least two
/// more slots than names.
pub(super) fn ids<'n>(
    names: impl IntoIterator<Item = &'n str>,
    slots: u32,
) -> BTreeMap<&'n str, u16> {
    let sorted: BTreeSet<_> = names.into_iter().collect();
    let end = u16::try_from(slots).unwrap_or(u16::MAX).max(FIRST + 1);
    let mut taken = BTreeSet::new();
    let mut ids = BTreeMap::new();
    for name in sorted {
        let start = preferred(name, end);
        if let Some(id) = (start..end)
            .chain(FIRST..start)
            .find(|id| taken.insert(*id))
        {
            ids.insert(name, id);
        }
    }
    ids
}

fn preferred(name: &str, end: u16) -> u16 {
    let digest = Sha256::digest(name);
    FIRST + u16::from_be_bytes([digest[0], digest[1]]) % (end - FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_can_be_used() {
        let names: Vec<_> = (0..14).map(|i| format!("endpoint-{i}")).collect();

        let ids = ids(names.iter().map(String::as_str), 16);

        let used: BTreeSet<_> = ids.values().copied().collect();
        assert_eq!(used, (2..16).collect());
    }

    #[test]
    fn the_order_of_names_does_not_matter() {
        assert_eq!(ids(["web", "db", "api"], 16), ids(["api", "web", "db"], 16));
    }
}
