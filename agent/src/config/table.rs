//! Reading a TOML table key by key, so that one fault does not hide the next.
//!
//! A reader takes the keys that it knows; [`Table::finish`] then reports the rest. A field keeps
//! apart "not given" from "given, but wrong and already reported": rules over the whole file
//! must not complain a second time about the latter.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Kind, closest, quote};

/// Lists the keys of a kind of table.
pub(super) struct Keys {
    /// How the table is written, as in `[[node]]`.
    pub table: &'static str,
    pub known: &'static [&'static str],
    /// Keys that a later version accepts.
    pub later: &'static [&'static str],
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().chain(self.later).copied()
    }

    fn knows(&self, key: &str) -> bool {
        self.all().any(|known| known == key)
    }
}

/// Is a key and what stands behind it.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub key: &'a str,
    pub key_span: Range<usize>,
    pub span: Range<usize>,
    pub value: &'a DeValue<'a>,
}

/// Is what a key gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    /// Given and refused; the reason is reported already.
    Refused,
    Given(Spanned<T>),
}

impl<T> Field<T> {
    pub(super) fn given(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Refused => None,
        }
    }

    pub(super) fn into_given(self) -> Option<Spanned<T>> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Refused => None,
        }
    }

    pub(super) fn into_value(self) -> Option<T> {
        self.into_given().map(Spanned::into_inner)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Replaces a value that is not given.
    pub(super) fn or_default(self, default: impl FnOnce() -> Option<Spanned<T>>) -> Self {
        match self {
            Self::Absent => default().map_or(Self::Absent, Self::Given),
            Self::Refused | Self::Given(_) => self,
        }
    }
}

/// Is a table whose keys are being read.
pub(super) struct Table<'a> {
    keys: &'static Keys,
    /// Where the table begins: its header, or its braces.
    pub span: Range<usize>,
    entries: BTreeMap<&'a str, Entry<'a>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(keys: &'static Keys, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        let entries = entries(table).map(|entry| (entry.key, entry)).collect();
        Self {
            keys,
            span,
            entries,
        }
    }

    /// Takes a key out of the table.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry<'a>> {
        self.entries.remove(key)
    }

    /// Tells whether a key that is not there was meant by one that is unknown. That one is
    /// reported by [`Table::finish`], with a hint, and that is enough.
    pub(super) fn misspells(&self, key: &str) -> bool {
        self.entries
            .keys()
            .filter(|other| !self.keys.knows(other))
            .any(|other| closest(other, self.keys.all()) == Some(key))
    }

    /// Takes a key out of the table and reads its value.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&Entry<'a>) -> Result<T, Diagnostic>,
        errors: &mut Vec<Diagnostic>,
    ) -> Field<T> {
        let Some(entry) = self.take(key) else {
            return if self.misspells(key) {
                Field::Refused
            } else {
                Field::Absent
            };
        };
        match parse(&entry) {
            Ok(value) => Field::Given(Spanned::new(entry.span, value)),
            Err(error) => {
                errors.push(error);
                Field::Refused
            }
        }
    }

    /// Reads a key that has to be there.
    pub(super) fn require<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&Entry<'a>) -> Result<T, Diagnostic>,
        errors: &mut Vec<Diagnostic>,
    ) -> Field<T> {
        let field = self.read(key, parse, errors);
        if field.is_absent() {
            let message = format!("{} has no {}", self.keys.table, quote(key));
            errors.push(Diagnostic::new(
                Kind::MissingKey,
                self.span.clone(),
                message,
            ));
            return Field::Refused;
        }
        field
    }

    /// Reports the keys that nobody took.
    pub(super) fn finish(self, errors: &mut Vec<Diagnostic>) {
        let keys = self.keys;
        for (key, entry) in self.entries {
            let span = entry.key_span;
            if keys.later.contains(&key) {
                let message = format!("{} is not supported yet", quote(key));
                errors.push(Diagnostic::new(Kind::NotSupported, span, message));
            } else {
                let message = match keys.table {
                    "" => format!("unknown table or key {}", quote(key)),
                    table => format!("unknown key {} in {table}", quote(key)),
                };
                let error = Diagnostic::new(Kind::UnknownKey, span, message);
                errors.push(error.suggest(key, keys.all()));
            }
        }
    }
}

/// Returns the table behind a key, which is there once at most.
pub(super) fn inner<'a>(
    entry: &Entry<'a>,
    keys: &'static Keys,
    errors: &mut Vec<Diagnostic>,
) -> Option<Table<'a>> {
    let Some(table) = entry.value.as_table() else {
        errors.push(wrong_type(entry, &format!("a table, {}", keys.table)));
        return None;
    };
    Some(Table::new(keys, entry.span.clone(), table))
}

/// Lists the keys of a table.
pub(super) fn entries<'a>(table: &'a DeTable<'a>) -> impl Iterator<Item = Entry<'a>> {
    table.iter().map(|(key, value)| Entry {
        key: key.get_ref(),
        key_span: key.span(),
        span: value.span(),
        value: value.get_ref(),
    })
}

/// Reports a value of the wrong type.
pub(super) fn wrong_type(entry: &Entry<'_>, expected: &str) -> Diagnostic {
    let found = type_of(entry.value);
    // The span of a table is its header, which says less than the key.
    let span = if entry.value.is_table() {
        &entry.key_span
    } else {
        &entry.span
    };
    Diagnostic::new(
        Kind::WrongType,
        span.clone(),
        format!("{} must be {expected}, not {found}", quote(entry.key)),
    )
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
