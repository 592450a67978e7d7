//! The exchange of a node's tables for others: of another size, or of another layout.
//!
//! ```text
//!              hooks          slow path          tables
//!  begin       old            old                old
//!  attach      old and new    old                old      new programs hand over what they do not know,
//!  end: copy   new            old                old      which is everything
//!  end: switch new            new                new      one word for all programs
//!  end: copy   new            new, or old for what only the old tables know
//!  end         new            new                new
//! ```
//!
//! New programs find nothing in their tables of flows until the switch, and leave every packet that
//! needs a decision to the old ones by tail call: the tables never disagree, whichever hooks have
//! been attached so far. The names of folders say how far the exchange has come ([`Pins`]), and every
//! function here goes on where another one was killed.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use datapath::abi::SCHEMA;

use super::load::{self, Sizes, remove};
use super::pin::{Former, Pins};
use super::sys::Presence;
use super::{Error, calls, observe, sys, transfer};
use crate::plan::cutover::exchanges;
use crate::plan::object::Value;

/// Name of the table of the word by which tables are put in charge.
const IN_CHARGE: &str = "IN_CHARGE";

/// Most times that bindings are looked through before the switch.
const MOST_ROUNDS: u32 = 4;

/// Makes sure that tables of these layouts can be taken over.
///
/// # Errors
/// Says what to do if not.
pub fn require(pins: &Pins) -> Result<(), Error> {
    let unknown = pins
        .layouts()
        .into_iter()
        .find(|layout| !transfer::knows(*layout));
    unknown.map_or(Ok(()), |found| {
        Err(Error::Layout {
            found,
            ours: SCHEMA,
            help: if found > SCHEMA {
                "a newer ciliate made them: run that one"
            } else {
                "run the ciliate that made them, or one that is less new than this one"
            },
        })
    })
}

/// Prepares for tables as `value` wants them to be made, before they are; tells whether they are there
/// already, with programs of the version.
///
/// # Errors
/// When a folder cannot be renamed or removed.
pub(super) fn begin(pins: &Pins, before: Option<&Value>, value: &Value) -> Result<bool, Error> {
    if pins.former().is_some_and(|former| former.is_left) {
        end(pins)?;
    }
    if !before.is_some_and(|before| exchanges(before, value)) {
        return Ok(false);
    }
    let Some(former) = pins.former() else {
        set_aside(pins)?;
        return Ok(false);
    };
    abandon(pins)?;
    reinstate(pins, &former, value)
}

/// Keeps the tables that are in charge apart from those that will be.
fn set_aside(pins: &Pins) -> Result<(), Error> {
    if pins.root().exists() {
        return rename(pins.root(), &pins.in_charge(SCHEMA));
    }
    match pins.foreign() {
        Some((foreign, layout)) => rename(foreign.root(), &pins.in_charge(layout)),
        None => Ok(()),
    }
}

/// Gives up tables that others are still in charge of. Programs that are attached by now go on to hand
/// over what they get.
fn abandon(pins: &Pins) -> Result<(), Error> {
    if !pins.root().exists() {
        return Ok(());
    }
    let place = pins.abandoned();
    remove(&place, |path| fs::remove_dir_all(path))?;
    rename(pins.root(), &place)
}

/// Puts tables back to where they were if they are the ones that are wanted; tells whether they are, and
/// have the programs.
fn reinstate(pins: &Pins, former: &Former, value: &Value) -> Result<bool, Error> {
    let versions = observe::versions(&former.pins)?;
    let present = observe::current(&former.pins, &versions);
    let is_foreign = former.layout != SCHEMA;
    let fits = present.is_some_and(|present| !exchanges(&present, value));
    let is_wanted = if is_foreign {
        *value == observe::unreadable()
    } else {
        fits
    };
    if !is_wanted {
        return Ok(false);
    }
    rename(former.pins.root(), &pins.of_layout(former.layout))?;
    let Value::Datapath { digest, .. } = value else {
        return Ok(is_foreign);
    };
    Ok(is_foreign || calls::is_complete(pins, digest))
}

/// Puts the tables of this layout in charge, with everything that the former ones know, and removes
/// those.
///
/// # Errors
/// When a table cannot be read or written, or something cannot be removed.
pub(super) fn end(pins: &Pins) -> Result<(), Error> {
    if let Some(former) = pins.former() {
        let left = if former.is_left {
            former
        } else {
            transfer::transfer(&former, pins)?;
            claim_ports(&former, pins)?;
            rename(former.pins.root(), &pins.left(former.layout))?;
            pins.former().unwrap_or(former)
        };
        take_charge(pins)?;
        transfer::transfer_bindings(&left, pins)?;
        wait(pins)?;
        transfer::transfer(&left, pins)?;
        transfer::forget(&left, pins)?;
        let folders = folders(pins)?;
        folders
            .iter()
            .try_for_each(|folder| calls::slow_paths(folder))?;
        wait(pins)?;
        // What came to the former tables while they were asked.
        transfer::transfer(&left, pins)?;
        transfer::transfer_counts(&left, pins)?;
        folders
            .iter()
            .try_for_each(|folder| calls::forget_former(folder))?;
        remove(left.pins.root(), |path| fs::remove_dir_all(path))?;
        log::info!(
            "flows and bindings of the tables before these (layout {}) are carried over",
            left.layout
        );
    }
    remove(&pins.abandoned(), |path| fs::remove_dir_all(path))
}

/// Returns the folders of complete programs.
fn folders(pins: &Pins) -> Result<Vec<PathBuf>, Error> {
    let versions = observe::versions(pins)?;
    let complete = versions
        .iter()
        .filter(|name| calls::is_complete(pins, name));
    Ok(complete.map(|version| pins.object(version)).collect())
}

/// Carries bindings over until hardly any new one has come meanwhile: two connections must not get one
/// port, one by the former tables in the last moment and one by these in the first.
fn claim_ports(former: &Former, pins: &Pins) -> Result<(), Error> {
    for _ in 0..MOST_ROUNDS {
        if transfer::transfer_bindings(former, pins)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Has all programs decide by these tables from now on; some may still be on their way by the former
/// ones.
fn take_charge(pins: &Pins) -> Result<(), Error> {
    let path = pins.map(IN_CHARGE);
    let word = sys::open_pin(&path).map_err(Error::at("open map", &path))?;
    sys::update(word.as_fd(), &0_u32, &1_u32, Presence::Any).map_err(Error::at("write map", &path))
}

fn wait(pins: &Pins) -> Result<(), Error> {
    sys::wait_for_programs().map_err(Error::at("wait for programs of", pins.root()))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::at("rename folder", from))
}

/// Loads the programs for tables of these sizes, in an exchange if they differ from what is there.
///
/// # Errors
/// As [`load::load`].
pub(super) fn load(
    pins: &Pins,
    before: Option<&Value>,
    value: &Value,
    (sizes, version): (&Sizes, &str),
) -> Result<(), Error> {
    if begin(pins, before, value)? || *value == observe::unreadable() {
        return Ok(());
    }
    load::load(pins, sizes, version).inspect_err(|_| {
        // Where tables were set aside for those that could not be made, they come back.
        if let Some(former) = load::in_charge(pins)
            && !pins.maps().exists()
            && let Err(error) = rename(former.pins.root(), &pins.of_layout(former.layout))
        {
            log::warn!("{error}");
        }
    })
}
