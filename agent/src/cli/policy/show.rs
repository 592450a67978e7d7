//! `ciliate policy show`: what each endpoint, and the node itself, may do.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::super::args::{Common, File};
use super::super::exit;
use super::super::failure::Failure;
use super::cast::{Cast, Party};
use super::count::{self, Counters};
use super::line::{RuleLine, TermLine, direction};
use crate::config::Config;
use crate::plan::policy::{Decision, Direction};
use crate::topology::Topology;
use crate::topology::policy::SideInfo;

/// Shows the policy of one node.
#[derive(Debug, Serialize)]
pub struct Sheet {
    node: String,
    enforcement: String,
    /// Why there are no counters, or what else is to be known of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    subjects: Vec<Subject>,
}

/// Shows the policy of the node itself or of an endpoint.
#[derive(Debug, Serialize)]
struct Subject {
    name: String,
    is_host: bool,
    identity: u32,
    /// Whether what is denied goes through, and is only reported.
    audit: bool,
    directions: Vec<Way>,
}

/// Shows one direction.
#[derive(Debug, Serialize)]
struct Way {
    direction: Direction,
    /// `open`, or what becomes of what no term allows.
    default: &'static str,
    closed_by: Vec<RuleLine>,
    terms: Vec<CountedTerm>,
}

#[derive(Debug, Serialize)]
struct CountedTerm {
    #[serde(flatten)]
    term: TermLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Counted {
    packets: u64,
    bytes: u64,
}

/// Tells a name from a file where only one argument is given: a path has a slash, or ends with
/// `.toml`.
pub fn arguments<'n>(
    common: &Common,
    name: Option<&'n str>,
    file: &File,
) -> (Option<&'n str>, File) {
    let is_path = |name: &&str| {
        let ending = Path::new(name).extension();
        name.contains('/') || ending.is_some_and(|ending| ending == "toml")
    };
    let is_free = file.file.is_none() && common.config.is_none();
    match name.filter(is_path).filter(|_| is_free) {
        Some(path) => {
            let file = Some(path.into());
            (None, File { file })
        }
        None => (name, file.clone()),
    }
}

/// Shows the policy of an endpoint or a node, else of all that the played node has. Returns the
/// exit code.
///
/// # Errors
/// If the file is wrong, the name means nobody, or the node cannot be told.
pub fn show(
    common: &Common,
    file: &Path,
    name: Option<&str>,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let cast = Cast::load(file)?;
    let (node, only) = match name {
        None => (cast.played(common)?, None),
        Some(name) => match cast.find(name, common)? {
            Party::Subject { node, slot } => (node, Some(slot)),
            Party::World | Party::Stranger(_) => {
                let text = format!("{name} is not of this file, and has no policy in it");
                return Err(Failure::Usage(text));
            }
        },
    };
    let topology = &cast.nodes[node];
    let sheet = sheet(&cast.config, topology, only, &count::read(common, topology));
    if common.json {
        let json = serde_json::to_string_pretty(&sheet).map_err(std::io::Error::other)?;
        writeln!(out, "{json}")?;
    } else {
        print(&sheet, out)?;
    }
    Ok(exit::OK)
}

/// Describes the policy of a node, or of one of its slots, with what its terms have counted.
pub fn sheet(
    config: &Config,
    topology: &Topology,
    only: Option<u16>,
    counters: &Counters,
) -> Sheet {
    let host = (0, topology.node.as_str());
    let endpoints = topology.endpoints.iter();
    let endpoints = endpoints.map(|endpoint| (endpoint.id, endpoint.name.as_str()));
    let subjects = std::iter::once(host)
        .chain(endpoints)
        .filter(|(slot, _)| only.is_none_or(|only| only == *slot));
    Sheet {
        node: topology.node.clone(),
        enforcement: config.policy.enforcement.to_string(),
        note: counters.note.clone(),
        subjects: subjects
            .map(|(slot, name)| subject(config, topology, (slot, name), counters))
            .collect(),
    }
}

fn subject(
    config: &Config,
    topology: &Topology,
    (slot, name): (u16, &str),
    counters: &Counters,
) -> Subject {
    let known = &topology.policy.tables.subjects[&slot];
    let sides = topology.policy.sides[&slot].iter();
    Subject {
        name: name.to_owned(),
        is_host: slot == 0,
        identity: known.identity,
        audit: known.audit,
        directions: sides
            .map(|side| way(config, topology, side, counters))
            .collect(),
    }
}

fn way(config: &Config, topology: &Topology, side: &SideInfo, counters: &Counters) -> Way {
    let closing = side.closed_by.iter();
    let terms = side.terms.iter().map(|number| CountedTerm {
        term: TermLine::new(*number, &topology.policy.terms[number]),
        counted: counters
            .of(*number)
            .map(|(packets, bytes)| Counted { packets, bytes }),
    });
    Way {
        direction: side.direction,
        default: match side.default.decision {
            Decision::Allow => "open",
            Decision::Deny => "denied",
            Decision::Reject => "rejected",
        },
        closed_by: closing
            .filter_map(|idx| RuleLine::at(config, *idx))
            .collect(),
        terms: terms.collect(),
    }
}

/// Prints a sheet for people.
///
/// # Errors
/// If `out` cannot be written.
pub fn print(sheet: &Sheet, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "node {}, enforcement {}",
        sheet.node, sheet.enforcement
    )?;
    if let Some(note) = &sheet.note {
        writeln!(out, "{note}")?;
    }
    for subject in &sheet.subjects {
        writeln!(out)?;
        let what = if subject.is_host { "node " } else { "" };
        writeln!(
            out,
            "{what}{} (identity {})",
            subject.name, subject.identity
        )?;
        let is_closed = |way: &Way| way.default != "open" || !way.terms.is_empty();
        if subject.audit && subject.directions.iter().any(is_closed) {
            writeln!(out, "  audit: what is denied goes through, and is reported")?;
        }
        for way in &subject.directions {
            print_way(way, out)?;
        }
    }
    Ok(())
}

fn print_way(way: &Way, out: &mut dyn Write) -> Result<(), Failure> {
    let name = direction(way.direction);
    let default = match way.default {
        "open" if way.terms.is_empty() => "open".to_owned(),
        "open" => "open, but for what is denied here".to_owned(),
        denied => format!("closed, all else is {denied}"),
    };
    writeln!(out, "  {name:<8} {default}")?;
    // Deny terms go before all others, whatever their place.
    let effects = |denies| move |line: &&CountedTerm| (line.term.effect != "allow") == denies;
    let denying = way.terms.iter().filter(effects(true));
    for line in denying.chain(way.terms.iter().filter(effects(false))) {
        let counted = line.counted.map_or_else(String::new, |counted| {
            format!("  [{} packets, {} bytes]", counted.packets, counted.bytes)
        });
        writeln!(out, "    {}{counted}", line.term.says())?;
        writeln!(out, "      {}", line.term.rule.text())?;
    }
    Ok(())
}
