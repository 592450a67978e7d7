//! Labels of endpoints: what policies select by.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::table::{Entry, entries, wrong_type};

/// Longest key and longest value, in bytes (as in Kubernetes, with room for its prefixes).
const LABEL_MAX: usize = 253;

/// Key that selectors use for negation.
const NOT: &str = "not";

/// Reads a table of labels; faults go to `errors`, one for each label.
pub(super) fn labels(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> BTreeMap<String, String> {
    let Some(table) = entry.value.as_table() else {
        errors.push(
            wrong_type(entry, "a table").help("write labels as `labels = { app = \"web\" }`"),
        );
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for label in entries(table) {
        match pair(&label) {
            Ok((key, value)) => {
                labels.insert(key, value);
            }
            Err(error) => errors.push(error),
        }
    }
    labels
}

fn pair(label: &Entry<'_>) -> Result<(String, String), Diagnostic> {
    let refuse = |span: &std::ops::Range<usize>, message: String| {
        Err(Diagnostic::new(Kind::BadLabel, span.clone(), message))
    };
    if label.key == NOT {
        return refuse(&label.key_span, "label `not` is a reserved word".to_owned())
            .map_err(|error| error.help("selectors use this word for what must not match"));
    }
    if label.key.is_empty() || label.key.len() > LABEL_MAX || !label.key.chars().all(is_label_char)
    {
        let message = format!("label key {} is not valid", quote(label.key));
        return refuse(&label.key_span, message).map_err(|error| {
            error.help("keys are made of letters, digits, `.`, `_`, `-` and `/`")
        });
    }
    let Some(value) = label.value.as_str() else {
        let span = if label.value.is_table() {
            &label.key_span
        } else {
            &label.span
        };
        let message = format!("label {} must be a string", quote(label.key));
        return refuse(span, message).map_err(|error| {
            error.help(if label.value.is_table() {
                "a key with dots is written in quotes"
            } else {
                "write the value in quotes"
            })
        });
    };
    if value.len() > LABEL_MAX || value.chars().any(char::is_control) {
        let message = format!("value of label {} is not valid", quote(label.key));
        return refuse(&label.span, message).map_err(|error| {
            error.help(format!(
                "values have up to {LABEL_MAX} bytes and no control characters"
            ))
        });
    }
    Ok((label.key.to_owned(), value.to_owned()))
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}
