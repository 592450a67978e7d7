//! `ciliate doctor`: what on this machine will hurt the node of a file, and what cures it.
//!
//! It asks the same questions as `plan`, and tells everything that stands in the way or works only
//! in part, also where `plan` would end at the first reason; and looks at what other programs on the
//! machine will do. It only reads, but for `--fix`.
//!
//! # Layout
//! - `manager`: other managers of the network, by their files
//! - `hook`: other programs on the hooks of our devices, and flow tables
//! - `machine`: the BPF file system, memory, what everybody may do
//! - `fix`: the files that tell others to leave us alone

mod fix;
mod hook;
mod machine;
mod manager;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use self::fix::{Fixed, Outcome};
use super::args::{Common, DEFAULT_FILE, File};
use super::exit;
use super::failure::Failure;
use super::instance::{self, Instance};
use crate::daemon::warning::{NO_NAMESPACE, UNDONE};
use crate::host::netns;
use crate::plan::Notes;
use crate::plan::object::Netns;
use crate::plan::warning::Warning;
use crate::plan::{self};
use crate::reconcile::drift::{Contest, Drift};
use crate::topology::{Endpoint, Topology};

/// How long what somebody undid again and again is told.
const OF_LATE: Duration = Duration::from_hours(1);

/// Where the files of other programs are.
const ROOT: &str = "/";

/// Tells what was found, once what can be fixed by files is, if that is asked for. Returns the exit
/// code.
///
/// # Errors
/// If the file is wrong or the kernel cannot be read.
pub fn doctor(
    common: &Common,
    file: &File,
    fixes: bool,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let topology = instance::topology(&examined(common, file)?, common.node.as_deref())?;
    let instance = Instance::new(common, &topology.node);
    let fixed = if fixes {
        fix::fix(Path::new(ROOT))
    } else {
        Vec::new()
    };
    let notes = instance.enter(|| {
        let ambient = instance.system()?.ambient(&topology)?;
        let mut notes = plan::notes(&topology, &ambient);
        notes.warnings.extend(missing_namespaces(&topology));
        notes.warnings.extend(contested(&instance.drift()?));
        let others = manager::findings(Path::new(ROOT), &topology);
        notes.warnings.extend(others);
        notes.warnings.extend(hook::findings(&instance, &topology)?);
        notes.warnings.extend(machine::findings(&instance)?);
        Ok(notes)
    })?;
    if common.json {
        let json = serde_json::json!({
            "schema": 1,
            "node": topology.node,
            "host_routing": notes.host_routing,
            "findings": notes.warnings,
            "fixed": fixed,
        });
        writeln!(out, "{json:#}")?;
    } else {
        print_fixed(&fixed, out)?;
        print(&notes, out)?;
    }
    Ok(if notes.warnings.is_empty() {
        exit::OK
    } else {
        exit::FOUND
    })
}

/// Returns the file to look at: the given one, else that of the machine, else the one that the
/// node was set up with.
fn examined(common: &Common, file: &File) -> Result<PathBuf, Failure> {
    let is_given = common.config.is_some() || file.file.is_some();
    if is_given || Path::new(DEFAULT_FILE).exists() {
        return instance::file(common, file);
    }
    let Ok(instance) = Instance::find(common) else {
        return instance::file(common, file);
    };
    let mut system = instance.system_to_look()?;
    let config = system.state().config().map(ToOwned::to_owned);
    config.map_or_else(|| instance::file(common, file), Ok)
}

fn missing_namespaces(topology: &Topology) -> impl Iterator<Item = Warning> {
    topology.endpoints.iter().filter_map(|endpoint| {
        let error = netns::open(&endpoint.netns).err()?;
        Some(missing_namespace(endpoint, &error.to_string()))
    })
}

fn missing_namespace(endpoint: &Endpoint, error: &str) -> Warning {
    let (remedy, commands) = match &endpoint.netns {
        Netns::Name(name) => ("make it".to_owned(), vec![format!("ip netns add {name}")]),
        Netns::Path(_) | Netns::Pid(_) => {
            let remedy = "start what it belongs to, or correct `netns` in the file";
            (remedy.to_owned(), Vec::new())
        }
    };
    Warning {
        commands,
        ..Warning::new(
            NO_NAMESPACE,
            format!("endpoint {} is not connected: {error}", endpoint.name),
            remedy,
        )
    }
}

/// Tells what somebody kept undoing of late.
fn contested(drift: &Drift) -> Vec<Warning> {
    let of_late = SystemTime::now() - OF_LATE;
    let since = of_late.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_or(0, |time| time.as_secs());
    let contests = drift.contested.iter().filter(|contest| contest.at >= since);
    let finding = |contest: &Contest| {
        let by = contest.by.as_deref().unwrap_or("something");
        let text = format!(
            "`{}` was repaired {} times in a row: {by} keeps undoing it",
            contest.what, contest.repairs
        );
        let remedy = "find out who manages the same object, and tell it to leave it alone";
        Warning::new(UNDONE, text, remedy.to_owned())
    };
    contests.map(finding).collect()
}

fn print_fixed(fixed: &[Fixed], out: &mut dyn Write) -> Result<(), Failure> {
    for one in fixed {
        let path = one.path.display();
        match (one.outcome, one.reload, &one.error) {
            (Outcome::Written, Some(reload), _) => {
                writeln!(out, "Wrote {path}; it counts after `{reload}`.")?;
            }
            (Outcome::Written, None, _) => writeln!(out, "Wrote {path}.")?,
            (Outcome::Present, ..) => {}
            (Outcome::Edited, ..) => {
                writeln!(out, "Left {path} as it is: somebody edited it.")?;
            }
            (Outcome::Failed, _, error) => {
                let error = error.as_deref().unwrap_or_default();
                writeln!(out, "Could not write {path}: {error}.")?;
            }
        }
    }
    Ok(())
}

fn print(notes: &Notes, out: &mut dyn Write) -> Result<(), Failure> {
    write!(out, "{notes}")?;
    match notes.warnings.len() {
        0 => writeln!(out, "Nothing found.")?,
        1 => writeln!(out, "1 finding; `ciliate explain CODE` says more.")?,
        count => writeln!(out, "{count} findings; `ciliate explain CODE` says more.")?,
    }
    Ok(())
}
