//! Names are unique, over nodes and endpoints together: policies use both in the same place.

use std::collections::BTreeMap;

use toml::Spanned;

use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::draft::Draft;

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    let nodes = draft.nodes.iter().filter_map(|node| node.name.given());
    let endpoints = draft
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.name.given());
    let nodes = nodes.map(|name| ("node", name));
    check_unique(
        nodes.chain(endpoints.map(|name| ("endpoint", name))),
        errors,
    );
}

fn check_unique<'d>(
    names: impl Iterator<Item = (&'static str, &'d Spanned<String>)>,
    errors: &mut Vec<Diagnostic>,
) {
    let mut seen = BTreeMap::new();
    for (what, name) in names {
        let Some((first_what, first)) = seen.get(name.get_ref()) else {
            seen.insert(name.get_ref(), (what, name.span()));
            continue;
        };
        let message = if *first_what == what {
            format!("two {what}s have the name {}", quote(name.get_ref()))
        } else {
            format!(
                "a {first_what} and an {what} have the name {}",
                quote(name.get_ref())
            )
        };
        errors.push(
            Diagnostic::new(Kind::DuplicateName, name.span(), message)
                .other(first.clone(), "first used here"),
        );
    }
}
