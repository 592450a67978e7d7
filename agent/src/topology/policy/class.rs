//! Addresses that all rules treat alike.
//!
//! Each term with CIDRs speaks of a set of addresses: the union of its prefixes, each without its
//! exceptions. Two addresses are in the same class if they are in the same of these sets, and in
//! the same family; a class has one identity. So a list of 100,000 prefixes is one identity, and
//! prefixes inside of others multiply nothing.
//!
//! One sweep over the prefixes in their order, outer ones before inner ones, keeps the sets that
//! it is in; an XOR of one random-looking word for each set tells classes apart in constant time.
//! The number of a class comes from its first prefix, so that an edit of another one leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ipnet::IpNet;

use super::super::number::{Sha, assign, digest};
use super::term::{TermId, terms};
use crate::config::family::Family;
use crate::config::policy::{Peer, Policy};

/// Numbers of classes (Cilium's scope of CIDRs).
const CLASSES: Range<u32> = 0x0100_0000..0x0200_0000;

/// Holds the classes of a file.
#[derive(Debug, Default)]
pub(in crate::topology) struct Classes {
    pub(in crate::topology) list: Vec<Class>,
    /// The class of the addresses whose longest match a prefix is, by its place in the list;
    /// `None` is the world.
    pub(in crate::topology) prefixes: Vec<(IpNet, Option<usize>)>,
}

/// Is a set of addresses that all rules treat alike.
#[derive(Debug)]
pub(in crate::topology) struct Class {
    pub(in crate::topology) identity: u32,
    /// The first of its prefixes.
    pub(in crate::topology) first: IpNet,
    /// The terms that speak of it.
    pub(in crate::topology) terms: Vec<TermId>,
}

impl Class {
    pub(in crate::topology) fn family(&self) -> Family {
        Family::of(self.first.addr())
    }
}

/// Finds the classes of all rules together.
pub(in crate::topology) fn classes(policy: &Policy) -> Classes {
    let (bounds, mut sweep) = begin(policy);
    let mut classes = Classes::default();
    let mut known = BTreeMap::new();
    let mut around: Vec<&[Bound]> = Vec::new();
    for here in bounds.chunk_by(|one, other| one.prefix == other.prefix) {
        let prefix = here[0].prefix;
        while let Some(outer) = around.pop_if(|outer| !outer[0].prefix.contains(&prefix)) {
            for bound in outer {
                sweep.cross(bound, false);
            }
        }
        for bound in here {
            sweep.cross(bound, true);
        }
        around.push(here);

        let class = (!sweep.inside.is_empty()).then(|| {
            let key = (Family::of(prefix.addr()), sweep.key);
            *known.entry(key).or_insert_with(|| {
                classes.list.push(Class {
                    identity: 0,
                    first: prefix,
                    terms: sweep.inside.iter().copied().collect(),
                });
                classes.list.len() - 1
            })
        });
        classes.prefixes.push((prefix, class));
    }
    number(&mut classes.list);
    classes
}

fn number(classes: &mut [Class]) {
    let digest = |class: &Class| digest(["cidr", class.first.to_string().as_str()]);
    let digests: Vec<_> = classes.iter().map(digest).collect();
    let numbers = assign(&digests.iter().copied().collect(), &CLASSES);
    for (class, digest) in classes.iter_mut().zip(digests) {
        class.identity = numbers.get(&digest).copied().unwrap_or(CLASSES.start);
    }
}

/// Is the border of a prefix that a peer consists of, or excepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    prefix: IpNet,
    /// Place of the peer in [`Sweep::peers`].
    peer: usize,
    is_except: bool,
}

/// Knows the peers and terms that speak of the present prefix.
#[derive(Debug, Default)]
struct Sweep {
    peers: Vec<Spoken>,
    /// How many peers of each term speak of it.
    counts: Vec<u32>,
    /// A word for each term.
    words: Vec<u128>,
    inside: BTreeSet<TermId>,
    /// The XOR of the words of the terms in `inside`.
    key: u128,
}

/// Tells how a peer speaks of the present prefix.
#[derive(Debug)]
struct Spoken {
    term: TermId,
    is_inside: bool,
    /// How many exceptions it is in.
    exceptions: u32,
}

impl Spoken {
    fn counts(&self) -> bool {
        self.is_inside && self.exceptions == 0
    }
}

/// Lists the borders of all prefixes in order, and starts outside of all.
fn begin(policy: &Policy) -> (Vec<Bound>, Sweep) {
    let mut sweep = Sweep::default();
    let mut bounds = Vec::new();
    for (id, term) in terms(policy).iter().enumerate() {
        sweep.counts.push(0);
        sweep.words.push(word(&digest([id.to_string().as_str()])));
        for peer in &term.term.peers {
            let Peer::Cidr { prefix, except } = peer else {
                continue;
            };
            let bound = |prefix: &IpNet, is_except| Bound {
                prefix: prefix.trunc(),
                peer: sweep.peers.len(),
                is_except,
            };
            bounds.push(bound(prefix, false));
            bounds.extend(except.iter().map(|except| bound(except, true)));
            sweep.peers.push(Spoken {
                term: id,
                is_inside: false,
                exceptions: 0,
            });
        }
    }
    bounds.sort_unstable();
    // An exception that is given twice is one.
    bounds.dedup();
    (bounds, sweep)
}

fn word(digest: &Sha) -> u128 {
    let bytes = digest.iter().take(16);
    bytes.fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

impl Sweep {
    /// Goes into a prefix, or out of it.
    fn cross(&mut self, bound: &Bound, enters: bool) {
        let peer = &mut self.peers[bound.peer];
        let before = peer.counts();
        if !bound.is_except {
            peer.is_inside = enters;
        } else if enters {
            peer.exceptions += 1;
        } else {
            peer.exceptions -= 1;
        }
        let (term, after) = (peer.term, peer.counts());
        if before == after {
            return;
        }
        let count = &mut self.counts[term];
        *count = if after { *count + 1 } else { *count - 1 };
        let changes = if after {
            *count == 1 && self.inside.insert(term)
        } else {
            *count == 0 && self.inside.remove(&term)
        };
        if changes {
            self.key ^= self.words[term];
        }
    }
}
