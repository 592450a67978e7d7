//! Why a step is needed, as a sentence that a person understands.
//!
//! `diff` asks here. A reason names what is there and what shall be there where that is not
//! plain from the command itself; it never repeats the command.

use super::departure::Why;
use super::desired::IPV6_FORWARDING;
use super::difference::differences;
use super::object::{Hook, Key, Link, Value};

/// Says why an object is added; `why` tells if one with the same key left before.
pub(super) fn of_addition(key: &Key, why: Option<&Why>) -> String {
    match key {
        Key::Bpffs => "no BPF file system is mounted there".into(),
        Key::Datapath => "no maps and programs of this node are pinned".into(),
        Key::Former => of_exchange(),
        Key::HostLink if why.is_some() => "cilium_host is made anew".into(),
        Key::HostLink => "the node has no cilium_host yet".into(),
        Key::Reassembly(_) => "fragments that overtake the first one are put in order".into(),
        Key::NodeEntry => "the maps do not know the node yet".into(),
        Key::Sysctl(path) => of_sysctl(path),
        Key::Rule(_) => "whoever sends what is refused is told so".into(),
        Key::Attachment(link, hook) => of_attachment(link, *hook),
        Key::Address(link, _) => match link {
            Link::Host => "the router address belongs to cilium_host".into(),
            Link::Net => "cilium_net has no such address".into(),
            Link::Lxc(name) | Link::Eth0(name) | Link::Device(name) => {
                format!("{name} does not have this address yet")
            }
        },
        Key::DeviceMtu(name) => format!("{name} has another MTU"),
        Key::NameServers(_) => "programs do not know the name servers of the lease yet".into(),
        Key::Route(Link::Device(name), prefix) if prefix.prefix_len() == 0 => {
            format!("{name} has no default route by this gateway")
        }
        Key::Route(link, prefix) => match link {
            Link::Host | Link::Net => "the host reaches its endpoints through cilium_host".into(),
            Link::Device(name) => format!("{prefix} is behind {name}"),
            Link::Lxc(name) => format!("the host has no route of its own to {name}"),
            Link::Eth0(name) if prefix.prefix_len() == 0 => {
                format!("{name} has no default route")
            }
            Link::Eth0(name) => format!("{name} has no route to its router"),
        },
        Key::LinkUp(link) => format!("{} is down", subject(link)),
        Key::EndpointLink(name) if why.is_some() => format!("{name} is connected anew"),
        Key::EndpointLink(name) => format!("{name} is not connected yet"),
        Key::EndpointEntry(name) if why.is_some() => format!("{name} gets its entry again"),
        Key::EndpointEntry(name) | Key::DeviceEntry(name) => {
            format!("the maps do not know {name} yet")
        }
        Key::Policy => "the maps do not know yet who may talk to whom".into(),
        Key::Generation => of_generation(false, true, false),
    }
}

/// Says why an object is removed; `everything` if nothing at all is desired.
pub(super) fn of_removal(key: &Key, why: &Why, everything: bool) -> String {
    match why {
        Why::Undesired if everything => of_farewell(key),
        Why::Undesired => of_undesired(key),
        Why::Replaced(difference) => (*difference).to_owned(),
        Why::LinkReplaced => "its link is made anew".into(),
        Why::Claimed(name) => format!("{name} gets its number or address"),
        Why::NoSlice => "its number does not fit the smaller tables".into(),
    }
}

/// Says why an object is changed.
pub(super) fn of_change(key: &Key, before: &Value, after: &Value) -> String {
    let found = differences(before, after);
    if !found.is_empty() {
        return found.join("; ");
    }
    // The object is as it shall be and is written again.
    if *key == Key::NodeEntry {
        "cilium_host is made anew".into()
    } else {
        "the tables of its program are replaced".into()
    }
}

/// Says why tables are taken over from.
pub(super) fn of_exchange() -> String {
    "what the tables before these remember is taken over, and they go".to_owned()
}

/// Says why flows are decided again.
pub(super) fn of_generation(exists: bool, entries_change: bool, interrupted: bool) -> String {
    let cause = if !exists {
        "no flow has been decided by these maps yet"
    } else if entries_change {
        "what decisions depend on changes: every flow is decided again"
    } else if interrupted {
        "an earlier run was interrupted: every flow is decided again"
    } else {
        "flows were decided by something else: every flow is decided again"
    };
    cause.to_owned()
}

fn of_sysctl(path: &str) -> String {
    let device = path.rsplit('/').nth(1).unwrap_or(path);
    if path.ends_with("/accept_ra") {
        return format!("a node that forwards ignores the router advertisements of {device}");
    }
    let why = match path.rsplit('/').next() {
        Some("forwarding") if path == IPV6_FORWARDING => {
            "the kernel forwards IPv6 only if this is on, for the whole node"
        }
        Some("forwarding") if device == "cilium_net" => {
            "the kernel answers what is refused only where it forwards"
        }
        Some("forwarding") if device == "cilium_host" => {
            "what endpoints send to others arrives on cilium_host"
        }
        Some("forwarding") => return format!("what is sent to endpoints arrives on {device}"),
        Some("ip_local_reserved_ports") => {
            "the host's own connections must not get the ports of translations"
        }
        Some("rp_filter") => "what endpoints send must not be taken for spoofed",
        Some("send_redirects") => "endpoints have no shorter way than the router",
        _ => "the node needs this value",
    };
    why.to_owned()
}

fn of_attachment(link: &Link, hook: Hook) -> String {
    match (link, hook) {
        (Link::Lxc(name) | Link::Eth0(name), Hook::Ingress) => {
            format!("nothing judges yet what {name} sends")
        }
        (Link::Lxc(name) | Link::Eth0(name), Hook::Egress) => {
            format!("nothing judges yet what {name} receives")
        }
        (Link::Device(name), Hook::Ingress) => {
            format!("nothing judges yet what arrives on {name}")
        }
        (Link::Device(name), Hook::Egress) => {
            format!("nothing translates yet what leaves through {name}")
        }
        (Link::Host | Link::Net, Hook::Ingress) => {
            "nothing judges yet what endpoints send to the host".into()
        }
        (Link::Host | Link::Net, Hook::Egress) => {
            "nothing judges yet what the host sends to endpoints".into()
        }
    }
}

fn of_farewell(key: &Key) -> String {
    let what = match key {
        Key::Bpffs => "we mounted it, and nothing is pinned there",
        Key::Datapath => "the node goes down: its maps and programs go",
        Key::HostLink => "the node goes down: the host leaves the network",
        Key::EndpointLink(name) => return format!("the node goes down: {name} leaves the network"),
        Key::Sysctl(_) | Key::DeviceMtu(_) => "its original value comes back",
        Key::NameServers(_) => "what was there before comes back",
        Key::Former
        | Key::NodeEntry
        | Key::Reassembly(_)
        | Key::Rule(_)
        | Key::Attachment(..)
        | Key::Address(..)
        | Key::Route(..)
        | Key::LinkUp(_)
        | Key::EndpointEntry(_)
        | Key::DeviceEntry(_)
        | Key::Policy
        | Key::Generation => "the node goes down",
    };
    what.to_owned()
}

fn of_undesired(key: &Key) -> String {
    match key {
        Key::EndpointLink(name) => format!("endpoint {name} is not in the file any more"),
        Key::EndpointEntry(name) => format!("{name} is not an endpoint any more"),
        Key::DeviceEntry(name) => format!("{name} is not a device of the node any more"),
        Key::Address(Link::Device(_), _) => "neither the file nor a lease gives the address".into(),
        Key::Address(..) => "the address is not in the file any more".into(),
        Key::DeviceMtu(_) => "neither the file nor a lease gives an MTU: its own comes back".into(),
        Key::NameServers(_) => {
            "no lease gives name servers: what was there before comes back".into()
        }
        Key::Route(..) => "nothing in the file needs this route any more".into(),
        Key::Sysctl(_) => "nothing needs it any more: its original value comes back".into(),
        Key::Attachment(..) => "no program of ours belongs there".into(),
        Key::LinkUp(link) => format!("{} is not wanted up", subject(link)),
        Key::Former => of_exchange(),
        Key::Bpffs
        | Key::Datapath
        | Key::HostLink
        | Key::NodeEntry
        | Key::Reassembly(_)
        | Key::Rule(_)
        | Key::Policy
        | Key::Generation => "the node does not need it any more".into(),
    }
}

fn subject(link: &Link) -> String {
    match link {
        Link::Host => "cilium_host".to_owned(),
        Link::Net => "cilium_net".to_owned(),
        Link::Lxc(name) => format!("the host-side link of {name}"),
        Link::Eth0(name) => format!("the link of {name}"),
        Link::Device(name) => name.clone(),
    }
}
