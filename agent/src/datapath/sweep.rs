//! Removes bindings that have ended, a piece of the table at a time, and sets the numbers of
//! bindings right.
//!
//! Programs work on the tables meanwhile. An expired entry may be taken over between our look and
//! our removal: what was taken out is compared with what was seen, and put back if it is another.
//! For the microsecond in between its packets find no binding; one from inside makes it anew, with
//! the same port.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;

use aya::Pod;
use aya::maps::{Array, MapData};
use datapath::abi::{Addr4, Addr6, Binding, FlowKey, TAKEN_NS, WITH_OTHER_NS};
use nix::time::{ClockId, clock_gettime};

use super::audit::{Audit, wrapping_add};
use super::binding::Bindings;
use super::pin::Pins;
use super::{Error, batch, table};

/// Entries of each family that are looked at in one turn.
const PIECE: u32 = 1024;

/// Goes through the tables of bindings again and again.
pub struct Sweep {
    pins: Pins,
    v4: Pass<Addr4>,
    v6: Pass<Addr6>,
}

impl Sweep {
    /// Prepares to sweep the tables of a node.
    pub fn new(pins: Pins) -> Self {
        let [v4, v6] = [("BINDINGS4", 0), ("BINDINGS6", 1)];
        Self {
            pins,
            v4: Pass::new(v4),
            v6: Pass::new(v6),
        }
    }

    /// Sweeps the next piece of each table; tells whether there was anything in them.
    ///
    /// # Errors
    /// When a map cannot be read or written.
    pub fn turn(&mut self) -> Result<bool, Error> {
        let now_ns = now_ns();
        let found4 = self.v4.turn(&self.pins, now_ns)?;
        let found6 = self.v6.turn(&self.pins, now_ns)?;
        Ok(found4 || found6)
    }
}

/// Is what happens to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It stays, and is the binding that counts.
    Counts,
    Goes,
}

/// Decides about an entry; `other` finds the other half.
fn fate<A: Copy + Eq, E>(
    key: &FlowKey<A>,
    half: &Binding<A>,
    now_ns: u64,
    other: impl FnOnce() -> Result<Option<Binding<A>>, E>,
) -> Result<Fate, E> {
    Ok(match half.expires_ns {
        TAKEN_NS => Fate::Stays,
        WITH_OTHER_NS => match other()? {
            Some(outside) if outside.other == *key || outside.expires_ns == TAKEN_NS => Fate::Stays,
            Some(_) | None => Fate::Goes,
        },
        expires_ns if expires_ns <= now_ns => Fate::Goes,
        _ => Fate::Counts,
    })
}

/// Tells whether an entry is the half of a binding that counts.
const fn is_outside<A>(half: &Binding<A>) -> bool {
    half.expires_ns != WITH_OTHER_NS
}

/// Is a way through one table.
struct Pass<A> {
    address: PhantomData<A>,
    table: &'static str,
    /// 0 for IPv4, 1 for IPv6.
    family: u32,
    /// Where it goes on; `None` at the beginning.
    position: Option<u32>,
    /// Bindings of each link that were found to stay.
    found: BTreeMap<u32, u32>,
    audit: Audit,
}

impl<A: Copy + Default + Eq> Pass<A>
where
    FlowKey<A>: Pod + Default,
    Binding<A>: Pod + Default,
{
    fn new((table, family): (&'static str, u32)) -> Self {
        Self {
            address: PhantomData,
            table,
            family,
            position: None,
            found: BTreeMap::new(),
            audit: Audit::default(),
        }
    }

    /// Sweeps the next piece; tells whether there was anything in the table.
    fn turn(&mut self, pins: &Pins, now_ns: u64) -> Result<bool, Error> {
        let path = pins.map(self.table);
        let bindings = match Bindings::<A>::open(&path) {
            Ok(bindings) => bindings,
            // A node that is being made or taken down has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::at("open map", &path)(error)),
        };
        let mut numbers = Numbers::open(pins, self.family)?;
        if self.position.is_none() {
            self.found.clear();
            self.audit.begin(numbers.all()?);
        }
        let is_first = self.position.is_none();
        let (removed, next) = self
            .piece(&bindings, now_ns)
            .map_err(Error::at("sweep map", &path))?;
        self.position = next;
        if removed.is_empty() && next.is_some() {
            return Ok(true);
        }
        let was_empty = is_first && next.is_none() && removed.is_empty() && self.found.is_empty();
        let slots = slots(pins)?;
        for (slot, count) in by_slot(&removed, &slots) {
            numbers.add(slot, -i64::from(count))?;
            self.audit.expect(slot, -i64::from(count));
        }
        if next.is_none() {
            let found = by_slot(&self.found, &slots);
            for (slot, more) in self.audit.end(&numbers.all()?, &found) {
                log::debug!("number of bindings of slot {slot} was off by {}", -more);
                numbers.add(slot, more)?;
            }
        }
        Ok(!was_empty)
    }

    /// Sweeps a piece; returns how many bindings of each link went, and where the next begins.
    fn piece(
        &mut self,
        bindings: &Bindings<A>,
        now_ns: u64,
    ) -> io::Result<(BTreeMap<u32, u32>, Option<u32>)> {
        let piece = bindings.read(self.position, PIECE)?;
        let mut removed = BTreeMap::new();
        for (key, half) in &piece.entries {
            match fate(key, half, now_ns, || bindings.get(&half.other))? {
                Fate::Stays => {}
                Fate::Counts => *self.found.entry(half.zone).or_default() += 1,
                Fate::Goes => {
                    if remove(bindings, key, half)? && is_outside(half) {
                        *removed.entry(half.zone).or_default() += 1;
                    }
                }
            }
        }
        Ok((removed, piece.next))
    }
}

/// Removes an entry, and the inside half that belongs to it, unless it is another by now; tells
/// whether it went.
fn remove<A: Copy + Default + Eq>(
    bindings: &Bindings<A>,
    key: &FlowKey<A>,
    seen: &Binding<A>,
) -> io::Result<bool>
where
    FlowKey<A>: Pod + Default,
    Binding<A>: Pod + Default,
{
    if !take_if(bindings, key, |half| half == seen)? {
        return Ok(false);
    }
    if is_outside(seen) {
        take_if(bindings, &seen.other, |inside| inside.other == *key)?;
    }
    Ok(true)
}

/// Takes an entry out if it is the one that is meant.
fn take_if<A: Copy + Default + Eq>(
    bindings: &Bindings<A>,
    key: &FlowKey<A>,
    is_meant: impl Fn(&Binding<A>) -> bool,
) -> io::Result<bool>
where
    FlowKey<A>: Pod + Default,
    Binding<A>: Pod + Default,
{
    // Nearly always a look is enough to spare what is not meant.
    if !bindings.get(key)?.as_ref().is_some_and(&is_meant) {
        return Ok(false);
    }
    let Some(taken) = bindings.take(key)? else {
        return Ok(false);
    };
    if is_meant(&taken) {
        return Ok(true);
    }
    bindings.put_back(key, &taken)?;
    Ok(false)
}

/// Gives access to the numbers of bindings of one family.
struct Numbers<'p> {
    pins: &'p Pins,
    map: Array<MapData, u32>,
    family: u32,
}

impl<'p> Numbers<'p> {
    fn open(pins: &'p Pins, family: u32) -> Result<Self, Error> {
        let map = table::bound(pins)?;
        Ok(Self { pins, map, family })
    }

    /// Reads the number of every slot.
    fn all(&self) -> Result<BTreeMap<u32, u32>, Error> {
        let found = batch::entries::<u32, u32>(self.pins, "BOUND")?.into_iter();
        let ours = found.filter(|(index, _)| index % 2 == self.family);
        Ok(ours.map(|(index, number)| (index / 2, number)).collect())
    }

    fn get(&self, slot: u32) -> Result<u32, Error> {
        self.map
            .get(&(slot * 2 + self.family), 0)
            .map_err(|error| Error::map("read map", "BOUND", &error))
    }

    fn add(&mut self, slot: u32, more: i64) -> Result<(), Error> {
        let number = wrapping_add(self.get(slot)?, more);
        self.map
            .set(slot * 2 + self.family, number, 0)
            .map_err(|error| Error::map("write map", "BOUND", &error))
    }
}

/// Returns the slot of every link.
fn slots(pins: &Pins) -> Result<BTreeMap<u32, u32>, Error> {
    let parties = table::endpoints(pins)?;
    let found = parties.iter().filter_map(Result::ok);
    Ok(found
        .map(|(ifindex, party)| (ifindex, u32::from(party.slot)))
        .collect())
}

/// Sums up by slot; a link that is gone has none.
fn by_slot(by_link: &BTreeMap<u32, u32>, slots: &BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
    let mut sums = BTreeMap::new();
    for (link, count) in by_link {
        if let Some(slot) = slots.get(link) {
            *sums.entry(*slot).or_default() += count;
        }
    }
    sums
}

/// Reads the clock that the programs read.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map(std::time::Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const NOW_NS: u64 = 1_000;

    fn key(port: u16) -> FlowKey<Addr4> {
        let address = Addr4::new([10, 0, 0, 1]);
        FlowKey::new(address, address, 6, [port, 80], 0)
    }

    fn half(other: u16, expires_ns: u64) -> Binding<Addr4> {
        Binding {
            other: key(other),
            expires_ns,
            zone: 7,
            ..Binding::default()
        }
    }

    fn of(port: u16, half: Binding<Addr4>, other: Option<Binding<Addr4>>) -> Fate {
        let Ok(fate) = fate::<_, Infallible>(&key(port), &half, NOW_NS, || Ok(other));
        fate
    }

    #[test]
    fn outside_half_goes_when_its_time_has_come_unless_a_program_has_it() {
        assert_eq!(of(1, half(2, NOW_NS + 1), None), Fate::Counts);
        assert_eq!(of(1, half(2, NOW_NS), None), Fate::Goes);
        assert_eq!(of(1, half(2, TAKEN_NS), None), Fate::Stays);
    }

    #[test]
    fn inside_half_goes_when_its_outside_half_is_gone_or_anothers() {
        let inside = half(1, WITH_OTHER_NS);

        assert_eq!(of(2, inside, Some(half(2, NOW_NS - 1))), Fate::Stays);
        assert_eq!(of(2, inside, Some(half(3, TAKEN_NS))), Fate::Stays);
        assert_eq!(of(2, inside, Some(half(3, NOW_NS + 1))), Fate::Goes);
        assert_eq!(of(2, inside, None), Fate::Goes);
    }
}
