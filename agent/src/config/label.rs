//! Labels of endpoints: what policies select by.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Kind, quote};
use super::table::{Entry, entries, wrong_type};

/// Longest key and longest value, in bytes (as in Kubernetes, with room for its prefixes).
const LABEL_MAX: usize = 253;

/// Keys that tables of policies use for something else, and what for.
const RESERVED: [(&str, &str); 3] = [
    ("not", "selectors use this word for what must not match"),
    ("cidr", "rules use this word for addresses"),
    ("except", "rules use this word for addresses"),
];

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
    check_key(label)?;
    let Some(text) = label.value.as_str() else {
        let message = format!("label {} must be a string", quote(label.key));
        return Err(not_a_value(label, message));
    };
    check_value(label, text)?;
    Ok((label.key.to_owned(), text.to_owned()))
}

/// Refuses what is no key of a label.
pub(super) fn check_key(label: &Entry<'_>) -> Result<(), Diagnostic> {
    let refuse = |message: String, help: &str| {
        Err(Diagnostic::new(Kind::BadLabel, label.key_span.clone(), message).help(help))
    };
    if let Some((word, used)) = RESERVED.iter().find(|(word, _)| *word == label.key) {
        return refuse(format!("label `{word}` is a reserved word"), used);
    }
    if label.key.is_empty() || label.key.len() > LABEL_MAX || !label.key.chars().all(is_label_char)
    {
        return refuse(
            format!("label key {} is not valid", quote(label.key)),
            "keys are made of letters, digits, `.`, `_`, `-` and `/`",
        );
    }
    Ok(())
}

/// Reports something that cannot be the value of a label.
pub(super) fn not_a_value(label: &Entry<'_>, message: String) -> Diagnostic {
    let (span, help) = if label.value.is_table() {
        (&label.key_span, "a key with dots is written in quotes")
    } else {
        (&label.span, "write the value in quotes")
    };
    Diagnostic::new(Kind::BadLabel, span.clone(), message).help(help)
}

/// Refuses what is no value of a label.
pub(super) fn check_value(label: &Entry<'_>, text: &str) -> Result<(), Diagnostic> {
    if text.len() <= LABEL_MAX && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("value of label {} is not valid", quote(label.key));
    let help = format!("values have up to {LABEL_MAX} bytes and no control characters");
    Err(Diagnostic::new(Kind::BadLabel, label.span.clone(), message).help(help))
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}
