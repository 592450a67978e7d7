//! Values of which a file gives one or several: `"a"` or `["a", "b"]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use toml::Spanned;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::family::Family;
use super::table::{Entry, Table};

/// Takes a key out of a table and reads its values; those that are refused are left out, each
/// with its own error.
pub(super) fn read<'a, T>(
    table: &mut Table<'a>,
    key: &str,
    parse: impl Fn(&Entry<'a>) -> Result<T, Diagnostic>,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Spanned<T>> {
    let Some(entry) = table.take(key) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in items(&entry) {
        match parse(&item) {
            Ok(value) => found.push(Spanned::new(item.span, value)),
            Err(error) => errors.push(error),
        }
    }
    found
}

/// Lists the values behind a key: the items of an array, or the one value.
pub(super) fn items<'a>(entry: &Entry<'a>) -> Vec<Entry<'a>> {
    match entry.value.as_array() {
        Some(array) => array
            .iter()
            .map(|item| Entry {
                value: item.get_ref(),
                span: item.span(),
                ..entry.clone()
            })
            .collect(),
        None => vec![entry.clone()],
    }
}

/// Reads addresses, of which there may be one of each family.
pub(super) fn addresses<'a>(
    table: &mut Table<'a>,
    key: &str,
    parse: impl Fn(&Entry<'a>) -> Result<IpAddr, Diagnostic>,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Spanned<IpAddr>> {
    let found = read(table, key, parse, errors);
    let mut seen = BTreeMap::new();
    for address in &found {
        let family = Family::of(*address.get_ref());
        let Some(first) = seen.get(&family) else {
            seen.insert(family, address.span());
            continue;
        };
        let message = format!("{} has two {family} addresses", quote(key));
        errors.push(
            Diagnostic::new(Kind::DuplicateFamily, address.span(), message)
                .other(Range::clone(first), "the other one")
                .help("give at most one of each family"),
        );
    }
    found
}
