//! Selectors: tables of labels that endpoints must have, or must not.

use std::collections::BTreeMap;

use super::{Requirement, Selector};
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::label;
use crate::config::list;
use crate::config::table::{Entry, entries, wrong_type};

/// Key of what must not match.
const NOT: &str = "not";

/// Reads a table as a selector; faults go to `errors`, one for each label.
pub(super) fn read(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> Selector {
    let not = labels(entry).find(|label| label.key == NOT);
    Selector {
        requirements: requirements(labels(entry).filter(|label| label.key != NOT), errors),
        not: not.map(|not| {
            if let Err(error) = check_not(&not) {
                errors.push(error);
            }
            requirements(labels(&not), errors)
        }),
    }
}

fn labels<'a>(entry: &Entry<'a>) -> impl Iterator<Item = Entry<'a>> + use<'a> {
    entry.value.as_table().into_iter().flat_map(entries)
}

fn check_not(not: &Entry<'_>) -> Result<(), Diagnostic> {
    let Some(table) = not.value.as_table() else {
        return Err(wrong_type(not, "a table").help("write it as `not = { app = \"web\" }`"));
    };
    if table.is_empty() {
        let message = "`not` is empty, so that nobody is left";
        let error = Diagnostic::new(Kind::BadSelector, not.key_span.clone(), message);
        return Err(error.help("leave it out, or say who is not meant"));
    }
    Ok(())
}

fn requirements<'a>(
    labels: impl Iterator<Item = Entry<'a>>,
    errors: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Requirement> {
    let mut requirements = BTreeMap::new();
    for label in labels {
        match requirement(&label) {
            Ok(requirement) => {
                requirements.insert(label.key.to_owned(), requirement);
            }
            Err(error) => errors.push(error),
        }
    }
    requirements
}

fn requirement(label: &Entry<'_>) -> Result<Requirement, Diagnostic> {
    if label.key == NOT {
        let message = "`not` stands inside `not`";
        let error = Diagnostic::new(Kind::BadSelector, label.key_span.clone(), message);
        return Err(error.help("say directly what must match"));
    }
    label::check_key(label)?;
    match label.value.as_bool() {
        Some(true) => return Ok(Requirement::Exists),
        Some(false) => return Ok(Requirement::Absent),
        None => {}
    }
    let items = list::items(label);
    if items.is_empty() {
        let message = format!("{} has no values, so that nobody matches", quote(label.key));
        let error = Diagnostic::new(Kind::BadSelector, label.span.clone(), message);
        return Err(error.help("`true` is any value, `false` is no such label"));
    }
    let value = |item: &Entry<'_>| {
        let Some(text) = item.value.as_str() else {
            let message = format!(
                "{} must be a string, strings, `true` or `false`",
                quote(item.key)
            );
            return Err(label::not_a_value(item, message));
        };
        label::check_value(item, text)?;
        Ok(text.to_owned())
    };
    let values: Result<_, _> = items.iter().map(value).collect();
    values.map(Requirement::In)
}
