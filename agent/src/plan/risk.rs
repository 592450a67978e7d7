//! What a step may cost, where it may cost something.
//!
//! `diff` asks here. A risk is about what other people notice: connections that end, settings
//! of the whole machine. Steps that only add to what is ours have none.

use std::net::IpAddr;

use super::departure::Why;
use super::desired::IPV6_FORWARDING;
use super::object::{Key, Link, Value};

/// Says what an addition may cost.
pub(super) fn of_addition(key: &Key) -> Option<String> {
    if is_ipv6_forwarding(key) {
        return Some(
            "the node becomes an IPv6 router; devices that learn their default route from router \
             advertisements keep it: accept_ra becomes 2 first; the kernel \
             overwrites the setting of every device"
                .to_owned(),
        );
    }
    let device = forwarding_device(key)?;
    Some(format!(
        "the node forwards whatever IPv4 packets arrive on {device} for others"
    ))
}

/// Returns the device that somebody else made and that forwards by this setting.
fn forwarding_device(key: &Key) -> Option<&str> {
    let Key::Sysctl(path) = key else {
        return None;
    };
    path.strip_prefix("net/ipv4/conf/")?
        .strip_suffix("/forwarding")
        .filter(|device| !matches!(*device, "cilium_host" | "cilium_net"))
}

/// Says what a change may cost.
pub(super) fn of_change(key: &Key, before: &Value, after: &Value) -> Option<String> {
    match (key, before, after) {
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
        (Key::DeviceEntry(name), _, _) => loses_source(before, after).then(|| {
            format!("cuts the connections that are translated to the old address of {name}")
        }),
        (Key::NodeEntry, _, _) => of_translation(before, after),
        _ => of_addition(key),
    }
}

/// Says what a change of the node's entry costs those connections that are translated.
fn of_translation(before: &Value, after: &Value) -> Option<String> {
    let ports = |value: &Value| {
        if let Value::NodeEntry { masquerade, .. } = value {
            masquerade.map(|masquerade| masquerade.ports)
        } else {
            None
        }
    };
    match (ports(before), ports(after)) {
        (Some(_), None) => Some("cuts the connections that are translated".into()),
        (Some(old), Some(new)) if old.0 < new.0 || old.1 > new.1 => {
            Some("cuts the connections that are translated to ports outside the new range".into())
        }
        _ => None,
    }
}

/// Tells whether a device does not translate to one of its addresses any more.
fn loses_source(before: &Value, after: &Value) -> bool {
    let mut pairs = sources(before).into_iter().zip(sources(after));
    pairs.any(|(old, new)| old.is_some() && old != new)
}

/// Returns the addresses to which a device translates.
fn sources(value: &Value) -> [Option<IpAddr>; 2] {
    if let Value::DeviceEntry {
        masquerade4,
        masquerade6,
        ..
    } = value
    {
        [masquerade4.map(IpAddr::V4), masquerade6.map(IpAddr::V6)]
    } else {
        [None, None]
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
        (Key::Address(Link::Host | Link::Net, _), _)
        | (Key::Address(Link::Device(_), _), Why::Undesired) => {
            Some("cuts the connections of the host that use this address".into())
        }
        (Key::DeviceEntry(name), _) => Some(format!(
            "cuts the connections between endpoints and what is behind {name}"
        )),
        (Key::Route(Link::Device(name), prefix), _) if prefix.prefix_len() == 0 => Some(format!(
            "cuts the connections that leave {name} by this gateway"
        )),
        (Key::Route(Link::Device(_), prefix), Why::Undesired) => {
            Some(format!("cuts the connections with what is in {prefix}"))
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
