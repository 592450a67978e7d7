//! `ports` of `[[endpoint]]`: what an endpoint calls its ports.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::table::{Entry, entries, wrong_type};
use crate::config::value;

/// Longest name of a port, in characters (RFC 6335, section 5.1).
const NAME_MAX: usize = 15;

/// Reads a table of ports; faults go to `errors`, one for each port.
pub(in crate::config) fn read(
    entry: &Entry<'_>,
    errors: &mut Vec<Diagnostic>,
) -> BTreeMap<String, u16> {
    let Some(table) = entry.value.as_table() else {
        errors.push(wrong_type(entry, "a table").help("write ports as `ports = { http = 8080 }`"));
        return BTreeMap::new();
    };
    let mut ports = BTreeMap::new();
    for port in entries(table) {
        match pair(&port) {
            Ok((name, number)) => {
                ports.insert(name, number);
            }
            Err(error) => errors.push(error),
        }
    }
    ports
}

fn pair(port: &Entry<'_>) -> Result<(String, u16), Diagnostic> {
    if !is_valid(port.key) {
        let message = format!("port name {} is not valid", quote(port.key));
        return Err(
            Diagnostic::new(Kind::BadPortName, port.key_span.clone(), message).help(format!(
                "names have up to {NAME_MAX} of a-z, 0-9 and single `-`, and a letter"
            )),
        );
    }
    let number = value::integer(port, 1, u16::MAX.into())?;
    // The range above is that of the type.
    Ok((
        port.key.to_owned(),
        u16::try_from(number).unwrap_or(u16::MAX),
    ))
}

/// Tells whether a port may have this name (RFC 6335, section 5.1, in lower case).
pub(in crate::config) fn is_valid(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= NAME_MAX
        && name.bytes().all(is_inner)
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rfc_6335() {
        for good in ["http", "a", "9p", "http-alt", "x123456789-1234"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            "80",
            "-a",
            "a-",
            "a--b",
            "Http",
            "a.b",
            "a123456789-12345",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
