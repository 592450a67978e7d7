//! What each side of a table says, and what has to be written for one of them to say something else.

use aya::Pod;
use aya::maps::{HashMap, MapData};
use datapath::abi::{self, Lengths, PrefixKey, Side, Sides};

use super::coding::Word;
use super::overlay::{self, Bits, Set};
use crate::datapath::entry::{gone, insert};
use crate::datapath::pin::Pins;
use crate::datapath::{Error, table};

/// Is a table as it is, and what each of its sides says.
pub(super) struct Table<V> {
    present: Set<Sides<V>>,
    sides: [Set<V>; 2],
    /// By which lengths each side is searched, if it is.
    lengths: [Vec<u8>; 2],
}

impl<V: Copy + PartialEq + Default> Table<V> {
    /// Describes a table of which both sides say the same.
    pub(super) fn settled(set: Set<V>, lengths: Vec<u8>) -> Self {
        let markers = overlay::markers(&set, &lengths);
        Self {
            present: overlay::join(&set, &set, markers, Side::of(0)),
            sides: [set.clone(), set],
            lengths: [lengths.clone(), lengths],
        }
    }

    /// Describes a table that was read, and is not searched by lengths.
    pub(super) fn found(present: Set<Sides<V>>) -> Self {
        let sides = [0, 1].map(|number| overlay::side(&present, Side::of(number)));
        Self {
            present,
            sides,
            lengths: [Vec::new(), Vec::new()],
        }
    }

    /// Describes the same, searched by the lengths that there are.
    pub(super) fn searched(self) -> Self {
        Self {
            lengths: self.sides.each_ref().map(overlay::lengths),
            ..self
        }
    }

    /// Gives one side another set; returns what has to be written for it, then what to be removed.
    pub(super) fn change(
        &mut self,
        wanted: Set<V>,
        lengths: Vec<u8>,
        idle: Side,
    ) -> (Set<Sides<V>>, Vec<Bits>) {
        let place = idle.number() as usize;
        (self.sides[place], self.lengths[place]) = (wanted, lengths);
        let [here, there] = [idle.other(), idle].map(|side| side.number() as usize);
        let markers = [here, there].map(|at| overlay::markers(&self.sides[at], &self.lengths[at]));
        let joined = overlay::join(
            &self.sides[here],
            &self.sides[there],
            markers.into_iter().flatten(),
            idle.other(),
        );
        let difference = overlay::difference(self.present.iter().copied(), joined.iter().copied());
        self.present = joined;
        difference
    }
}

/// Is a change of the prefixes of a family.
pub(super) struct Prefixes {
    /// The whole table, or the part of it in which anything changes.
    table: Table<abi::Prefix>,
    wanted: Set<abi::Prefix>,
    /// All prefixes that are wanted.
    all: Set<abi::Prefix>,
}

impl Prefixes {
    /// Begins with a table of which both sides say what `before` does.
    pub(super) fn settled(before: Set<abi::Prefix>, all: Set<abi::Prefix>) -> Self {
        let lengths = overlay::lengths(&before);
        let (before, wanted) = match overlay::narrow(&before, &all) {
            Some([before, wanted]) => (before, wanted),
            None => (before, all.clone()),
        };
        Self {
            table: Table::settled(before, lengths),
            wanted,
            all,
        }
    }

    pub(super) fn found(present: Set<Sides<abi::Prefix>>, all: Set<abi::Prefix>) -> Self {
        Self {
            table: Table::found(present).searched(),
            wanted: all.clone(),
            all,
        }
    }

    /// Gives one side what is wanted.
    pub(super) fn fill<A: Word>(
        &mut self,
        pins: &Pins,
        (name, mut map): PrefixMap<A>,
        idle: Side,
    ) -> Result<(), Error>
    where
        PrefixKey<A>: Pod,
    {
        let known = overlay::lengths(&self.all);
        if known.len() > Lengths::MOST as usize {
            return Err(Error::TooManyLengths(known.len()));
        }
        let rest = self.all.first().filter(|(bits, _)| bits.len == 0);
        let mut lengths = Lengths {
            count: u32::try_from(known.len()).unwrap_or(Lengths::MOST),
            rest: rest.map(|(_, prefix)| *prefix).unwrap_or_default(),
            ..Lengths::default()
        };
        lengths.bits[..known.len()].copy_from_slice(&known);
        let wanted = self.wanted.clone();
        let (written, removed) = self.table.change(wanted, known.clone(), idle);
        let key = |bits: Bits| PrefixKey::new(A::from_word(bits.value), u32::from(bits.len));
        for (bits, sides) in written {
            insert(name, map.insert(key(bits), sides, 0))?;
        }
        // A marker may be needed for what lies outside of the part.
        for bits in removed {
            if !overlay::needs(&self.all, &known, bits) {
                gone(name, map.remove(&key(bits)))?;
            }
        }
        let index = A::FAMILY * 2 + idle.number();
        insert("LENGTHS", table::lengths(pins)?.set(index, lengths, 0))
    }
}

/// The map of the prefixes of a family, and its name.
type PrefixMap<A> = (
    &'static str,
    HashMap<MapData, PrefixKey<A>, Sides<abi::Prefix>>,
);
