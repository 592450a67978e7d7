//! A map entry as the `bpftool` command that it resembles.
//!
//! What the entry says is written in words, for its bytes would tell nobody anything.

use std::fmt::{Display, Write as _};

use super::object::{Key, Masquerade, Value};
use super::step::Action;

/// Returns the command that does nearly what a step on a map entry does.
pub(super) fn command(action: Action, key: &Key, value: &Value) -> String {
    let subject = subject(key);
    if action == Action::Remove {
        return format!("bpftool map delete {subject}");
    }
    format!("bpftool map update {subject}{}", words(value))
}

/// Returns the map and what the entry is about.
fn subject(key: &Key) -> String {
    if let Key::EndpointEntry(name) = key {
        format!("ENDPOINTS {name}")
    } else if let Key::DeviceEntry(name) = key {
        format!("DEVICES {name}")
    } else if *key == Key::Policy {
        "POLICY".to_owned()
    } else {
        "NODE".to_owned()
    }
}

fn words(value: &Value) -> String {
    let mut text = String::new();
    if let Value::NodeEntry {
        router4,
        router6,
        ipv4,
        ipv6,
        host_mac,
        host_routing,
        reassembles,
        masquerade,
        ..
    } = value
    {
        append(&mut text, "router", router4.as_ref());
        append(&mut text, "prefix", ipv4.as_ref());
        append(&mut text, "router", router6.as_ref());
        append(&mut text, "prefix", ipv6.as_ref());
        append(&mut text, "mac", Some(host_mac));
        append(&mut text, "host-routing", Some(host_routing));
        if *reassembles {
            text += " reassembles";
        }
        text += &masquerade.as_ref().map(of_masquerade).unwrap_or_default();
    } else if let Value::EndpointEntry {
        id,
        ipv4,
        ipv6,
        mac,
        mtu,
        ..
    } = value
    {
        append(&mut text, "id", Some(id));
        append(&mut text, "address", ipv4.as_ref());
        append(&mut text, "address", ipv6.as_ref());
        append(&mut text, "mac", Some(mac));
        append(&mut text, "mtu", Some(mtu));
    } else if let Value::DeviceEntry {
        mac,
        masquerade4,
        masquerade6,
        ..
    } = value
    {
        append(&mut text, "mac", Some(mac));
        append(&mut text, "masquerade", masquerade4.as_ref());
        append(&mut text, "masquerade", masquerade6.as_ref());
    } else if let Value::Policy(policy) = value {
        append(&mut text, "subjects", Some(&policy.subjects.len()));
        append(&mut text, "prefixes", Some(&policy.prefixes.len()));
        append(&mut text, "entries", Some(&policy.entries.len()));
        append(&mut text, "ranges", Some(&policy.ranges.len()));
    }
    text
}

fn of_masquerade(masquerade: &Masquerade) -> String {
    let Masquerade {
        ports,
        mapping,
        filtering,
        selection,
        max_ports,
        timeouts,
    } = masquerade;
    let mut text = format!(
        " ports {}-{} mapping {mapping} filtering {filtering} selection {selection}",
        ports.0, ports.1
    );
    if *max_ports != 0 {
        append(&mut text, "max-ports", Some(max_ports));
    }
    append(&mut text, "timeouts", Some(timeouts));
    text
}

fn append<T: Display>(text: &mut String, word: &str, value: Option<&T>) {
    if let Some(value) = value {
        write!(text, " {word} {value}").expect("writing to a string cannot fail");
    }
}
