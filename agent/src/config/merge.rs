//! Several documents → one: tables merge key by key, arrays of tables append, and of everything
//! else the later file wins.
//!
//! Each value keeps the span that it has in the whole source, so that what reads the merged
//! document needs not know of files.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Kind, quote};

/// Moves all spans of a document behind `by` bytes.
pub(super) fn shifted(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    if by == 0 {
        return table;
    }
    let entries = table.into_iter();
    let shifted = entries.map(|(key, value)| {
        let key = Spanned::new(moved(&key.span(), by), key.into_inner());
        (key, shifted_value(value, by))
    });
    shifted.collect()
}

fn shifted_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = moved(&value.span(), by);
    let inner = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shifted(table, by)),
        DeValue::Array(array) => {
            let items = array.into_iter().map(|item| shifted_value(item, by));
            DeValue::Array(items.collect::<DeArray<'_>>())
        }
        scalar @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => scalar,
    };
    Spanned::new(span, inner)
}

fn moved(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

/// Merges a later document into an earlier one.
pub(super) fn merge<'a>(
    earlier: &mut DeTable<'a>,
    later: DeTable<'a>,
    errors: &mut Vec<Diagnostic>,
) {
    for (key, value) in later {
        let Some((first_key, first)) = earlier.remove_entry(&key) else {
            earlier.insert(key, value);
            continue;
        };
        let nesting = Nesting::of(first.get_ref());
        if nesting != Nesting::of(value.get_ref()) {
            errors.push(mismatch(&key, &value, &first_key, &first));
            earlier.insert(first_key, first);
        } else if nesting == Nesting::Value {
            earlier.insert(key, value);
        } else {
            earlier.insert(first_key, joined(first, value, errors));
        }
    }
}

/// Merges two tables, or appends one array of tables to the other.
fn joined<'a>(
    first: Spanned<DeValue<'a>>,
    later: Spanned<DeValue<'a>>,
    errors: &mut Vec<Diagnostic>,
) -> Spanned<DeValue<'a>> {
    let span = first.span();
    let mut first = first.into_inner();
    match (&mut first, later.into_inner()) {
        (DeValue::Table(first), DeValue::Table(later)) => merge(first, later, errors),
        (DeValue::Array(first), DeValue::Array(later)) => {
            later.into_iter().for_each(|item| first.push(item));
        }
        _ => {}
    }
    Spanned::new(span, first)
}

/// Says what a value is to a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nesting {
    Value,
    Table,
    Tables,
}

impl Nesting {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::Table(_) => Self::Table,
            DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
                Self::Tables
            }
            DeValue::Array(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Self::Value,
        }
    }
}

/// Reports a key that is a table in one file, and something else in the other.
fn mismatch(
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    first_key: &Spanned<DeString<'_>>,
    first: &Spanned<DeValue<'_>>,
) -> Diagnostic {
    let words = |value: &Spanned<DeValue<'_>>| match Nesting::of(value.get_ref()) {
        Nesting::Value => "a value",
        Nesting::Table => "a table",
        Nesting::Tables => "an array of tables",
    };
    let message = format!(
        "{} is {} here, and {} in another file",
        quote(key.get_ref()),
        words(value),
        words(first)
    );
    Diagnostic::new(Kind::MergedTypes, key.span(), message)
        .other(first_key.span(), "first given here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::syntax;

    fn merged(texts: &[&str]) -> (String, usize) {
        let mut errors = Vec::new();
        let mut whole: Option<DeTable<'_>> = None;
        let mut start = 0;
        for text in texts {
            let (table, faults) = syntax::parse(text);
            assert!(faults.is_empty(), "{faults:?}");
            let table = shifted(table.into_inner(), start);
            start += text.len() + 1;
            match &mut whole {
                Some(whole) => merge(whole, table, &mut errors),
                None => whole = Some(table),
            }
        }
        let mut shown = String::new();
        show(&whole.expect("a text"), &mut shown);
        (shown, errors.len())
    }

    fn show(table: &DeTable<'_>, shown: &mut String) {
        for (key, value) in table {
            shown.push_str(key.get_ref());
            show_value(value.get_ref(), shown);
        }
    }

    fn show_value(value: &DeValue<'_>, shown: &mut String) {
        match value {
            DeValue::Table(table) => {
                shown.push('{');
                show(table, shown);
                shown.push('}');
            }
            DeValue::Array(array) => {
                shown.push('[');
                array
                    .iter()
                    .for_each(|item| show_value(item.get_ref(), shown));
                shown.push(']');
            }
            DeValue::Integer(integer) => shown.push_str(integer.as_str()),
            DeValue::String(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                panic!("tests use integers");
            }
        }
    }

    #[test]
    fn tables_merge_and_the_later_value_wins() {
        assert_eq!(
            merged(&[
                "[a]\nx = 1\ny = [1]\n[a.b]\nz = 1",
                "[a]\ny = [2, 3]\n[a.b]\nz = 2\nw = 3"
            ]),
            ("a{b{w3z2}x1y[23]}".to_owned(), 0)
        );
    }

    #[test]
    fn arrays_of_tables_append_also_to_none() {
        assert_eq!(
            merged(&["[[a]]\nx = 1\n[[a]]\nx = 2", "a = []", "[[a]]\nx = 3"]),
            ("a[{x1}{x2}{x3}]".to_owned(), 1),
            "an empty array is a value"
        );
        assert_eq!(merged(&["", "[[a]]\nx = 3"]), ("a[{x3}]".to_owned(), 0));
    }

    #[test]
    fn table_that_is_something_else_in_another_file_is_refused() {
        for other in ["a = 1", "[[a]]\nx = 1", "a = [1]"] {
            assert_eq!(
                merged(&["[a]\ny = 1", other]),
                ("a{y1}".to_owned(), 1),
                "{other}"
            );
        }
    }

    #[test]
    fn spans_are_those_of_the_whole_source() {
        let (table, _) = syntax::parse("x = [{ y = 2 }]");

        let table = shifted(table.into_inner(), 100);

        let (key, value) = table.iter().next().expect("a key");
        assert_eq!((key.span(), value.span()), (100..101, 104..115));
        let item = &value.get_ref().as_array().expect("an array")[0];
        assert_eq!(item.span(), 105..114);
    }
}
