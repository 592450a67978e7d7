//! Who is behind an address, and whether what goes there keeps its source: disjoint in effect.
//!
//! A file says something about prefixes in several places: what is never translated, the pools
//! of the nodes, the addresses of nodes and of peers' endpoints, the CIDRs of rules. Here each prefix is completed
//! with what the wider ones around it say, so that the longest match alone decides and the
//! kernel's side has no precedence to get wrong. What would say the same as the prefix around it
//! is left out.

use std::collections::BTreeMap;

use ipnet::IpNet;

pub use super::identity::{REMOTE_NODE, WORLD};

/// Tells what is true for every address whose longest match a prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub identity: u32,
    /// Whether what is sent there is never translated.
    pub excluded: bool,
}

/// Is what one place in a file says about a prefix; an address gets the identity of the
/// narrowest claim that has one, and is excluded if any claim says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub prefix: IpNet,
    pub identity: Option<u32>,
    pub excluded: bool,
}

/// What is true where no prefix says anything.
const BARE: Prefix = Prefix {
    identity: WORLD,
    excluded: false,
};

/// Completes each prefix with what those around it say; of claims about the same prefix, the
/// first one that has an identity counts.
pub(super) fn compile(claims: impl IntoIterator<Item = Claim>) -> BTreeMap<IpNet, Prefix> {
    let mut compiled = Vec::new();
    // The prefixes around the present one, the widest first.
    let mut around: Vec<(IpNet, Prefix)> = Vec::new();
    // A prefix sorts right before what it contains.
    for (prefix, (identity, excluded)) in merge(claims) {
        while around
            .pop_if(|(outer, _)| !outer.contains(&prefix))
            .is_some()
        {}
        let outer = around.last().map_or(BARE, |(_, outer)| *outer);
        let complete = Prefix {
            identity: identity.unwrap_or(outer.identity),
            excluded: excluded || outer.excluded,
        };
        if complete != outer {
            around.push((prefix, complete));
            compiled.push((prefix, complete));
        }
    }
    // In order already, which makes it quick.
    compiled.into_iter().collect()
}

/// Joins what is said about the same prefix; returns what is said in the order of prefixes.
fn merge(claims: impl IntoIterator<Item = Claim>) -> Vec<(IpNet, (Option<u32>, bool))> {
    let claims = claims.into_iter();
    let mut claims: Vec<_> = claims.map(|claim| (claim.prefix.trunc(), claim)).collect();
    // Long lists come in order: a stable sort finds such runs, and keeps the first claim first.
    claims.sort_by_key(|(prefix, _)| *prefix);
    let alike = claims.chunk_by(|(one, _), (other, _)| one == other);
    let joined = alike.map(|alike| {
        let identity = alike.iter().find_map(|(_, claim)| claim.identity);
        let excluded = alike.iter().any(|(_, claim)| claim.excluded);
        (alike[0].0, (identity, excluded))
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn claim(prefix: &str, identity: Option<u32>, excluded: bool) -> Claim {
        Claim {
            prefix: net(prefix),
            identity,
            excluded,
        }
    }

    /// Does what the trie in the kernel does.
    fn look_up(compiled: &BTreeMap<IpNet, Prefix>, address: IpAddr) -> Prefix {
        compiled
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address))
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(BARE, |(_, found)| *found)
    }

    /// Reads the claims as a person would.
    fn evaluate(claims: &[Claim], address: IpAddr) -> Prefix {
        let matching = || claims.iter().filter(|c| c.prefix.contains(&address));
        let with_identity = matching().filter(|claim| claim.identity.is_some());
        // Of two that say something about the same prefix the first one counts.
        let narrowest = with_identity
            .rev()
            .max_by_key(|claim| claim.prefix.prefix_len());
        Prefix {
            identity: narrowest.and_then(|claim| claim.identity).unwrap_or(WORLD),
            excluded: matching().any(|claim| claim.excluded),
        }
    }

    #[test]
    fn an_endpoint_in_a_pool_in_an_exclusion_is_known_and_excluded() {
        let compiled = compile([
            claim("10.0.0.0/8", None, true),
            claim("10.0.2.0/24", Some(WORLD), false),
            claim("10.0.2.7/32", Some(1234), false),
        ]);

        let excluded = |identity| Prefix {
            identity,
            excluded: true,
        };
        assert_eq!(compiled[&net("10.0.2.7/32")], excluded(1234));
        assert_eq!(compiled[&net("10.0.0.0/8")], excluded(WORLD));
        assert_eq!(compiled.len(), 2, "the pool says nothing new");
    }

    #[test]
    fn an_exclusion_inside_of_what_is_known_keeps_the_identity() {
        let compiled = compile([
            claim("192.0.2.0/24", Some(REMOTE_NODE), false),
            claim("192.0.2.128/25", None, true),
        ]);

        assert_eq!(compiled[&net("192.0.2.128/25")].identity, REMOTE_NODE);
        assert!(!compiled[&net("192.0.2.0/24")].excluded);
    }

    /// Gives addresses few enough bits that prefixes often meet.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0..16_u8).prop_map(|low| IpAddr::V4(Ipv4Addr::new(10, 0, 0, low << 4)));
        let v6 = (0..16_u16)
            .prop_map(|low| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low << 12)));
        v4.boxed().prop_union(v6.boxed())
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let len = prop::sample::select(vec![0_u8, 8, 25, 26, 27, 28, 32, 113, 114, 115, 116, 128]);
        let identity = proptest::option::of(prop::sample::select(vec![2_u32, 6, 300, 400]));
        (address(), len, identity, any::<bool>()).prop_map(|(address, len, identity, excluded)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = IpNet::new(address, len.min(longest)).expect("a length");
            Claim {
                prefix: prefix.trunc(),
                identity,
                excluded,
            }
        })
    }

    proptest! {
        #[test]
        fn the_longest_match_says_what_all_claims_together_say(
            claims in proptest::collection::vec(any_claim(), 0..20),
            addresses in proptest::collection::vec(address(), 1..20),
        ) {
            let compiled = compile(claims.iter().copied());

            for address in addresses {
                prop_assert_eq!(look_up(&compiled, address), evaluate(&claims, address));
            }
            for (prefix, known) in &compiled {
                let around = prefix.supernet().map_or(BARE, |outer| {
                    let wider = compiled.range(..prefix);
                    let around = wider.rev().find(|(wide, _)| wide.contains(&outer));
                    around.map_or(BARE, |(_, around)| *around)
                });
                prop_assert_ne!(around, *known, "{} is there without need", prefix);
            }
        }
    }
}
