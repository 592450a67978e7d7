//! `ingress`, `egress`, `ingress_deny` and `egress_deny` of a rule: lists of terms.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::peer::{self, PeerDraft};
use super::{Ports, ports};
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::list;
use crate::config::table::{Entry, Keys, Table, wrong_type};

/// Is one of the four lists.
pub(super) struct Direction {
    /// Key of the list, and keys of its terms.
    keys: &'static Keys,
    /// Key of the peers.
    peers: &'static str,
    /// Key of the peers in the other direction.
    opposite: &'static str,
    is_deny: bool,
}

static INGRESS_KEYS: Keys = Keys {
    table: "ingress",
    known: &["from", "ports"],
    later: &[],
};

static INGRESS_DENY_KEYS: Keys = Keys {
    table: "ingress_deny",
    ..INGRESS_KEYS
};

static EGRESS_KEYS: Keys = Keys {
    table: "egress",
    known: &["to", "ports"],
    later: &[],
};

static EGRESS_DENY_KEYS: Keys = Keys {
    table: "egress_deny",
    ..EGRESS_KEYS
};

pub(super) static INGRESS: Direction = Direction {
    keys: &INGRESS_KEYS,
    peers: "from",
    opposite: "to",
    is_deny: false,
};

pub(super) static INGRESS_DENY: Direction = Direction {
    keys: &INGRESS_DENY_KEYS,
    is_deny: true,
    ..INGRESS
};

pub(super) static EGRESS: Direction = Direction {
    keys: &EGRESS_KEYS,
    peers: "to",
    opposite: "from",
    is_deny: false,
};

pub(super) static EGRESS_DENY: Direction = Direction {
    keys: &EGRESS_DENY_KEYS,
    is_deny: true,
    ..EGRESS
};

pub(in crate::config) struct TermDraft {
    /// The braces, or the header of the table.
    pub span: Range<usize>,
    pub peers: Vec<Spanned<PeerDraft>>,
    /// Each with all that it stands for.
    pub ports: Vec<Spanned<Vec<Ports>>>,
}

/// Takes the list of a direction out of a rule.
pub(super) fn read(
    rule: &mut Table<'_>,
    direction: &'static Direction,
    errors: &mut Vec<Diagnostic>,
) -> Option<Vec<TermDraft>> {
    let entry = rule.take(direction.keys.table)?;
    let is_array = entry.value.is_array();
    if !is_array {
        errors.push(not_terms(&entry, direction));
    }
    let items = list::items(&entry);
    if items.is_empty() && direction.is_deny {
        let message = format!("{} is empty and denies nothing", quote(entry.key));
        let error = Diagnostic::new(Kind::NoEffect, entry.span, message);
        errors.push(error.help("leave it out, or say what is denied"));
    }
    let mut terms = Vec::new();
    for item in items {
        match item.value.as_table() {
            // One table instead of an array of them: what is inside is still worth reading.
            Some(table) => terms.push(term(&item, table, direction, errors)),
            None if is_array => errors.push(not_terms(&item, direction)),
            None => {}
        }
    }
    Some(terms)
}

/// Reports a value that is no list of terms, or no term in such a list.
fn not_terms(entry: &Entry<'_>, direction: &Direction) -> Diagnostic {
    let Direction { keys, peers, .. } = direction;
    wrong_type(entry, "an array of tables").help(format!(
        "write terms in brackets, as in `{} = [{{ {peers} = [\"world\"] }}]`",
        keys.table
    ))
}

fn term<'a>(
    entry: &Entry<'a>,
    table: &'a DeTable<'a>,
    direction: &'static Direction,
    errors: &mut Vec<Diagnostic>,
) -> TermDraft {
    if table.is_empty() {
        errors.push(empty_term(entry, direction));
    }
    let mut table = Table::new(direction.keys, entry.span.clone(), table);
    check_opposite(&mut table, direction, errors);
    let mut draft = TermDraft {
        span: entry.span.clone(),
        peers: Vec::new(),
        ports: Vec::new(),
    };
    for item in filled(&mut table, direction.peers, errors) {
        let peer = peer::read(&item, errors);
        draft
            .peers
            .extend(peer.map(|peer| Spanned::new(item.span, peer)));
    }
    for item in filled(&mut table, "ports", errors) {
        match ports::read(&item) {
            Ok(ports) => draft.ports.push(Spanned::new(item.span, ports)),
            Err(error) => errors.push(error),
        }
    }
    table.finish(errors);
    draft
}

/// A term without anything would mean everybody, which one should have to write.
fn empty_term(entry: &Entry<'_>, direction: &Direction) -> Diagnostic {
    let Direction { keys, peers, .. } = direction;
    let message = format!("term of `{}` has neither `{peers}` nor `ports`", keys.table);
    let error = Diagnostic::new(Kind::Empty, entry.span.clone(), message);
    error.help(if direction.is_deny {
        format!("write `{peers} = [\"all\"]` to deny everything")
    } else {
        format!(
            "write `{} = []` to allow nothing, or `{peers} = [\"all\"]`",
            keys.table
        )
    })
}

/// Reports peers of the wrong direction.
fn check_opposite(table: &mut Table<'_>, direction: &Direction, errors: &mut Vec<Diagnostic>) {
    let Direction { keys, peers, .. } = direction;
    if let Some(entry) = table.take(direction.opposite) {
        let message = format!("unknown key `{}` in {}", entry.key, keys.table);
        let error = Diagnostic::new(Kind::UnknownKey, entry.key_span, message);
        errors.push(error.help(format!("did you mean `{peers}`?")));
    }
}

/// Takes the values of a key, of which there has to be one.
fn filled<'a>(table: &mut Table<'a>, key: &str, errors: &mut Vec<Diagnostic>) -> Vec<Entry<'a>> {
    let Some(entry) = table.take(key) else {
        return Vec::new();
    };
    let items = list::items(&entry);
    if items.is_empty() {
        let message = format!("{} is empty", quote(key));
        let error = Diagnostic::new(Kind::Empty, entry.span, message);
        errors.push(error.help(match key {
            "ports" => "leave it out to mean every protocol and port",
            _ => "write `[\"all\"]` for everybody, `[\"none\"]` for nobody",
        }));
    }
    items
}
