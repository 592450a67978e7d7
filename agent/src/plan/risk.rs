//! What a step may cost, where it may cost something.
//!
//! `diff` asks here. A risk is about what other people notice: connections that end, settings
//! of the whole machine. Steps that only add to what is ours have none.

use super::departure::Why;
use super::desired::IPV6_FORWARDING;
use super::object::{Key, Link, Value};

/// Says what an addition may cost.
pub(super) fn of_addition(key: &Key) -> Option<String> {
    is_ipv6_forwarding(key).then(|| {
        "the node becomes an IPv6 router; devices that learn their default route from router \
         advertisements keep it: accept_ra becomes 2 first; the kernel \
         overwrites the setting of every device"
            .to_owned()
    })
}

/// Says what a change may cost.
pub(super) fn of_change(key: &Key, before: &Value, after: &Value) -> Option<String> {
    match (key, before, after) {
        (
            Key::Datapath,
            Value::Datapath { endpoint_slots, .. },
            Value::Datapath {
                endpoint_slots: after,
                ..
            },
        ) => (endpoint_slots != after)
            .then(|| "flows that had no reply yet are decided again".to_owned()),
        (
            Key::EndpointEntry(name),
            Value::EndpointEntry { ipv4, ipv6, .. },
            Value::EndpointEntry {
                ipv4: ipv4_after,
                ipv6: ipv6_after,
                ..
            },
        ) => ((ipv4, ipv6) != (ipv4_after, ipv6_after))
            .then(|| format!("cuts the connections of {name} that use its old address")),
        _ => of_addition(key),
    }
}

/// Says what a removal may cost.
pub(super) fn of_removal(key: &Key, why: &Why) -> Option<String> {
    if is_ipv6_forwarding(key) {
        return Some(
            "the node may stop forwarding IPv6, for all of its devices but those that did before"
                .into(),
        );
    }
    match (key, why) {
        (Key::EndpointLink(name), _) => Some(format!("cuts the connections of {name}")),
        (Key::HostLink, _) => {
            Some("cuts the connections between the host and its endpoints".into())
        }
        (Key::Address(Link::Host | Link::Net, _), _) => {
            Some("cuts the connections of the host that use this address".into())
        }
        (Key::EndpointEntry(name), Why::Claimed(_) | Why::NoSlice) => {
            Some(format!("interrupts the connections of {name}"))
        }
        _ => None,
    }
}

fn is_ipv6_forwarding(key: &Key) -> bool {
    matches!(key, Key::Sysctl(path) if path == IPV6_FORWARDING)
}
