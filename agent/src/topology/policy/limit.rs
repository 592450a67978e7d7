//! How much policy a node can hold, and whom to blame if it is too much.

use super::table::Tables;
use super::term::Placed;
use crate::config::policy::{Peer, Rule};
use crate::config::{Diagnostic, Kind, Node, policy};

/// Most entries, ranges, and prefixes, each.
pub const ENTRIES_MAX: usize = 1 << 18;

/// Most terms that apply to subjects of one node: half of their numbers, so that a free one is
/// always near.
pub const NODE_TERMS_MAX: usize = 2048;

/// Refuses more terms than have numbers.
pub(super) fn check_terms(node: &Node, count: usize) -> Result<(), Box<Diagnostic>> {
    if count <= NODE_TERMS_MAX {
        return Ok(());
    }
    let message =
        format!("{count} terms of the policy apply here, and at most {NODE_TERMS_MAX} can");
    Err(error(node, &message)
        .help("join rules that differ only in whom they mean")
        .into())
}

/// Refuses more entries or ranges than the tables hold.
pub(super) fn check_tables(
    node: &Node,
    tables: &Tables<'_>,
    policy: &policy::Policy,
) -> Result<(), Box<Diagnostic>> {
    let rules = &policy.rules;
    if tables.entries.len() > ENTRIES_MAX {
        return Err(too_many(node, "entries", &tables.shares, rules).into());
    }
    if tables.rows.cells().count() > ENTRIES_MAX {
        let shares = tables.range_shares();
        return Err(too_many(node, "ranges of ports", &shares, rules).into());
    }
    Ok(())
}

/// Refuses more prefixes than the table holds.
pub(super) fn check_prefixes(
    node: &Node,
    count: usize,
    terms: &[Placed<'_>],
    policy: &policy::Policy,
) -> Result<(), Box<Diagnostic>> {
    if count <= ENTRIES_MAX {
        return Ok(());
    }
    let mut shares = vec![0; policy.rules.len()];
    for term in terms {
        let prefixes = term.term.peers.iter().map(|peer| match peer {
            Peer::Cidr { except, .. } => 1 + except.len(),
            Peer::Entity(_) | Peer::Selector(_) | Peer::Endpoint(_) | Peer::Node(_) => 0,
        });
        shares[term.rule_idx] += prefixes.sum::<usize>();
    }
    Err(too_many(node, "prefixes", &shares, &policy.rules).into())
}

fn too_many(node: &Node, what: &str, shares: &[usize], rules: &[Rule]) -> Diagnostic {
    let message = format!("the policy makes more than {ENTRIES_MAX} {what}");
    let error = error(node, &message);
    let most = shares.iter().zip(rules).max_by_key(|(share, _)| **share);
    match most {
        Some((share, rule)) => {
            let (place, description) = (&rule.place, &rule.description);
            let description = description.as_ref().map(|text| format!(" ({text})"));
            let description = description.unwrap_or_default();
            error.help(format!(
                "the rule at {place}{description} has part in {share} of those counted so far, \
                 more than any other"
            ))
        }
        None => error,
    }
}

fn error(node: &Node, message: &str) -> Diagnostic {
    let message = format!("node {}: {message}", node.name.get_ref());
    Diagnostic::new(Kind::PolicyTooLarge, node.name.span(), message)
}
