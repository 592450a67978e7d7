//! Which of our BPF objects exist: programs, map entries, attachments.
//!
//! Read-only: lookups, queries and opened pins. Map entries name links by index; here they become
//! names again, and an index that is no link of ours marks the entry as stale.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::SystemTime;

use aya::programs::ProgramInfo;
use datapath::abi::{Addr4, Addr6, Node, PENDING_PER_SLOT, Party, Side};
use ipnet::{Ipv4Net, Ipv6Net};

use super::attach::{self, Attached};
use super::pin::Pins;
use super::table::{self, MAPS};
use super::{Error, calls, device, load, policy, reassembly};
use crate::config::family::Family;
use crate::host::HOST_LINK;
use crate::host::netlink::Netlink;
use crate::plan::difference::OTHER_LAYOUT_SLOTS;
use crate::plan::object::{
    AttachKind, Filtering, Hook, HostRoutingMode, Key, Link, LinkRef, Mac, Mapping, Masquerade,
    PortSelection, Program, State, Timeouts, Value,
};

/// Reads the BPF part of a node's state.
///
/// `links` holds the present indices of our links.
///
/// # Errors
/// When a pin or a map cannot be read although it is there.
pub fn observe(
    pins: &Pins,
    links: &BTreeMap<Link, u32>,
    netlink: &mut Netlink,
) -> Result<State, Error> {
    let mut state = State::new();
    let versions = versions(pins)?;
    let mut ids = BTreeMap::new();
    if let Some(datapath) = current(pins, &versions) {
        // Without all of the maps, what is attached works on some that nobody can reach.
        ids = program_ids(pins, &versions);
        state.insert(Key::Datapath, datapath);
        take_entries(pins, links, &mut state)?;
    } else if pins.former().is_some() || pins.foreign().is_some() {
        state.insert(Key::Datapath, unreadable());
    }
    if pins.former().is_some() || pins.abandoned().exists() {
        state.insert(Key::Former, Value::Former);
    }
    for others in others(pins) {
        ids.extend(program_ids(&others, &self::versions(&others)?));
    }
    take_attachments(pins, links, netlink, &ids, &mut state)?;
    for family in Family::BOTH {
        if reassembly::find(pins, family)? {
            state.insert(Key::Reassembly(family), Value::Reassembly);
        }
    }
    Ok(state)
}

/// Stands for tables that only an exchange makes anything of: their layout is another one, or the one
/// that was to take their place is not complete.
pub(super) fn unreadable() -> Value {
    Value::Datapath {
        digest: "unreadable".to_owned(),
        endpoint_slots: OTHER_LAYOUT_SLOTS,
        flows: None,
        bindings: 0,
    }
}

/// Returns where programs may be pinned beside those of this layout.
pub(super) fn others(pins: &Pins) -> Vec<Pins> {
    let former = pins.former().map(|former| former.pins);
    let foreign = pins.foreign().map(|(foreign, _)| foreign);
    former.into_iter().chain(foreign).collect()
}

/// Finds our programs on hooks. Of links that are not ours, only those are asked that have an
/// entry among the devices, which comes before a program and leaves after it, or pinned links.
fn take_attachments(
    pins: &Pins,
    links: &BTreeMap<Link, u32>,
    netlink: &mut Netlink,
    ids: &BTreeMap<u32, (Program, String)>,
    state: &mut State,
) -> Result<(), Error> {
    let mut linked = pins.linked();
    linked.remove(HOST_LINK);
    let carries = |link: &Link| match link {
        Link::Host | Link::Lxc(_) => true,
        Link::Device(name) => {
            linked.contains(name) || state.contains_key(&Key::DeviceEntry(name.clone()))
        }
        Link::Net | Link::Eth0(_) => false,
    };
    let places: Vec<_> = links.iter().filter(|(link, _)| carries(link)).collect();
    for (link, ifindex) in places {
        for hook in [Hook::Ingress, Hook::Egress] {
            if let Some(found) = attach::find(pins, netlink, link, *ifindex, hook)? {
                let value = attachment(found, ids);
                state.insert(Key::Attachment(link.clone(), hook), value);
            }
        }
    }
    for name in linked {
        take_dead_links(pins, &Link::Device(name), state);
    }
    Ok(())
}

/// Takes the pins of tcx links whose device is gone: they stand for programs that nothing runs.
fn take_dead_links(pins: &Pins, link: &Link, state: &mut State) {
    for hook in [Hook::Ingress, Hook::Egress] {
        let pin = attach::pin(pins, link, hook);
        if let (Some(program), true) = (Program::of(link, hook), pin.is_some_and(|p| p.exists())) {
            let key = Key::Attachment(link.clone(), hook);
            state.entry(key).or_insert(Value::Attachment {
                program,
                digest: None,
                kind: AttachKind::Tcx,
            });
        }
    }
}

/// Lists the versions whose programs are pinned, the one that was loaded last first.
///
/// # Errors
/// When the folder cannot be read.
pub fn versions(pins: &Pins) -> Result<Vec<String>, Error> {
    let folder = pins.programs();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::at("read folder", &folder)(error)),
    };
    let mut found: Vec<(SystemTime, String)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            (name != load::INCOMPLETE).then_some((entry.metadata().ok()?.modified().ok()?, name))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().rev().map(|(_, name)| name).collect())
}

/// Returns the version that was loaded last, with the sizes of its tables.
pub(super) fn current(pins: &Pins, versions: &[String]) -> Option<Value> {
    let all_maps = MAPS.iter().all(|name| pins.map(name).exists());
    let slots = table::capacity(pins, "PENDING4")? / PENDING_PER_SLOT;
    let version = versions
        .iter()
        .find(|version| calls::is_complete(pins, version))?;
    all_maps.then_some(Value::Datapath {
        digest: version.clone(),
        endpoint_slots: slots,
        // Only a file that asks for a number makes both tables equal.
        flows: table::capacity(pins, "FLOWS4")
            .filter(|flows| table::capacity(pins, "FLOWS6") == Some(*flows)),
        bindings: table::capacity(pins, "BINDINGS4")?,
    })
}

/// Returns the program and version behind each id that is pinned.
fn program_ids(pins: &Pins, versions: &[String]) -> BTreeMap<u32, (Program, String)> {
    let mut ids = BTreeMap::new();
    for version in versions {
        for program in Program::ALL {
            let path = pins.object(version).join(program.name());
            if let Ok(info) = ProgramInfo::from_pin(&path) {
                ids.insert(info.id(), (program, version.clone()));
            }
        }
    }
    ids
}

fn attachment(found: Attached, ids: &BTreeMap<u32, (Program, String)>) -> Value {
    let known = ids.get(&found.program_id);
    Value::Attachment {
        program: known.map_or(found.program, |(program, _)| *program),
        digest: known.map(|(_, version)| version.clone()),
        kind: found.kind,
    }
}

fn take_entries(pins: &Pins, links: &BTreeMap<Link, u32>, state: &mut State) -> Result<(), Error> {
    let node = table::read_node(pins)?;
    let parties = table::endpoints(pins)?;
    let (local4, local6) = (table::local4(pins)?, table::local6(pins)?);
    let names: BTreeMap<u32, &str> = links
        .iter()
        .filter_map(|(link, ifindex)| match link {
            Link::Lxc(name) => Some((*ifindex, name.as_str())),
            Link::Host | Link::Net | Link::Eth0(_) | Link::Device(_) => None,
        })
        .collect();
    for entry in &parties {
        let (ifindex, party) =
            entry.map_err(|error| Error::map("read map", "ENDPOINTS", &error))?;
        if party.is_endpoint() {
            let points_here = Points {
                ipv4: |address: &Addr4| local4.get(address, 0).ok() == Some(ifindex),
                ipv6: |address: &Addr6| local6.get(address, 0).ok() == Some(ifindex),
            };
            let (name, link) = match names.get(&ifindex) {
                Some(name) => ((*name).to_owned(), LinkRef::Current),
                None => (format!("#{ifindex}"), LinkRef::Stale(ifindex)),
            };
            state.insert(
                Key::EndpointEntry(name),
                endpoint(&party, link, &points_here),
            );
        }
    }
    if node.host_ifindex != 0 {
        let present = links.get(&Link::Host) == Some(&node.host_ifindex);
        let host = parties.get(&node.host_ifindex, 0).unwrap_or_default();
        let value = Value::NodeEntry {
            router4: node.has_ipv4().then(|| node.router4.octets().into()),
            router6: node.has_ipv6().then(|| node.router6.octets().into()),
            ipv4: node
                .ipv4()
                .and_then(|(prefix, len)| Ipv4Net::new(prefix.octets().into(), len).ok()),
            ipv6: node
                .ipv6()
                .and_then(|(prefix, len)| Ipv6Net::new(prefix.octets().into(), len).ok()),
            host_mac: Mac(host.mac),
            host_link: if present {
                LinkRef::Current
            } else {
                LinkRef::Stale(node.host_ifindex)
            },
            host_routing: if node.legacy_routing == 0 {
                HostRoutingMode::Bpf
            } else {
                HostRoutingMode::Legacy
            },
            reassembles: node.reassembles != 0,
            masquerade: masquerade(&node),
        };
        state.insert(Key::NodeEntry, value);
    }
    let devices = links.iter().filter_map(|(link, ifindex)| match link {
        Link::Device(name) => Some((*ifindex, name.as_str())),
        Link::Host | Link::Net | Link::Lxc(_) | Link::Eth0(_) => None,
    });
    device::observe(pins, &devices.collect(), state)?;
    let active = Side::of(node.generation);
    state.insert(Key::Policy, Value::Policy(policy::observe(pins, active)?));
    if node.generation >> 1 != 0 {
        state.insert(
            Key::Generation,
            Value::Generation {
                fingerprint: node.fingerprint,
            },
        );
    }
    Ok(())
}

/// Tells whether an address leads to the party that has it.
struct Points<F, G> {
    ipv4: F,
    ipv6: G,
}

fn endpoint<F, G>(party: &Party, link: LinkRef, points: &Points<F, G>) -> Value
where
    F: Fn(&Addr4) -> bool,
    G: Fn(&Addr6) -> bool,
{
    Value::EndpointEntry {
        id: party.slot,
        ipv4: party
            .ipv4()
            .filter(&points.ipv4)
            .map(|address| address.octets().into()),
        ipv6: party
            .ipv6()
            .filter(&points.ipv6)
            .map(|address| address.octets().into()),
        mac: Mac(party.mac),
        lxc_mac: Mac(party.gateway_mac),
        mtu: u32::from(party.mtu),
        link,
    }
}

/// Returns settings of masquerade as the planner has them.
fn masquerade(node: &Node) -> Option<Masquerade> {
    let found = node.masquerade;
    let [first, last] = found.ports;
    let timeouts = node.timeouts;
    (first != 0).then_some(Masquerade {
        ports: (first, last),
        mapping: match found.endpoint_independent {
            0 => Mapping::Symmetric,
            _ => Mapping::EndpointIndependent,
        },
        filtering: match found.unfiltered {
            0 => Filtering::Address,
            _ => Filtering::EndpointIndependent,
        },
        selection: match found.random_ports {
            0 => PortSelection::Sequential,
            _ => PortSelection::Random,
        },
        max_ports: found.max_ports,
        timeouts: Timeouts {
            tcp_established_secs: timeouts.tcp_established,
            tcp_transitory_secs: timeouts.tcp_transitory,
            udp_secs: timeouts.udp,
            icmp_secs: timeouts.icmp,
            other_secs: timeouts.other,
        },
    })
}
