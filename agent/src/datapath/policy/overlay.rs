//! Prefixes that hold a value for each of two sides, and what has to be written to change one side.
//!
//! ```text
//!              active   idle                       a new set for the idle side
//! 10.0.0.0/8      A       B                        10.0.0.0/8 ► C
//! 10.1.0.0/16     D       D   (only B had it)      10.2.0.0/16 ► E
//! ```
//!
//! The kernel takes the longest prefix that is there, whichever side put it there. So each prefix
//! holds, for the side that does not have it, what the prefix around it says there. What says the
//! same as the prefix around it does is redundant, and no part of a set; markers, which lead a search
//! by halves to longer prefixes, are of that kind.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

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
        self.len <= other.len && other.cut(self.len).value == self.value
    }

    /// Returns the last address in the prefix.
    fn last(self) -> u128 {
        self.value
            | !u128::MAX
                .checked_shl(128 - u32::from(self.len))
                .unwrap_or(0)
    }

    /// Returns the prefix of this length that contains this one.
    fn cut(self, len: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        Self {
            value: self.value & mask,
            len,
        }
    }
}

/// Holds prefixes in their order, each once, and what they say; the default value is what is said
/// where there is none.
pub(super) type Set<V> = Vec<(Bits, V)>;

/// Returns what one side of a table says, without what is redundant.
pub(super) fn side<V: Copy + PartialEq + Default>(raw: &Set<Sides<V>>, side: Side) -> Set<V> {
    let mut around = Around::default();
    let mut set = Set::new();
    for (bits, sides) in raw {
        let value = sides.get(side);
        if value != around.value_at(*bits) {
            around.push(*bits, value);
            set.push((*bits, value));
        }
    }
    set
}

/// Returns the table that says what `active` does on the active side, and `idle` on the other, with
/// entries for these keys besides.
pub(super) fn join<V: Copy + PartialEq + Default>(
    active: &Set<V>,
    idle: &Set<V>,
    markers: impl IntoIterator<Item = Bits>,
    side: Side,
) -> Set<Sides<V>> {
    let mut keys: Vec<Bits> = [active, idle]
        .into_iter()
        .flatten()
        .map(|(bits, _)| *bits)
        .chain(markers)
        .collect();
    // Runs that are in order already take little time.
    keys.sort();
    keys.dedup();
    let (mut active, mut idle) = (Reader::new(active), Reader::new(idle));
    let joined = keys.into_iter().map(|bits| {
        let mut sides = Sides::both(active.value_at(bits));
        sides.set(side.other(), idle.value_at(bits));
        (bits, sides)
    });
    joined.collect()
}

/// Returns the lengths that occur in a set, the shortest first, and without 0.
pub(super) fn lengths<V>(set: &Set<V>) -> Vec<u8> {
    let mut seen = [false; 129];
    for (bits, _) in set {
        seen[usize::from(bits.len)] = true;
    }
    (1..=128).filter(|len| seen[usize::from(*len)]).collect()
}

/// Returns the markers that a search by halves of these lengths comes by on its way to the prefixes
/// of a set.
pub(super) fn markers<V>(set: &Set<V>, lengths: &[u8]) -> BTreeSet<Bits> {
    let ways: Vec<Vec<u8>> = (0..=128).map(|len| way(lengths, len)).collect();
    let mut markers = BTreeSet::new();
    for (bits, _) in set {
        markers.extend(ways[usize::from(bits.len)].iter().map(|len| bits.cut(*len)));
    }
    markers
}

/// Returns the lengths at which a search for a length has to go on with longer ones.
fn way(lengths: &[u8], len: u8) -> Vec<u8> {
    let (mut low, mut high) = (0, lengths.len());
    let mut way = Vec::new();
    while low < high {
        let middle = usize::midpoint(low, high);
        match lengths[middle].cmp(&len) {
            Ordering::Less => {
                way.push(lengths[middle]);
                low = middle + 1;
            }
            Ordering::Equal => break,
            Ordering::Greater => high = middle,
        }
    }
    way
}

/// Returns what has to be written for a table to become another one, and then what to be removed.
/// Both come in the order of their keys.
pub(super) fn difference<K: Ord, V: PartialEq>(
    present: impl IntoIterator<Item = (K, V)>,
    wanted: impl IntoIterator<Item = (K, V)>,
) -> (Vec<(K, V)>, Vec<K>) {
    let (mut written, mut removed) = (Vec::new(), Vec::new());
    let mut there = present.into_iter().peekable();
    for (key, value) in wanted {
        while let Some((gone, _)) = there.next_if(|(other, _)| *other < key) {
            removed.push(gone);
        }
        let same = there.next_if(|(other, _)| *other == key);
        if same.is_none_or(|(_, old)| old != value) {
            written.push((key, value));
        }
    }
    removed.extend(there.map(|(gone, _)| gone));
    (written, removed)
}

/// Most prefixes that may differ for a part of a set to do, and most that the part may have.
const CHANGED_MAX: usize = 256;
const PART_MAX: usize = 16_384;

/// Returns the parts of two sets that hold all in which they differ, with what lies around and within;
/// `None` if these are not small, or not of the same lengths.
pub(super) fn narrow<V: Copy + PartialEq>(before: &Set<V>, after: &Set<V>) -> Option<[Set<V>; 2]> {
    let (written, removed) = difference(before.iter().copied(), after.iter().copied());
    let lengths = lengths(after);
    if written.len() + removed.len() > CHANGED_MAX || self::lengths(before) != lengths {
        return None;
    }
    let mut parts = [BTreeMap::new(), BTreeMap::new()];
    for bits in written.iter().map(|(bits, _)| *bits).chain(removed) {
        for (part, set) in parts.iter_mut().zip([before, after]) {
            part.extend(within(set, bits).iter().copied());
            let around = lengths
                .iter()
                .filter(|len| **len < bits.len)
                .map(|len| bits.cut(*len));
            part.extend(
                around
                    .chain([bits.cut(0)])
                    .filter_map(|bits| entry(set, bits)),
            );
        }
        if parts.iter().any(|part| part.len() > PART_MAX) {
            return None;
        }
    }
    Some(parts.map(|part| part.into_iter().collect()))
}

/// Tells whether a search for a prefix of a set comes by a marker.
pub(super) fn needs<V: Copy>(set: &Set<V>, lengths: &[u8], marker: Bits) -> bool {
    within(set, marker)
        .iter()
        .any(|(bits, _)| way(lengths, bits.len).contains(&marker.len))
}

/// Returns the prefixes of a set that lie in another one, and that one itself.
fn within<V>(set: &Set<V>, bits: Bits) -> &[(Bits, V)] {
    let start = set.partition_point(|(other, _)| *other < bits);
    let last = bits.last();
    let len = set[start..].partition_point(|(other, _)| other.value <= last);
    &set[start..start + len]
}

fn entry<V: Copy>(set: &Set<V>, bits: Bits) -> Option<(Bits, V)> {
    let found = set.binary_search_by_key(&bits, |(bits, _)| *bits);
    found.ok().map(|index| set[index])
}

/// Reads a set at prefixes that come in their order.
struct Reader<'s, V> {
    rest: &'s [(Bits, V)],
    around: Around<V>,
}

impl<'s, V: Copy + Default> Reader<'s, V> {
    fn new(set: &'s [(Bits, V)]) -> Self {
        Self {
            rest: set,
            around: Around::default(),
        }
    }

    /// Returns what the set says at a prefix, its own or not.
    fn value_at(&mut self, bits: Bits) -> V {
        let inherited = self.around.value_at(bits);
        match self.rest.split_first() {
            Some(((first, value), rest)) if *first == bits => {
                self.rest = rest;
                self.around.push(bits, *value);
                *value
            }
            Some(_) | None => inherited,
        }
    }
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

    /// Does what a trie in the kernel does.
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

    /// Does what the search by halves in the kernel does.
    fn search(raw: &Set<Sides<u32>>, lengths: &[u8], address: u128, side: Side) -> u32 {
        let table: BTreeMap<Bits, Sides<u32>> = raw.iter().copied().collect();
        let address = Bits {
            value: address,
            len: 128,
        };
        let zero = table.get(&address.cut(0));
        let mut found = zero.map_or(0, |sides| sides.get(side));
        let (mut low, mut high) = (0, lengths.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if let Some(sides) = table.get(&address.cut(lengths[middle])) {
                found = sides.get(side);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        found
    }

    fn look_up_set(set: &Set<u32>, address: u128) -> u32 {
        let raw = set.iter().map(|(bits, value)| (*bits, Sides::both(*value)));
        look_up(&raw.collect(), address, active())
    }

    fn any_set() -> impl Strategy<Value = Set<u32>> {
        let bits = (0..64_u128, 0..=6_u8).prop_map(|(value, len)| {
            Bits {
                value: value << 122,
                len: 128,
            }
            .cut(len)
        });
        let sets = proptest::collection::btree_map(bits, 0..4_u32, 0..16);
        sets.prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn each_side_of_a_joined_table_says_what_its_set_says(
            one in any_set(), other in any_set(),
        ) {
            let joined = join(&one, &other, [], active());

            for address in (0..64_u128).map(|address| address << 122) {
                let said = |side| look_up(&joined, address, side);
                prop_assert_eq!(said(active()), look_up_set(&one, address));
                prop_assert_eq!(said(active().other()), look_up_set(&other, address));
            }
        }

        #[test]
        fn search_by_halves_finds_on_each_side_what_its_set_says(
            one in any_set(), other in any_set(),
        ) {
            let [by_one, by_other] = [lengths(&one), lengths(&other)];
            let both = markers(&one, &by_one).into_iter().chain(markers(&other, &by_other));
            let joined = join(&one, &other, both, active());

            for address in (0..64_u128).map(|address| address << 122) {
                let here = search(&joined, &by_one, address, active());
                let there = search(&joined, &by_other, address, active().other());
                prop_assert_eq!(here, look_up_set(&one, address));
                prop_assert_eq!(there, look_up_set(&other, address));
            }
        }

        #[test]
        fn what_is_redundant_does_not_come_back(one in any_set(), other in any_set()) {
            let raw = |set: &Set<u32>| set.iter().map(|(b, v)| (*b, Sides::both(*v))).collect();
            let [one, other] = [one, other].map(|set| side(&raw(&set), active()));

            let joined = join(&one, &other, markers(&one, &lengths(&one)), active());

            prop_assert_eq!(side(&joined, active()), one);
            prop_assert_eq!(side(&joined, active().other()), other);
        }

        #[test]
        fn change_of_a_part_is_the_change_of_the_whole(
            one in any_set(), other in any_set(), keeps in 0..64_u128,
        ) {
            // Mostly the same, so that there is a part.
            let other: Set<u32> = one
                .iter()
                .copied()
                .filter(|(bits, _)| bits.value != keeps << 122)
                .chain(other.into_iter().take(1))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect();
            let lens = lengths(&one);
            let whole = |set: &Set<u32>| join(set, set, markers(set, &lengths(set)), active());
            if let Some([before, after]) = narrow(&one, &other) {
                let mut table: BTreeMap<Bits, Sides<u32>> = whole(&one).into_iter().collect();
                let part = |set: &Set<u32>| join(set, set, markers(set, &lens), active());

                let (written, removed) = difference(part(&before), part(&after));
                table.extend(written);
                let gone = |bits: &Bits| removed.contains(bits) && !needs(&other, &lens, *bits);
                table.retain(|bits, _| !gone(bits));

                prop_assert_eq!(table.into_iter().collect::<Set<Sides<u32>>>(), whole(&other));
            }
        }

        #[test]
        fn difference_makes_one_table_of_the_other(one in any_set(), other in any_set()) {
            let (written, removed) = difference(one.clone(), other.clone());

            let mut table: BTreeMap<Bits, u32> = one.into_iter().collect();
            table.extend(written);
            table.retain(|bits, _| !removed.contains(bits));
            prop_assert_eq!(table.into_iter().collect::<Set<u32>>(), other);
        }
    }
}
