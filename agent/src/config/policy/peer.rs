//! `from` and `to` of a term: entities, addresses, names and selectors.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::entity::foreign;
use super::{Entity, Peer, selector};
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::list;
use crate::config::table::{Entry, Keys, Table, wrong_type};
use crate::config::value;

static CIDR: Keys = Keys {
    table: "{ cidr, except }",
    known: &["cidr", "except"],
    later: &[],
};

/// Is the other side of a term, as long as names are not looked up.
pub(in crate::config) enum PeerDraft {
    Known(Peer),
    /// Of an endpoint or a node.
    Name(String),
}

/// Reads one value of `from` or `to`; one that is refused is left out.
pub(super) fn read(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> Option<PeerDraft> {
    match entry.value {
        DeValue::String(text) => text_peer(entry, text)
            .map_err(|error| errors.push(error))
            .ok(),
        DeValue::Table(table) if CIDR.known.iter().any(|key| table.contains_key(*key)) => {
            let table = Table::new(&CIDR, entry.span.clone(), table);
            cidr(table, errors).map(PeerDraft::Known)
        }
        DeValue::Table(_) => {
            let selector = selector::read(entry, errors);
            Some(PeerDraft::Known(Peer::Selector(selector)))
        }
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => {
            let expected = "an entity, an address, a prefix, a name or a table";
            errors.push(wrong_type(entry, expected));
            None
        }
    }
}

fn text_peer(entry: &Entry<'_>, text: &str) -> Result<PeerDraft, Diagnostic> {
    if let Some(entity) = Entity::from_word(text) {
        return Ok(PeerDraft::Known(Peer::Entity(entity)));
    }
    if let Some((reason, advice)) = foreign(text) {
        let message = format!("entity `{text}` {reason}");
        let error = Diagnostic::new(Kind::ForeignEntity, entry.span.clone(), message);
        return Err(error.help(advice));
    }
    if text.contains('/') || text.parse::<IpAddr>().is_ok() {
        let except = Vec::new();
        let prefix = value::addresses(entry)?;
        return Ok(PeerDraft::Known(Peer::Cidr { prefix, except }));
    }
    Ok(PeerDraft::Name(text.to_owned()))
}

fn cidr(mut table: Table<'_>, errors: &mut Vec<Diagnostic>) -> Option<Peer> {
    let prefix = table.require("cidr", value::addresses, errors);
    let except = list::read(&mut table, "except", value::addresses, errors);
    table.finish(errors);
    let prefix = prefix.into_given()?;
    for exception in &except {
        if let Err(error) = check_inside(&prefix, exception) {
            errors.push(error);
        }
    }
    Some(Peer::Cidr {
        prefix: prefix.into_inner(),
        except: except.into_iter().map(Spanned::into_inner).collect(),
    })
}

fn check_inside(prefix: &Spanned<IpNet>, exception: &Spanned<IpNet>) -> Result<(), Diagnostic> {
    let (outer, inner) = (prefix.get_ref(), exception.get_ref());
    let refuse = |kind, reason: &str| {
        let inner = quote(&inner.to_string());
        let message = format!("exception {inner} {reason} `{outer}`");
        Err(Diagnostic::new(kind, exception.span(), message).other(prefix.span(), "the prefix"))
    };
    if inner == outer {
        return refuse(Kind::NoEffect, "leaves nothing of");
    }
    if !outer.contains(inner) {
        return refuse(Kind::ExceptOutside, "is not part of");
    }
    Ok(())
}
