//! What has to leave, why, and what vanishes with it.
//!
//! An object leaves if nobody wants it, or if it differs in something that cannot be changed in
//! place. Three more cases concern map entries, which hold a link's index and claim numbers and
//! addresses for themselves: an entry leaves before its link is made anew, before another entry
//! takes what it claims, and before the tables of pending flows lose its slice.
//!
//! What an object owns ([`Key::owners`]) vanishes with it and needs no step. `diff` asks here
//! which departures must come before an addition.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::IPV6_FORWARDING;
use super::object::{Key, Link, State, Value};

/// Tells why an object leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing wants it.
    Undesired,
    /// It is made anew, because this differs and cannot be changed in place.
    Replaced(&'static str),
    /// It is a map entry that points to a link which is made anew.
    LinkReplaced,
    /// It is a map entry with a number or an address that the named endpoint gets.
    Claimed(String),
    /// It is a map entry with a number for which there will be no slice.
    NoSlice,
}

/// Holds everything that leaves.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// What is removed by a step of its own.
    pub(super) leaving: BTreeMap<Key, Why>,
    /// What vanishes with something that leaves.
    vanishing: BTreeSet<Key>,
}

impl Departures {
    /// Finds what has to leave; with `sticky`, settings that protect others stay.
    pub(super) fn find(desired: &State, observed: &State, sticky: bool) -> Self {
        let mut leaving = BTreeMap::new();
        for (key, present) in observed {
            if let Some(why) = why_leave(desired, observed, key, present, sticky) {
                leaving.insert(key.clone(), why);
            }
        }
        let vanishes = |key: &&Key| {
            let owners = key.owners();
            owners.iter().any(|owner| leaving.contains_key(owner))
        };
        let vanishing: BTreeSet<Key> = observed.keys().filter(vanishes).cloned().collect();
        leaving.retain(|key, _| !vanishing.contains(key));
        Self { leaving, vanishing }
    }

    /// Tells whether the observed object with this key stays where it is.
    pub(super) fn stays(&self, key: &Key) -> bool {
        !self.leaving.contains_key(key) && !self.vanishing.contains(key)
    }

    /// Returns what must be gone before this can be added or changed, in order of removal.
    pub(super) fn before(&self, observed: &State, key: &Key, value: &Value) -> Vec<Key> {
        let blocks = |leaving: &&Key| self.blocks(observed, leaving, key, value);
        self.leaving.keys().rev().filter(blocks).cloned().collect()
    }

    fn blocks(&self, observed: &State, leaving: &Key, key: &Key, value: &Value) -> bool {
        let Some(present) = observed.get(leaving) else {
            return false;
        };
        if leaving == key || in_the_way(present, value) || is_same_route(leaving, key) {
            return true;
        }
        // An entry leaves before its link does.
        let Key::EndpointEntry(name) = leaving else {
            return false;
        };
        let link = Key::EndpointLink(name.clone());
        self.leaving.contains_key(&link) && self.blocks(observed, &link, key, value)
    }
}

fn why_leave(
    desired: &State,
    observed: &State,
    key: &Key,
    present: &Value,
    sticky: bool,
) -> Option<Why> {
    let Some(want) = desired.get(key) else {
        let kept = sticky && protects(key, desired);
        return (!kept).then_some(Why::Undesired);
    };
    if let Some(difference) = fixed_difference(present, want) {
        return Some(Why::Replaced(difference));
    }
    let Key::EndpointEntry(name) = key else {
        return None;
    };
    let link = Key::EndpointLink(name.clone());
    if let (Some(old), Some(new)) = (observed.get(&link), desired.get(&link))
        && fixed_difference(old, new).is_some()
    {
        return Some(Why::LinkReplaced);
    }
    if desired
        .get(&Key::Datapath)
        .is_some_and(|datapath| in_the_way(present, datapath))
    {
        return Some(Why::NoSlice);
    }
    claimant(desired, key, present).map(Why::Claimed)
}

/// Returns the name of another endpoint that gets something which this entry claims.
fn claimant(desired: &State, key: &Key, present: &Value) -> Option<String> {
    desired
        .iter()
        .filter(|(other, _)| *other != key)
        .find_map(|(other, value)| {
            let Key::EndpointEntry(name) = other else {
                return None;
            };
            in_the_way(present, value).then(|| name.clone())
        })
}

/// Tells whether a sysctl of ours protects what someone else configured: a device that came to
/// accept advertisements in spite of forwarding would lose its default route without it, also
/// while no route is there for the moment.
fn protects(key: &Key, desired: &State) -> bool {
    matches!(key, Key::Sysctl(path) if path.ends_with("/accept_ra"))
        && desired.contains_key(&Key::Sysctl(IPV6_FORWARDING.to_owned()))
}

/// Tells whether two routes of the node lead to the same prefix by different links, which its
/// table holds one of.
fn is_same_route(leaving: &Key, key: &Key) -> bool {
    let of_node = |link: &Link| !matches!(link, Link::Eth0(_));
    match (leaving, key) {
        (Key::Route(old, prefix), Key::Route(new, wanted)) => {
            prefix == wanted && of_node(old) && of_node(new)
        }
        _ => false,
    }
}

/// Returns what differs between two values and cannot be changed in place.
fn fixed_difference(before: &Value, after: &Value) -> Option<&'static str> {
    match (before, after) {
        (
            Value::HostLink {
                host_mac, net_mac, ..
            },
            Value::HostLink {
                host_mac: host_after,
                net_mac: net_after,
                ..
            },
        ) => {
            ((host_mac, net_mac) != (host_after, net_after)).then_some("it has another MAC address")
        }
        (
            Value::EndpointLink {
                link,
                netns,
                lxc_mac,
                mac,
                ..
            },
            Value::EndpointLink {
                link: link_after,
                netns: netns_after,
                lxc_mac: lxc_after,
                mac: mac_after,
                ..
            },
        ) => {
            if netns != netns_after {
                Some("its eth0 is not in this network namespace")
            } else if link != link_after {
                Some("its link has another name")
            } else {
                ((lxc_mac, mac) != (lxc_after, mac_after)).then_some("it has another MAC address")
            }
        }
        (
            Value::Attachment { kind, .. },
            Value::Attachment {
                kind: kind_after, ..
            },
        ) => (kind != kind_after).then_some("it is attached in another way"),
        (
            Value::Route { metric, .. },
            Value::Route {
                metric: metric_after,
                ..
            },
        ) => (metric != metric_after).then_some("it has another metric"),
        _ => None,
    }
}

/// Tells whether one object must leave before another one can be there.
fn in_the_way(present: &Value, want: &Value) -> bool {
    match (present, want) {
        (
            Value::EndpointLink { link, netns, .. },
            Value::EndpointLink {
                link: link_wanted,
                netns: netns_wanted,
                ..
            },
        ) => {
            // A namespace has one eth0. Where an eth0 is unknown, it may be in this one.
            netns.is_none() || netns == netns_wanted || link == link_wanted
        }
        (
            Value::EndpointEntry { id, ipv4, ipv6, .. },
            Value::EndpointEntry {
                id: id_wanted,
                ipv4: v4_wanted,
                ipv6: v6_wanted,
                ..
            },
        ) => {
            id == id_wanted
                || (ipv4.is_some() && ipv4 == v4_wanted)
                || (ipv6.is_some() && ipv6 == v6_wanted)
        }
        (Value::EndpointEntry { id, .. }, Value::Datapath { endpoint_slots, .. }) => {
            u32::from(*id) >= *endpoint_slots
        }
        _ => false,
    }
}
