//! `[masquerade.timeouts]`: after how much silence translations end.

use super::diagnostic::{Diagnostic, Kind, quote};
use super::table::{Entry, Field, Keys, inner};
use super::value;
use crate::plan::object::Timeouts;

static TIMEOUTS: Keys = Keys {
    table: "[masquerade.timeouts]",
    known: &["tcp_established", "tcp_transitory", "udp", "icmp", "other"],
    later: &[],
};

/// Longest timeout, in seconds: a day.
const LONGEST_SECS: u32 = 24 * 3600;

/// Is the least that an RFC allows, in seconds, and where it says so.
pub(super) struct Minimum {
    pub secs: u32,
    pub source: &'static str,
}

#[derive(Default)]
pub(super) struct TimeoutDraft {
    pub tcp_established: Field<u32>,
    pub tcp_transitory: Field<u32>,
    pub udp: Field<u32>,
    pub icmp: Field<u32>,
    pub other: Field<u32>,
}

pub(super) fn read(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> TimeoutDraft {
    let Some(mut table) = inner(entry, &TIMEOUTS, errors) else {
        return TimeoutDraft::default();
    };
    let draft = TimeoutDraft {
        tcp_established: table.read("tcp_established", seconds, errors),
        tcp_transitory: table.read("tcp_transitory", seconds, errors),
        udp: table.read("udp", seconds, errors),
        icmp: table.read("icmp", seconds, errors),
        other: table.read("other", seconds, errors),
    };
    table.finish(errors);
    draft
}

impl TimeoutDraft {
    /// Returns the timeouts that have a minimum.
    pub(super) fn with_minimums(&self) -> [(&Field<u32>, Minimum); 4] {
        let minimum = |secs, source| Minimum { secs, source };
        [
            (&self.tcp_established, minimum(124 * 60, "RFC 5382 (REQ-5)")),
            (&self.tcp_transitory, minimum(4 * 60, "RFC 5382 (REQ-5)")),
            (&self.udp, minimum(2 * 60, "RFC 4787 (REQ-5)")),
            (&self.icmp, minimum(60, "RFC 5508 (REQ-2)")),
        ]
    }

    /// Completes a draft without errors.
    pub(super) fn complete(self) -> Timeouts {
        let default = Timeouts::default();
        let or = |field: Field<u32>, default| field.into_value().unwrap_or(default);
        Timeouts {
            tcp_established_secs: or(self.tcp_established, default.tcp_established_secs),
            tcp_transitory_secs: or(self.tcp_transitory, default.tcp_transitory_secs),
            udp_secs: or(self.udp, default.udp_secs),
            icmp_secs: or(self.icmp, default.icmp_secs),
            other_secs: or(self.other, default.other_secs),
        }
    }
}

/// Writes a duration as a file would.
pub(super) fn duration(secs: u32) -> String {
    if secs.is_multiple_of(60) {
        format!("{}m", secs / 60)
    } else {
        format!("{secs}s")
    }
}

/// Reads a duration.
pub(super) fn seconds(entry: &Entry<'_>) -> Result<u32, Diagnostic> {
    const HELP: &str = "write a number and its unit, as in `90s`, `5m` or `2h`";
    let text = value::string(entry).map_err(|error| error.help(HELP))?;
    let refuse = |reason: &str| {
        let message = format!("timeout {} {reason}", quote(text));
        Diagnostic::new(Kind::BadDuration, entry.span.clone(), message)
    };
    let unit = text
        .find(|c: char| !c.is_ascii_digit())
        .map(|at| text.split_at(at));
    let (number, unit_secs) = match unit {
        Some((number, "s")) => (number, 1),
        Some((number, "m")) => (number, 60),
        Some((number, "h")) => (number, 3600),
        Some(_) | None => return Err(refuse("is not a duration").help(HELP)),
    };
    let secs = number
        .parse()
        .ok()
        .and_then(|n: u32| n.checked_mul(unit_secs));
    match secs {
        None if number.is_empty() => Err(refuse("is not a duration").help(HELP)),
        None => Err(refuse("is longer than a day")),
        Some(0) => Err(refuse("is no time at all")),
        Some(secs) if secs > LONGEST_SECS => Err(refuse("is longer than a day")),
        Some(secs) => Ok(secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_they_are_read() {
        assert_eq!(duration(124 * 60), "124m");
        assert_eq!(duration(90), "90s");
    }
}
