//! Which program goes on where another one ends: the tables of tail calls.
//!
//! Each object has fresh ones, pinned with its programs, so that no program ever calls into another
//! object; only when an exchange of tables ends ([`super::cutover`]) is one refilled.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use datapath::abi::{CALL_ARP, CALL_DECIDE4, CALL_DECIDE6, CALL_SLOW4, CALL_SLOW6, SCHEMA};
use datapath::hook::Hook;

use super::load::{Table, remove};
use super::pin::{Former, Pins};
use super::sys::Presence;
use super::{Error, observe, sys};
use crate::plan::object::Program;

/// Name of the table of tail calls; it is pinned with its programs, not with the other maps.
pub(super) const CALL: &str = "CALL";

/// Name of the table of the programs that are in charge until tables are exchanged, which lies there
/// until then.
pub(super) const FORMER: &str = "FORMER";

/// Programs that are reached by tail call, with their places in `CALL`.
const CALLED: [(&str, &[u32]); 3] = [
    ("slow4", &[CALL_SLOW4, CALL_DECIDE4]),
    ("slow6", &[CALL_SLOW6, CALL_DECIDE6]),
    ("arp", &[CALL_ARP]),
];

/// Programs that ask the former tables before the slow path, with their place in `CALL`.
const CONSULTED: [(&str, u32); 2] = [("consult4", CALL_SLOW4), ("consult6", CALL_SLOW6)];

/// Other names of these where the former tables are of the layout before this one.
const CONVERTING: [(&str, &str); 2] = [("convert4", "consult4"), ("convert6", "consult6")];

/// Tells whether a program is needed while tables of this layout are in charge, or none.
pub(super) fn is_loaded(name: &str, former: Option<u32>) -> bool {
    let consults = CONSULTED.iter().any(|(consulting, _)| *consulting == name);
    let converts = pinned_name(name) != name;
    match former {
        None => !consults && !converts,
        Some(SCHEMA) => !converts,
        Some(_) => !consults,
    }
}

/// Returns the name that a program is pinned under.
pub(super) fn pinned_name(name: &str) -> &str {
    let found = CONVERTING
        .iter()
        .find(|(converting, _)| *converting == name);
    found.map_or(name, |(_, pinned)| pinned)
}

/// Tells whether all programs of a version are pinned.
pub(super) fn is_complete(pins: &Pins, version: &str) -> bool {
    let folder = pins.object(version);
    let called = CALLED.iter().map(|(name, _)| *name);
    let hooks = Program::ALL.iter().map(|program| program.name());
    called
        .chain(hooks)
        .chain([CALL])
        .all(|name| folder.join(name).exists())
}

/// Pins a fresh table of programs in a folder of programs.
pub(super) fn pin(
    tables: &BTreeMap<String, Table>,
    name: &str,
    folder: &Path,
) -> Result<(), Error> {
    let table = tables
        .get(name)
        .ok_or_else(|| Error::Object(format!("the object has no map {name}")))?;
    let path = folder.join(name);
    sys::pin(table.data.fd().as_fd(), &path).map_err(Error::at("pin map", &path))
}

/// Has the programs of a folder call the slow paths beside them.
pub(super) fn slow_paths(folder: &Path) -> Result<(), Error> {
    let calls = open(folder, CALL)?;
    for (name, indices) in CALLED {
        let path = folder.join(name);
        let program = sys::open_pin(&path).map_err(Error::at("open program", &path))?;
        for index in indices {
            set(&calls, CALL, *index, &program)?;
        }
    }
    Ok(())
}

/// Has the programs of a folder ask those that are in charge before they go on to the slow paths.
pub(super) fn former(former: &Former, folder: &Path) -> Result<(), Error> {
    let versions = observe::versions(&former.pins)?;
    let version = versions
        .iter()
        .find(|version| is_complete(&former.pins, version));
    let version = version.ok_or_else(|| {
        Error::NotOurs(format!(
            "{}: its programs are gone",
            former.pins.root().display()
        ))
    })?;
    let programs = open(folder, FORMER)?;
    for program in Program::ALL {
        let path = former.pins.object(version).join(program.name());
        let opened = sys::open_pin(&path).map_err(Error::at("open program", &path))?;
        set(&programs, FORMER, hook_of(program) as u32, &opened)?;
    }
    let calls = open(folder, CALL)?;
    for (name, index) in CONSULTED {
        let path = folder.join(name);
        let program = sys::open_pin(&path).map_err(Error::at("open program", &path))?;
        set(&calls, CALL, index, &program)?;
    }
    Ok(())
}

/// Forgets the programs that were in charge.
pub(super) fn forget_former(folder: &Path) -> Result<(), Error> {
    let programs = CONSULTED.iter().map(|(name, _)| *name);
    for name in programs.chain([FORMER]) {
        remove(&folder.join(name), |path| fs::remove_file(path))?;
    }
    Ok(())
}

/// Returns the hook that a program belongs to.
fn hook_of(program: Program) -> Hook {
    match program {
        Program::FromContainer => Hook::FromContainer,
        Program::ToContainer => Hook::ToContainer,
        Program::FromHost => Hook::FromHost,
        Program::ToHost => Hook::ToHost,
        Program::FromNetdev => Hook::FromNetdev,
        Program::ToNetdev => Hook::ToNetdev,
    }
}

fn open(folder: &Path, name: &str) -> Result<OwnedFd, Error> {
    let path = folder.join(name);
    sys::open_pin(&path).map_err(Error::at("open map", &path))
}

fn set(calls: &OwnedFd, name: &str, index: u32, program: &OwnedFd) -> Result<(), Error> {
    let value = program.as_raw_fd().cast_unsigned();
    sys::update(calls.as_fd(), &index, &value, Presence::Any)
        .map_err(Error::at("fill map", Path::new(name)))
}
