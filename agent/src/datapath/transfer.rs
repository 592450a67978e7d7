//! Entries on their way from one set of tables to the one that takes its place.
//!
//! Programs may work on both sets meanwhile: old ones on the former set before the switch, new ones on
//! the present set after it. `carry` says what is written; between a look and a write a program may
//! write as well, and a count or a note may be lost to it, as between two processors.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::Pod;
#[cfg(feature = "next-schema")]
use datapath::abi::previous;
use datapath::abi::{
    Addr4, Addr6, Binding, Datagram, Flow, FlowKey, FragmentKey, Line, PENDING_PER_SLOT, Party,
    Pending, SCHEMA, WITH_OTHER_NS,
};
use datapath::flow::{KeyHash, pending_index};
use nix::libc;

use super::pin::{Former, Pins};
use super::sys::{self, Presence};
use super::{Error, batch, carry, counts, table};

/// Names the tables of a family.
struct Tables {
    flows: &'static str,
    bindings: &'static str,
    pending: &'static str,
    permits: &'static str,
    tickets: &'static str,
    fragments: &'static str,
    /// Place of the family among the numbers of bindings.
    family: u32,
}

const IPV4: Tables = Tables {
    flows: "FLOWS4",
    bindings: "BINDINGS4",
    pending: "PENDING4",
    permits: "PERMITS4",
    tickets: "TICKETS4",
    fragments: "FRAGMENTS4",
    family: 0,
};
const IPV6: Tables = Tables {
    flows: "FLOWS6",
    bindings: "BINDINGS6",
    pending: "PENDING6",
    permits: "PERMITS6",
    tickets: "TICKETS6",
    fragments: "FRAGMENTS6",
    family: 1,
};

/// Says how the values of a layout become those of this one.
trait Layout<A> {
    type Flow: Pod + Default + Into<Flow<A>>;
    type Binding: Pod + Default + Into<Binding<A>>;
    type Pending: Pod + Default + Into<Pending<A>>;
}

/// Is this very layout, with tables of other sizes.
struct Same;

impl Layout<Addr4> for Same {
    type Flow = Flow<Addr4>;
    type Binding = Binding<Addr4>;
    type Pending = Pending<Addr4>;
}

impl Layout<Addr6> for Same {
    type Flow = Flow<Addr6>;
    type Binding = Binding<Addr6>;
    type Pending = Pending<Addr6>;
}

/// Is the layout before this one.
#[cfg(feature = "next-schema")]
struct Previous;

#[cfg(feature = "next-schema")]
impl Layout<Addr4> for Previous {
    type Flow = previous::Flow<Addr4>;
    type Binding = previous::Binding<Addr4>;
    type Pending = previous::Pending<Addr4>;
}

#[cfg(feature = "next-schema")]
impl Layout<Addr6> for Previous {
    type Flow = previous::Flow<Addr6>;
    type Binding = previous::Binding<Addr6>;
    type Pending = previous::Pending<Addr6>;
}

/// Is what can be done with the tables of a layout.
struct Carrier {
    all: fn(&Pins, &Pins) -> Result<(), Error>,
    bindings: fn(&Pins, &Pins) -> Result<u64, Error>,
    forget: fn(&Pins, &Pins) -> Result<(), Error>,
}

impl Carrier {
    fn of<L>() -> Self
    where
        L: Layout<Addr4> + Layout<Addr6>,
    {
        Self {
            all: transfer_of::<L>,
            bindings: bindings_of::<L>,
            forget: forget_all::<L>,
        }
    }
}

/// Returns what carries tables of a layout over; `None` if nothing can.
fn carrier(layout: u32) -> Option<Carrier> {
    match layout {
        SCHEMA => Some(Carrier::of::<Same>()),
        #[cfg(feature = "next-schema")]
        previous::SCHEMA => Some(Carrier::of::<Previous>()),
        _ => None,
    }
}

/// Tells whether tables of a layout can be carried over.
pub(super) fn knows(layout: u32) -> bool {
    carrier(layout).is_some()
}

/// Carries entries over that the present set lacks, or has in an older state.
///
/// # Errors
/// When a table cannot be read or written.
pub(super) fn transfer(former: &Former, pins: &Pins) -> Result<(), Error> {
    carrier(former.layout).map_or(Ok(()), |carrier| (carrier.all)(&former.pins, pins))
}

/// Carries bindings over, so that nobody gets a port that is taken; returns how many halves came to the
/// tables.
///
/// # Errors
/// When a table cannot be read or written.
pub(super) fn transfer_bindings(former: &Former, pins: &Pins) -> Result<u64, Error> {
    carrier(former.layout).map_or(Ok(0), |carrier| (carrier.bindings)(&former.pins, pins))
}

fn bindings_of<L>(from: &Pins, to: &Pins) -> Result<u64, Error>
where
    L: Layout<Addr4> + Layout<Addr6>,
{
    let slots = Slots::read(from, to)?;
    let (ipv4, _) = bindings::<Addr4, L>(from, to, &IPV4, &slots)?;
    let (ipv6, _) = bindings::<Addr6, L>(from, to, &IPV6, &slots)?;
    Ok(ipv4 + ipv6)
}

fn transfer_of<L>(from: &Pins, to: &Pins) -> Result<(), Error>
where
    L: Layout<Addr4> + Layout<Addr6>,
{
    let slots = Slots::read(from, to)?;
    let refused = transfer_family::<Addr4, L>(from, to, &IPV4, &slots)?
        + transfer_family::<Addr6, L>(from, to, &IPV6, &slots)?;
    if refused != 0 {
        log::warn!(
            "CIL0140: {refused} halves of bindings have no room in the new tables: their connections \
             get other ports outside"
        );
    }
    Ok(())
}

/// Carries the entries of one family; returns how many halves of bindings had no room.
fn transfer_family<A, L>(
    from: &Pins,
    to: &Pins,
    names: &Tables,
    slots: &Slots,
) -> Result<u64, Error>
where
    A: Copy + PartialEq + KeyHash,
    L: Layout<A>,
    FlowKey<A>: Pod + Default,
    FragmentKey<A>: Pod + Default,
    Flow<A>: Pod + Default,
    Binding<A>: Pod + Default,
    Pending<A>: Pod + Default,
{
    // Ports first: whoever asks for one from now on must not get one that is taken.
    let (_, refused) = bindings::<A, L>(from, to, names, slots)?;
    flows::<A, L>(from, to, names)?;
    pending::<A, L>(from, to, names, slots)?;
    notes(from, to, names.permits, |index| slots.moved(index))?;
    notes(from, to, names.tickets, Some)?;
    fragments::<A>(from, to, names.fragments)?;
    Ok(refused)
}

fn flows<A, L>(from: &Pins, to: &Pins, names: &Tables) -> Result<(), Error>
where
    A: Copy + PartialEq,
    L: Layout<A>,
    FlowKey<A>: Pod + Default,
    Flow<A>: Pod + Default,
{
    let map = Target::open(to, names.flows)?;
    batch::for_each(from, names.flows, |key: &FlowKey<A>, was: &L::Flow| {
        let found: Option<Flow<A>> = map.get(key)?;
        match carry::flow(found.as_ref(), &(*was).into()) {
            Some(flow) if found.is_some() => map.set(key, &flow),
            Some(flow) => map.add(key, &flow).map(drop),
            None => Ok(()),
        }
    })
}

/// Carries bindings over and counts those that come to the table; returns how many halves came, and how
/// many had no room.
fn bindings<A, L>(
    from: &Pins,
    to: &Pins,
    names: &Tables,
    slots: &Slots,
) -> Result<(u64, u64), Error>
where
    A: Copy + PartialEq,
    L: Layout<A>,
    FlowKey<A>: Pod + Default,
    Binding<A>: Pod + Default,
{
    let map = Target::open(to, names.bindings)?;
    let (mut came, mut refused, mut added) = (0, 0, BTreeMap::<u32, u32>::new());
    batch::for_each(
        from,
        names.bindings,
        |key: &FlowKey<A>, was: &L::Binding| {
            let found: Option<Binding<A>> = map.get(key)?;
            let Some(half) = carry::binding(found.as_ref(), &(*was).into()) else {
                return Ok(());
            };
            if found.is_some() {
                return map.set(key, &half);
            }
            if !map.add(key, &half)? {
                refused += 1;
                return Ok(());
            }
            came += 1;
            if half.expires_ns != WITH_OTHER_NS
                && let Some(slot) = slots.present.get(&half.zone)
            {
                *added.entry(u32::from(*slot)).or_default() += 1;
            }
            Ok(())
        },
    )?;
    let numbers = Target::open(to, "BOUND")?;
    for (slot, count) in added {
        let index = slot * 2 + names.family;
        let number = numbers.get::<u32, u32>(&index)?.unwrap_or(0);
        numbers.set(&index, &number.wrapping_add(count))?;
    }
    Ok((came, refused))
}

fn pending<A, L>(from: &Pins, to: &Pins, names: &Tables, slots: &Slots) -> Result<(), Error>
where
    A: Copy + PartialEq + KeyHash,
    L: Layout<A>,
    FlowKey<A>: Pod,
    Pending<A>: Pod + Default,
{
    let map = Target::open(to, names.pending)?;
    let mask = table::capacity(to, names.pending).unwrap_or(1) - 1;
    batch::for_each(from, names.pending, |_: &u32, was: &L::Pending| {
        let was: Pending<A> = (*was).into();
        let Some(slot) = slots.present.get(&was.zone).filter(|_| was.packets != 0) else {
            return Ok(());
        };
        let index = pending_index(*slot, &was.key, mask);
        let found: Pending<A> = map.get(&index)?.unwrap_or_default();
        let written = carry::pending(&found, &was);
        written.map_or(Ok(()), |pending| map.set(&index, &pending))
    })
}

/// Carries lines of notes over to where they belong.
fn notes(
    from: &Pins,
    to: &Pins,
    name: &'static str,
    place: impl Fn(u32) -> Option<u32>,
) -> Result<(), Error> {
    let map = Target::open(to, name)?;
    batch::for_each(from, name, |index: &u32, was: &Line| {
        let Some(index) = place(*index).filter(|_| *was != Line::default()) else {
            return Ok(());
        };
        let found: Line = map.get(&index)?.unwrap_or_default();
        let written = carry::line(&found, was);
        written.map_or(Ok(()), |line| map.set(&index, &line))
    })
}

fn fragments<A>(from: &Pins, to: &Pins, name: &'static str) -> Result<(), Error>
where
    FragmentKey<A>: Pod + Default,
{
    let map = Target::open(to, name)?;
    batch::for_each(from, name, |key: &FragmentKey<A>, was: &Datagram| {
        map.add(key, was).map(drop)
    })
}

/// Carries counters over that the present set does not share with the former one, once nothing counts by
/// that.
///
/// # Errors
/// When a table cannot be read or written.
pub(super) fn transfer_counts(former: &Former, pins: &Pins) -> Result<(), Error> {
    let slots = Slots::read(&former.pins, pins)?;
    counts::transfer(&former.pins, pins, &slots.moved)
}

/// Removes flows that ended between the two times that they were carried over.
///
/// # Errors
/// When a table cannot be read or written.
pub(super) fn forget(former: &Former, pins: &Pins) -> Result<(), Error> {
    carrier(former.layout).map_or(Ok(()), |carrier| (carrier.forget)(&former.pins, pins))
}

fn forget_all<L>(from: &Pins, to: &Pins) -> Result<(), Error>
where
    L: Layout<Addr4> + Layout<Addr6>,
{
    forget_of::<Addr4, L>(from, to, IPV4.flows)?;
    forget_of::<Addr6, L>(from, to, IPV6.flows)
}

fn forget_of<A, L>(from: &Pins, to: &Pins, name: &'static str) -> Result<(), Error>
where
    L: Layout<A>,
    FlowKey<A>: Pod + Default,
    Flow<A>: Pod + Default,
{
    let (old, new) = (Target::open(from, name)?, Target::open(to, name)?);
    batch::for_each(to, name, |key: &FlowKey<A>, flow: &Flow<A>| {
        if carry::is_untouched(flow) && old.get::<_, L::Flow>(key)?.is_none() {
            return new.remove(key);
        }
        Ok(())
    })
}

/// Tells whose slices of tables are whose, before and after.
struct Slots {
    /// By the index of the link.
    present: BTreeMap<u32, u16>,
    /// The present slot for each former one.
    moved: BTreeMap<u32, u32>,
}

impl Slots {
    fn read(from: &Pins, to: &Pins) -> Result<Self, Error> {
        let parties = batch::entries::<u32, Party>(to, "ENDPOINTS")?;
        let present: BTreeMap<u32, u16> = parties
            .into_iter()
            .map(|(ifindex, party)| (ifindex, party.slot))
            .collect();
        let former = batch::entries::<u32, Party>(from, "ENDPOINTS")?;
        let moved = former.into_iter().filter_map(|(ifindex, party)| {
            let slot = present.get(&ifindex)?;
            Some((u32::from(party.slot), u32::from(*slot)))
        });
        let moved = moved.collect();
        Ok(Self { present, moved })
    }

    /// Returns where an entry of a slice belongs that was at this place.
    fn moved(&self, index: u32) -> Option<u32> {
        let slot = self.moved.get(&(index / PENDING_PER_SLOT))?;
        Some(slot * PENDING_PER_SLOT + index % PENDING_PER_SLOT)
    }
}

/// Is a table that is read and written entry by entry.
struct Target<'a> {
    fd: OwnedFd,
    pins: &'a Pins,
    name: &'static str,
}

impl<'a> Target<'a> {
    fn open(pins: &'a Pins, name: &'static str) -> Result<Self, Error> {
        let path = pins.map(name);
        let fd = sys::open_pin(&path).map_err(Error::at("open map", &path))?;
        Ok(Self { fd, pins, name })
    }

    fn get<K: Pod, V: Pod + Default>(&self, key: &K) -> Result<Option<V>, Error> {
        sys::lookup(self.fd.as_fd(), key).map_err(self.error("read map"))
    }

    fn set<K: Pod, V: Pod>(&self, key: &K, value: &V) -> Result<(), Error> {
        let written = sys::update(self.fd.as_fd(), key, value, Presence::Any);
        written.map_err(self.error("write map"))
    }

    /// Adds an entry unless there is one; tells whether there is one afterwards.
    fn add<K: Pod, V: Pod>(&self, key: &K, value: &V) -> Result<bool, Error> {
        match sys::update(self.fd.as_fd(), key, value, Presence::Absent) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => Ok(true),
                Some(libc::E2BIG | libc::ENOMEM) => Ok(false),
                _ => Err(self.error("write map")(error)),
            },
        }
    }

    fn remove<K: Pod>(&self, key: &K) -> Result<(), Error> {
        sys::delete(self.fd.as_fd(), key).map_err(self.error("write map"))
    }

    fn error(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = self.pins.map(self.name);
        move |error| Error::Path {
            operation,
            path,
            error,
        }
    }
}
