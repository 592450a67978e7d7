//! `[masquerade]`: how the nodes of a file translate.

use ipnet::IpNet;
use toml::Spanned;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::list;
use super::table::{Entry, Field, Keys, inner};
use super::timeout::{self, TimeoutDraft};
use super::value;
use crate::plan::object::{Filtering, Mapping, PortSelection, Timeouts};

static MASQUERADE: Keys = Keys {
    table: "[masquerade]",
    known: &[
        "exclude",
        "ports",
        "mapping",
        "filtering",
        "port_selection",
        "max_ports_per_endpoint",
        "unsafe_timeouts",
        "timeouts",
    ],
    later: &[],
};

/// Outside ports of a file that gives none: the dynamic ones (RFC 6335, section 6).
pub const PORTS_DEFAULT: (u16, u16) = (49_152, 65_535);

/// First port that a translation may use: the lower ones belong to services.
const PORT_MIN: u16 = 1024;

/// Fewest ports that a range must have.
pub const PORTS_MIN: u16 = 64;

/// Ports that Linux gives out by itself, where nobody has changed that.
const AUTOMATIC_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Fewest ports that must be left for the host's own connections.
pub const AUTOMATIC_MIN: u16 = 4096;

/// Tells how a file wants things translated; without a device that masquerades it means nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Masquerade {
    /// Destinations for which nothing is translated.
    pub exclude: Vec<Spanned<IpNet>>,
    pub ports: (u16, u16),
    pub mapping: Mapping,
    pub filtering: Filtering,
    pub selection: PortSelection,
    /// 0 is no limit; `None` leaves it to the agent.
    pub max_ports: Option<u32>,
    pub timeouts: Timeouts,
}

#[derive(Default)]
pub(super) struct MasqueradeDraft {
    pub exclude: Vec<Spanned<IpNet>>,
    pub ports: Field<(u16, u16)>,
    pub mapping: Field<Mapping>,
    pub filtering: Field<Filtering>,
    pub selection: Field<PortSelection>,
    pub max_ports: Field<u32>,
    pub unsafe_timeouts: Field<bool>,
    pub timeouts: TimeoutDraft,
}

pub(super) fn read(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> MasqueradeDraft {
    let Some(mut table) = inner(entry, &MASQUERADE, errors) else {
        return MasqueradeDraft::default();
    };
    let draft = MasqueradeDraft {
        exclude: list::read(&mut table, "exclude", value::any_prefix, errors),
        ports: table.read("ports", ports, errors),
        mapping: table.read("mapping", mapping, errors),
        filtering: table.read("filtering", filtering, errors),
        selection: table.read("port_selection", selection, errors),
        max_ports: table.read("max_ports_per_endpoint", max_ports, errors),
        unsafe_timeouts: table.read("unsafe_timeouts", value::boolean, errors),
        timeouts: table
            .take("timeouts")
            .map(|entry| timeout::read(&entry, errors))
            .unwrap_or_default(),
    };
    table.finish(errors);
    draft
}

impl MasqueradeDraft {
    /// Completes a draft without errors.
    pub(super) fn complete(self) -> Masquerade {
        Masquerade {
            exclude: self.exclude,
            ports: self.ports.into_value().unwrap_or(PORTS_DEFAULT),
            mapping: self.mapping.into_value().unwrap_or_default(),
            filtering: self.filtering.into_value().unwrap_or_default(),
            selection: self.selection.into_value().unwrap_or_default(),
            max_ports: self.max_ports.into_value(),
            timeouts: self.timeouts.complete(),
        }
    }
}

/// Returns how many of the ports that the kernel gives out by itself are not in another range.
pub fn automatic_left(automatic: (u16, u16), ports: (u16, u16)) -> u16 {
    let len = |(first, last): (u16, u16)| (u32::from(last) + 1).saturating_sub(u32::from(first));
    let shared = (automatic.0.max(ports.0), automatic.1.min(ports.1));
    // What is shared is at most what there is.
    u16::try_from(len(automatic) - len(shared)).unwrap_or(u16::MAX)
}

/// Reads a range of ports.
fn ports(entry: &Entry<'_>) -> Result<(u16, u16), Diagnostic> {
    let text = value::string(entry)?;
    let refuse = |reason: String| {
        let message = format!("port range {} {reason}", quote(text));
        Diagnostic::new(Kind::BadPorts, entry.span.clone(), message)
    };
    let parsed = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let Some((first, last)): Option<(u16, u16)> = parsed else {
        return Err(refuse("is not two ports".into())
            .help("write the first and the last one, as in `49152-65535`"));
    };
    if first > last {
        return Err(
            refuse("ends before it begins".into()).help(format!("did you mean `{last}-{first}`?"))
        );
    }
    if first < PORT_MIN {
        return Err(refuse(format!("begins below {PORT_MIN}")).label("belongs to services"));
    }
    if last - first < PORTS_MIN - 1 {
        return Err(refuse(format!("has fewer than {PORTS_MIN} ports")));
    }
    let left = automatic_left(AUTOMATIC_DEFAULT, (first, last));
    if left < AUTOMATIC_MIN {
        let (low, high) = AUTOMATIC_DEFAULT;
        return Err(refuse(format!(
            "leaves the host {left} ports for its own connections"
        ))
        .label(format!(
            "at least {AUTOMATIC_MIN} of {low}-{high} must stay free"
        )));
    }
    Ok((first, last))
}

fn mapping(entry: &Entry<'_>) -> Result<Mapping, Diagnostic> {
    let choices = [Mapping::Symmetric, Mapping::EndpointIndependent];
    value::choice(entry, "mapping", &choices)
}

fn filtering(entry: &Entry<'_>) -> Result<Filtering, Diagnostic> {
    let choices = [Filtering::Address, Filtering::EndpointIndependent];
    value::choice(entry, "filtering", &choices)
}

fn selection(entry: &Entry<'_>) -> Result<PortSelection, Diagnostic> {
    let choices = [PortSelection::Sequential, PortSelection::Random];
    value::choice(entry, "port selection", &choices)
}

fn max_ports(entry: &Entry<'_>) -> Result<u32, Diagnostic> {
    value::integer(entry, 0, u32::from(u16::MAX - PORT_MIN) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_left_are_those_outside_the_range() {
        assert_eq!(automatic_left((32_768, 60_999), (49_152, 65_535)), 16_384);
        assert_eq!(automatic_left((32_768, 60_999), (1024, 2000)), 28_232);
        assert_eq!(automatic_left((32_768, 60_999), (1024, 65_535)), 0);
        assert_eq!(automatic_left((1024, 65_535), (40_000, 40_063)), 64_448);
    }
}
