//! Tries that hold a value for each of two sides, and what has to be written to change one of them.
//!
//! ```text
//!              active   idle                       a new set for the idle side
//! 10.0.0.0/8      A       B                        10.0.0.0/8 ► C
//! 10.1.0.0/16     D       D   (only B had it)      10.2.0.0/16 ► E
//! ```
//!
//! The kernel takes the longest prefix that is there, whichever side put it there. So each prefix
//! holds, for the side that does not have it, what the prefix around it says there. What says the
//! same as the prefix around it does is redundant, and no part of a set.

use std::collections::BTreeMap;

use datapath::abi::{Side, Sides};

/// Is a prefix: bits from the highest on, and how many of them count. Sorts right before what it
/// contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits {
    pub value: u128,
    pub len: u8,
}

impl Bits {
    fn contains(self, other: Self) -> bool {
        let differing = (self.value ^ other.value).checked_shr(128 - u32::from(self.len));
        self.len <= other.len && differing.unwrap_or(0) == 0
    }
}

/// Holds prefixes and what they say; the default value is what is said where there is none.
pub(super) type Set<V> = BTreeMap<Bits, V>;

/// Returns what one side of a trie says, without what is redundant.
pub(super) fn side<V: Copy + PartialEq + Default>(raw: &Set<Sides<V>>, side: Side) -> Set<V> {
    let mut around = Around::default();
    let mut set = Set::new();
    for (bits, sides) in raw {
        let value = sides.get(side);
        if value != around.value_at(*bits) {
            around.push(*bits, value);
            set.insert(*bits, value);
        }
    }
    set
}

/// Returns the trie that says what `active` does on the active side, and `idle` on the other.
pub(super) fn join<V: Copy + PartialEq + Default>(
    active: &Set<V>,
    idle: &Set<V>,
    side: Side,
) -> Set<Sides<V>> {
    let mut active = (active, Around::default());
    let mut idle = (idle, Around::default());
    let mut joined = Set::new();
    let mut keys: Vec<Bits> = active.0.keys().chain(idle.0.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    for bits in keys {
        let mut sides = Sides::both(value_of(&mut active, bits));
        sides.set(side.other(), value_of(&mut idle, bits));
        joined.insert(bits, sides);
    }
    joined
}

/// Returns what a set says at a prefix, its own or not; prefixes come in their order.
fn value_of<V: Copy + Default>((set, around): &mut (&Set<V>, Around<V>), bits: Bits) -> V {
    let inherited = around.value_at(bits);
    let Some(value) = set.get(&bits) else {
        return inherited;
    };
    around.push(bits, *value);
    *value
}

/// Holds the prefixes around the present one, the widest first.
struct Around<V>(Vec<(Bits, V)>);

impl<V> Default for Around<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Copy + Default> Around<V> {
    /// Returns what the narrowest prefix around this one says; prefixes come in their order.
    fn value_at(&mut self, bits: Bits) -> V {
        while self.0.pop_if(|(outer, _)| !outer.contains(bits)).is_some() {}
        self.0.last().map_or_else(V::default, |(_, value)| *value)
    }

    fn push(&mut self, bits: Bits, value: V) {
        self.0.push((bits, value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn active() -> Side {
        Side::of(0)
    }

    /// Does what the kernel does.
    fn look_up(raw: &Set<Sides<u32>>, address: u128, side: Side) -> u32 {
        let address = Bits {
            value: address,
            len: 128,
        };
        let around = raw.iter().filter(|(bits, _)| bits.contains(address));
        around
            .max_by_key(|(bits, _)| bits.len)
            .map_or(0, |(_, sides)| sides.get(side))
    }

    fn look_up_set(set: &Set<u32>, address: u128) -> u32 {
        let raw = set.iter().map(|(bits, value)| (*bits, Sides::both(*value)));
        look_up(&raw.collect(), address, active())
    }

    fn any_set() -> impl Strategy<Value = Set<u32>> {
        let bits = (0..16_u128, 0..=4_u8).prop_map(|(value, len)| Bits {
            value: (value & !(15 >> len)) << 124,
            len,
        });
        proptest::collection::btree_map(bits, 0..4_u32, 0..12)
    }

    proptest! {
        #[test]
        fn each_side_of_a_joined_trie_says_what_its_set_says(
            one in any_set(), other in any_set(),
        ) {
            let joined = join(&one, &other, active());

            for address in (0..16_u128).map(|address| address << 124) {
                let said = |side| look_up(&joined, address, side);
                prop_assert_eq!(said(active()), look_up_set(&one, address));
                prop_assert_eq!(said(active().other()), look_up_set(&other, address));
            }
        }

        #[test]
        fn what_is_redundant_does_not_come_back(one in any_set(), other in any_set()) {
            let raw = |set: &Set<u32>| set.iter().map(|(b, v)| (*b, Sides::both(*v))).collect();
            let [one, other] = [one, other].map(|set| side(&raw(&set), active()));

            let joined = join(&one, &other, active());

            prop_assert_eq!(side(&joined, active()), one);
            prop_assert_eq!(side(&joined, active().other()), other);
        }
    }
}
