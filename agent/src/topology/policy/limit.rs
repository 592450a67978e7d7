//! How much policy a node can hold, and whom to blame if it is too much.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::super::Prefix;
use super::table::Tables;
use super::term::Placed;
use crate::config::policy::{Peer, Rule};
use crate::config::{Diagnostic, Kind, Node, policy};

/// Most prefixes; and most entries, and ranges: half of what the tables hold, which have to take a
/// whole other policy besides.
pub const PREFIXES_MAX: usize = 1 << 17;
pub const ENTRIES_MAX: usize = 1 << 16;

/// Most lengths of prefixes of a family, without that of all addresses.
const LENGTHS_MAX: usize = datapath::abi::Lengths::MOST as usize;

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
        return Err(too_many(node, (ENTRIES_MAX, "entries"), &tables.shares, rules).into());
    }
    if tables.rows.cells().count() > ENTRIES_MAX {
        let shares = tables.range_shares();
        return Err(too_many(node, (ENTRIES_MAX, "ranges of ports"), &shares, rules).into());
    }
    Ok(())
}

/// Refuses more prefixes, or more lengths of them, than the tables hold.
pub(super) fn check_prefixes(
    node: &Node,
    prefixes: &BTreeMap<IpNet, Prefix>,
    terms: &[Placed<'_>],
    policy: &policy::Policy,
) -> Result<(), Box<Diagnostic>> {
    let lengths = lengths(prefixes.keys());
    if lengths > LENGTHS_MAX {
        let message = format!(
            "the policy names prefixes of {lengths} lengths of one family, and at most \
             {LENGTHS_MAX} can be told apart"
        );
        let help = "split those of some lengths into two that are longer by one bit";
        return Err(error(node, &message).help(help).into());
    }
    if prefixes.len() <= PREFIXES_MAX {
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
    Err(too_many(node, (PREFIXES_MAX, "prefixes"), &shares, &policy.rules).into())
}

/// Returns how many lengths prefixes of one family have, the larger number of the two; that of all
/// addresses does not count.
fn lengths<'p>(prefixes: impl Iterator<Item = &'p IpNet>) -> usize {
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for net in prefixes.filter(|net| net.prefix_len() != 0) {
        seen[usize::from(net.addr().is_ipv6())].insert(net.prefix_len());
    }
    seen.iter().map(BTreeSet::len).max().unwrap_or_default()
}

fn too_many(
    node: &Node,
    (most, what): (usize, &str),
    shares: &[usize],
    rules: &[Rule],
) -> Diagnostic {
    let message = format!("the policy makes more than {most} {what}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_for_each_family_and_once() {
        let nets = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "11.0.0.0/8",
            "2001:db8::/32",
            "2001:db8::/48",
        ];
        let nets = nets.map(|net| net.parse::<IpNet>().unwrap());

        assert_eq!(lengths(nets.iter()), 2);
    }
}
