//! Creates or reuses the pinned maps, loads the programs, pins them.
//!
//! Maps outlive objects: a new object works on the flows of the old one. Programs are pinned
//! under the digest of their object, each object with a fresh table of tail calls, so that no
//! program ever calls into another object. A folder of programs is complete as soon as it has
//! its name: it is filled under another one and renamed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};

use aya::maps::{MapData, MapError};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use datapath::abi::PENDING_PER_SLOT;
use nix::errno::Errno;

use super::object::OBJECT;
use super::pin::{Former, Pins};
use super::{Error, calls, demand, sys};
use crate::host::bpffs;

/// Tables that go on counting when others are exchanged.
const LASTING: [&str; 4] = ["DROPS", "TERMS", "AUDITS", "CURSOR"];

/// How the names of tables begin that stand for those in charge until then.
const FORMER_PREFIX: &str = "FORMER_";

/// Most ranges of a policy that holds and of one that takes its place, together; their trie takes
/// memory only for what is in it.
const RANGES_MAX: u32 = 1 << 17;

/// Name of the folder in which programs are collected before they count.
pub(super) const INCOMPLETE: &str = "incomplete";

/// Gives the capacity of each map that depends on the machine or the topology, in entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of `FLOWS4`; `FLOWS6` has half of it.
    pub flows: u32,
    /// Whether the file asks for that number: then `FLOWS6` has as many, and tables of another
    /// size are thrown away.
    pub flows_given: bool,
    /// Slices of `PENDING4`, `PENDING6`, `PERMITS4` and `PERMITS6`: a power of two.
    pub endpoint_slots: u32,
    /// Of `BINDINGS4` and `BINDINGS6`.
    pub bindings: u32,
    /// Of `PREFIXES4`; `POLICY` has half of it, and `PREFIXES6` a quarter. A power of two.
    pub prefixes: u32,
}

impl Sizes {
    /// Chooses capacities: flow tables from the memory that maps may take, in bytes, unless the
    /// file gives their size; tables of pending flows from the number of endpoints.
    pub fn new(budget: u64, endpoint_slots: u32, flows: Option<u32>, bindings: u32) -> Self {
        // Half of the budget, for an IPv4 flow and half an IPv6 one of about 340 bytes together.
        let affordable = (budget / 2 / 340).clamp(1_024, 65_536);
        let affordable = u32::try_from(affordable).unwrap_or(1_024);
        // An eighth for the empty table, which has 16 bytes for each entry.
        let prefixes = (budget / 8 / 16).clamp(4_096, 262_144);
        let prefixes = u32::try_from(prefixes).unwrap_or(4_096);
        Self {
            prefixes: 1 << prefixes.ilog2(),
            flows: flows.unwrap_or(1 << affordable.ilog2()),
            flows_given: flows.is_some(),
            endpoint_slots,
            bindings,
        }
    }

    pub(super) fn of(&self, map: &str) -> Option<u32> {
        match map {
            "FLOWS6" if !self.flows_given => Some(self.flows / 2),
            "FLOWS4" | "FLOWS6" => Some(self.flows),
            "BINDINGS4" | "BINDINGS6" => Some(self.bindings),
            "PREFIXES4" => Some(self.prefixes),
            "PREFIXES6" => Some(self.prefixes / 4),
            "PENDING4" | "PENDING6" | "PERMITS4" | "PERMITS6" => {
                Some(self.endpoint_slots * PENDING_PER_SLOT)
            }
            "BOUND" => Some(self.endpoint_slots * 2),
            "AUDITS" | "SHARES" => Some(self.endpoint_slots),
            "POLICY" => Some(self.prefixes / 2),
            "RANGES" => Some(RANGES_MAX),
            _ => None,
        }
    }

    /// Tells whether a pinned map of another capacity may stay: flows are not thrown away for a
    /// better size, but a slice that is missing would let endpoints share one.
    pub(super) fn accepts(&self, map: &str, found: u32) -> bool {
        match map {
            "FLOWS4" | "FLOWS6" if !self.flows_given => true,
            "PREFIXES4" | "PREFIXES6" | "POLICY" => true,
            _ => self.of(map).is_none_or(|wanted| wanted == found),
        }
    }
}

/// Loads the object inside this binary and pins what it consists of, the programs under
/// `version`.
///
/// Where nothing was pinned before, a failure leaves nothing.
///
/// # Errors
/// Names the map or program and the kernel's error, with the verifier's last words.
pub fn load(pins: &Pins, sizes: &Sizes, version: &str) -> Result<(), Error> {
    let is_first = !pins.maps().exists();
    try_load(pins, sizes, version).inspect_err(|_| {
        let undone = match (is_first, in_charge(pins)) {
            (false, _) => Ok(()),
            (true, None) => unload(pins),
            (true, Some(_)) => remove(pins.root(), |path| fs::remove_dir_all(path)),
        };
        // The error that is told is the first one.
        if let Err(error) = undone {
            log::warn!("{error}");
        }
    })
}

/// Returns the tables that are still in charge while those of this layout take their place.
pub(super) fn in_charge(pins: &Pins) -> Option<Former> {
    pins.former().filter(|former| !former.is_left)
}

fn try_load(pins: &Pins, sizes: &Sizes, version: &str) -> Result<(), Error> {
    for folder in [pins.maps(), pins.programs(), pins.links()] {
        fs::create_dir_all(&folder).map_err(Error::at("create folder", &folder))?;
    }
    let mut object = Object::parse(OBJECT).map_err(|error| Error::Object(error.to_string()))?;
    let former = in_charge(pins);
    let maps = create_maps(&object, pins, sizes, former.as_ref())?;
    let fresh = pins.object(INCOMPLETE);
    remove(&fresh, |path| fs::remove_dir_all(path))?;
    fs::create_dir(&fresh).map_err(Error::at("create folder", &fresh))?;
    let layout = former.as_ref().map(|former| former.layout);
    let programs = verify(&mut object, &maps, &|name| calls::is_loaded(name, layout))?;
    for (name, program) in programs {
        let path = fresh.join(calls::pinned_name(&name));
        sys::pin(program.as_fd(), &path).map_err(Error::at("pin program", &path))?;
    }
    calls::pin(&maps, calls::CALL, &fresh)?;
    calls::slow_paths(&fresh)?;
    if let Some(former) = former {
        calls::pin(&maps, calls::FORMER, &fresh)?;
        calls::former(&former, &fresh)?;
    }
    let complete = pins.object(version);
    remove(&complete, |path| fs::remove_dir_all(path))?;
    fs::rename(&fresh, &complete).map_err(Error::at("rename folder", &fresh))
}

/// Removes the programs of these versions.
pub(super) fn remove_versions(pins: &Pins, versions: &[String]) -> Result<(), Error> {
    for version in versions {
        remove(&pins.object(version), |path| fs::remove_dir_all(path))?;
    }
    Ok(())
}

/// Removes every pin of a node, and the folders that are empty then.
///
/// # Errors
/// When a pin cannot be removed.
pub fn unload(pins: &Pins) -> Result<(), Error> {
    if !bpffs::is_bpffs(pins.node())? {
        // Whatever is there, it is no pin.
        return Ok(());
    }
    remove(pins.node(), |path| fs::remove_dir_all(path))?;
    // Another node's pins keep the outer folder; that is as it should be.
    drop(fs::remove_dir(pins.parent()));
    Ok(())
}

/// Is a map as the object defines it, and as the kernel has it.
pub(super) struct Table {
    definition: aya_obj::Map,
    pub(super) data: MapData,
}

/// Creates the maps of an object, or opens those that are pinned and fit. Those that count do so on
/// from what tables in charge have counted.
fn create_maps(
    object: &Object,
    pins: &Pins,
    sizes: &Sizes,
    former: Option<&Former>,
) -> Result<BTreeMap<String, Table>, Error> {
    let mut tables = BTreeMap::new();
    let is_former = |name: &str| name.starts_with(FORMER_PREFIX);
    for (name, definition) in object.maps.iter().filter(|(name, _)| !is_former(name)) {
        let mut definition = definition.clone();
        if let Some(entries) = sizes.of(name) {
            definition.set_max_entries(entries);
        }
        let data = if [calls::CALL, calls::FORMER].contains(&name.as_str()) {
            create(name, &definition)?
        } else {
            if let (Some(former), true) = (former, LASTING.contains(&name.as_str())) {
                share(former, pins, name, &definition)?;
            }
            match reuse(pins, name, &definition, sizes)? {
                Some(data) => data,
                None => create_pinned(pins, name, &definition)?,
            }
        };
        tables.insert(name.clone(), Table { definition, data });
    }
    for (name, definition) in object.maps.iter().filter(|(name, _)| is_former(name)) {
        let definition = definition.clone();
        // Without one the programs that use it are not loaded, but linked all the same.
        let owner = former.map_or(pins, |former| &former.pins);
        let path = owner.map(name.trim_start_matches(FORMER_PREFIX));
        let fd = sys::open_pin(&path).map_err(Error::at("open map", &path))?;
        let data = MapData::from_fd(fd).map_err(|error| Error::map("open map", name, &error))?;
        tables.insert(name.clone(), Table { definition, data });
    }
    Ok(tables)
}

fn create(name: &str, definition: &aya_obj::Map) -> Result<MapData, Error> {
    MapData::create(definition.clone(), name, None).map_err(|error| {
        let Some(errno) = shortage(&error) else {
            return Error::map("create map", name, &error);
        };
        let entries = definition.max_entries();
        Error::Memory {
            name: name.to_owned(),
            entries,
            bytes: demand::bytes(definition, entries),
            error: errno.into(),
            help: how_to_shrink(name),
        }
    })
}

/// Tells whether the kernel refuses a map for want of memory: `EPERM` is what it says where locked
/// memory is limited, `E2BIG` where a map is larger than it counts.
fn shortage(error: &MapError) -> Option<Errno> {
    let MapError::CreateError { io_error, .. } = error else {
        return None;
    };
    let errno = io_error.raw_os_error().map(Errno::from_raw)?;
    [Errno::ENOMEM, Errno::EPERM, Errno::E2BIG]
        .contains(&errno)
        .then_some(errno)
}

/// Says what makes a map smaller.
fn how_to_shrink(name: &str) -> &'static str {
    match name {
        "FLOWS4" | "FLOWS6" => "give a smaller `flows` in [maps]",
        "BINDINGS4" | "BINDINGS6" => {
            "give a smaller `bindings` in [maps], or fewer `ports` in [masquerade]"
        }
        "PENDING4" | "PENDING6" | "BOUND" | "AUDITS" | "SHARES" => {
            "it has room for each [[endpoint]] of the node"
        }
        _ => "its size is fixed; give smaller `flows` and `bindings` in [maps]",
    }
}

fn create_pinned(pins: &Pins, name: &str, definition: &aya_obj::Map) -> Result<MapData, Error> {
    let path = pins.map(name);
    remove(&path, |path| fs::remove_file(path))?;
    let data = create(name, definition)?;
    sys::pin(data.fd().as_fd(), &path).map_err(Error::at("pin map", &path))?;
    Ok(data)
}

/// Opens a pinned map if it has the shape that the object wants.
fn reuse(
    pins: &Pins,
    name: &str,
    definition: &aya_obj::Map,
    sizes: &Sizes,
) -> Result<Option<MapData>, Error> {
    let path = pins.map(name);
    let fd = match sys::open_pin(&path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::at("open map", &path)(error)),
    };
    let data = MapData::from_fd(fd).map_err(|error| Error::map("open map", name, &error))?;
    let info = data
        .info()
        .map_err(|error| Error::map("inspect map", name, &error))?;
    let shape = (info.key_size(), info.value_size());
    let fits = shape == (definition.key_size(), definition.value_size())
        && sizes.accepts(name, info.max_entries());
    Ok(fits.then_some(data))
}

/// Pins a table of a former set in this one as well, if it is as this one needs it.
fn share(former: &Former, pins: &Pins, name: &str, definition: &aya_obj::Map) -> Result<(), Error> {
    let Ok(fd) = sys::open_pin(&former.pins.map(name)) else {
        return Ok(());
    };
    let data = MapData::from_fd(fd).map_err(|error| Error::map("open map", name, &error))?;
    let info = data
        .info()
        .map_err(|error| Error::map("inspect map", name, &error))?;
    let shape = (info.key_size(), info.value_size(), info.max_entries());
    let wanted = (
        definition.key_size(),
        definition.value_size(),
        definition.max_entries(),
    );
    let path = pins.map(name);
    if shape != wanted || path.exists() {
        return Ok(());
    }
    sys::pin(data.fd().as_fd(), &path).map_err(Error::at("pin map", &path))
}

/// Takes the programs that are wanted through the verifier.
fn verify(
    object: &mut Object,
    tables: &BTreeMap<String, Table>,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, OwnedFd>, Error> {
    relocate(object, tables)?;
    let mut instructions = instructions(object)?;
    instructions.retain(|(name, _)| is_wanted(name));
    // The verifier takes a processor for milliseconds; the two slow paths may have one each.
    let verdicts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = instructions
            .iter()
            .map(|(name, instructions)| {
                scope.spawn(|| (*name, sys::load_classifier(name, instructions)))
            })
            .collect();
        let verdicts = threads.into_iter().map(ScopedJoinHandle::join);
        verdicts
            .map(|joined| joined.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let mut programs = BTreeMap::new();
    for (name, loaded) in verdicts {
        let loaded = loaded.map_err(|(error, log)| Error::Program {
            name: name.to_owned(),
            error,
            log,
        })?;
        programs.insert(name.to_owned(), loaded);
    }
    Ok(programs)
}

/// Takes the programs through the verifier once more and returns, for each, what the verifier
/// says it cost. Maps must have been created by [`load`]; nothing is pinned.
///
/// # Errors
/// As [`load`].
pub fn statistics(pins: &Pins, sizes: &Sizes) -> Result<BTreeMap<String, String>, Error> {
    let mut object = Object::parse(OBJECT).map_err(|error| Error::Object(error.to_string()))?;
    let tables = create_maps(&object, pins, sizes, None)?;
    relocate(&mut object, &tables)?;
    let mut statistics = BTreeMap::new();
    for (name, instructions) in instructions(&object)? {
        let said =
            sys::classifier_statistics(name, instructions).map_err(|error| Error::Program {
                name: name.to_owned(),
                error,
                log: String::new(),
            })?;
        statistics.insert(name.to_owned(), said);
    }
    Ok(statistics)
}

/// Fills in the descriptors of maps and the distances of calls.
fn relocate(object: &mut Object, tables: &BTreeMap<String, Table>) -> Result<(), Error> {
    let sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let relocation =
        |error: aya_obj::relocation::EbpfRelocationError| Error::Object(error.to_string());
    let maps = tables.iter().map(|(name, table)| {
        (
            name.as_str(),
            table.data.fd().as_fd().as_raw_fd(),
            &table.definition,
        )
    });
    object.relocate_maps(maps, &sections).map_err(relocation)?;
    object.relocate_calls(&sections).map_err(relocation)
}

/// Returns the instructions of every program.
fn instructions(object: &Object) -> Result<Vec<(&str, &[bpf_insn])>, Error> {
    let mut found = Vec::new();
    for (name, program) in &object.programs {
        let function = object
            .functions
            .get(&program.function_key())
            .ok_or_else(|| Error::Object(format!("program {name} has no instructions")))?;
        found.push((name.as_str(), function.instructions.as_slice()));
    }
    Ok(found)
}

/// Removes a file or folder; one that is not there is what was wanted.
pub(super) fn remove(path: &Path, how: fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    match how(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::at("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn flow_tables_follow_the_memory_unless_the_file_gives_their_size() {
        let free = Sizes::new(16 * MIB, 16, None, 32_768);
        let given = Sizes::new(16 * MIB, 16, Some(5000), 32_768);

        assert_eq!(free.of("FLOWS4"), Some(16_384));
        assert_eq!(free.of("FLOWS6"), Some(8_192));
        assert!(free.accepts("FLOWS4", 1024), "flows are not thrown away");
        assert_eq!(given.of("FLOWS4"), Some(5000));
        assert_eq!(given.of("FLOWS6"), Some(5000));
        assert!(!given.accepts("FLOWS4", 1024));
        assert_eq!(given.of("BINDINGS6"), Some(32_768));
    }
}
