//! Topology → desired state: every object that the node must have.
//!
//! `outside` adds what concerns devices, prefixes and peers, and `host_routing` chooses how
//! packets get from one to the other.
//!
//! Called for `plan`, `apply` and `run`; `down` desires `State::new()`. The bpffs and the
//! sysctls are always desired: the difference leaves those alone that are so without us.
//!
//! Traffic: an endpoint's `eth0` carries its address alone in its prefix, a route to the router
//! address through the link, and a default route via that router. The host reaches endpoints
//! by one route for each pool through `cilium_host`, and where the file asks for it by one for each
//! endpoint through its link, too. No host-side `lxc` link carries an address.
//!
//! Not here: whether namespaces exist and whether a link is someone else's. `host` sees that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::host_routing;
use super::lockout;
use super::notes::Notes;
use super::object::{
    Ambient, AttachKind, Hook, HostRoutingMode, Key, Link, LinkRef, Netns, Obstacle, ObstacleKind,
    Program, State, Value,
};
use super::outside::Outside;
use super::refusal::Refusals;
use super::reserved::{self, RESERVED_PORTS};
use super::warning::{self, Warning};
use crate::config::family::Family;
use crate::topology::{Device, Endpoint, Topology};

/// Is the switch that makes the node forward IPv6, for all of its devices at once.
pub const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// Is the priority of our rules of policy routing: before the main table, and behind what
/// people put at round numbers.
pub const RULE_PRIORITY: u32 = 3089;

/// Is what a node must have, and what a person should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    pub state: State,
    pub notes: Notes,
}

/// Returns everything that the node must have.
///
/// `bpffs` is the mount point of the BPF file system that holds the pins.
///
/// # Errors
/// Everything on this host that stands against it.
pub fn desired(topology: &Topology, ambient: &Ambient, bpffs: &Path) -> Result<Desired, Refusals> {
    let (notes, outside) = examine(topology, ambient);
    let choice = notes.host_routing.as_ref();
    let Some(choice) = choice.filter(|_| outside.refusals.is_empty()) else {
        return Err(Refusals(outside.refusals));
    };
    let mut state = outside.state;
    add_datapath(&mut state, topology, ambient, bpffs);
    add_host_link(&mut state, topology, choice.mode, ambient.reassembly);
    add_host_attachments(&mut state, ambient);
    let policy = Arc::clone(&topology.policy.tables);
    state.insert(Key::Policy, Value::Policy(policy));
    add_sysctls(&mut state, topology, ambient);
    for endpoint in &topology.endpoints {
        add_endpoint(&mut state, topology, endpoint, &ambient.digest);
    }
    let fingerprint = fingerprint(&state, &ambient.digest);
    state.insert(Key::Generation, Value::Generation { fingerprint });
    Ok(Desired { state, notes })
}

/// Returns what a person should know about the node; what [`desired`](fn@desired) refuses comes
/// first among the warnings.
pub fn notes(topology: &Topology, ambient: &Ambient) -> Notes {
    let (mut notes, outside) = examine(topology, ambient);
    let refused = outside.refusals.into_iter().map(Warning::from);
    notes.warnings = refused.chain(notes.warnings).collect();
    notes
}

/// Looks at what surrounds the node.
fn examine<'a>(topology: &'a Topology, ambient: &'a Ambient) -> (Notes, Outside<'a>) {
    let mut outside = Outside::of(topology, ambient);
    let mut warnings = std::mem::take(&mut outside.warnings);
    let choice = host_routing::choose(topology.host_routing, &ambient.obstacles);
    let choice = choice.or_else(|refusal| {
        if !ambient.spares_missing {
            return Err(refusal);
        }
        // What came to a node that is kept hinders nothing else that is to be repaired.
        warnings.push(Warning {
            stops: false,
            ..refusal.into()
        });
        Ok(host_routing::as_asked())
    });
    if let Ok(choice) = &choice
        && choice.mode == HostRoutingMode::Legacy
    {
        warnings.extend(dropping_firewalls(topology, ambient));
    }
    if topology.endpoint_routes && topology.ipv4.is_some() && ambient.strict_senders {
        warnings.push(warning::strict_senders());
    }
    warnings.extend(lockout::lockouts(topology, ambient));
    let (given, gateways) = outside.given();
    warnings.extend(lockout::lost_ways(ambient, given, &gateways));
    let blind = ambient.blind_rules.iter();
    // Packets to endpoints leave by their own links where each has a route.
    let blind = blind.filter(|rule| rule.by_incoming || !topology.endpoint_routes);
    warnings.extend(blind.map(warning::blind_rule));
    let host_routing = choice
        .map_err(|refusal| outside.refusals.push(refusal))
        .ok();
    let notes = Notes {
        host_routing,
        warnings,
        maps: Vec::new(),
        policy: None,
    };
    (notes, outside)
}

/// Returns the path of the sysctl that makes a device accept router advertisements.
pub fn accept_ra(device: &str) -> String {
    format!("net/ipv6/conf/{device}/accept_ra")
}

fn dropping_firewalls(topology: &Topology, ambient: &Ambient) -> Vec<Warning> {
    let pools: Vec<IpNet> = pools(topology).into_iter().flatten().collect();
    let drops = |obstacle: &&Obstacle| {
        matches!(
            obstacle.kind,
            ObstacleKind::ForwardDrop | ObstacleKind::ForwardClosed
        )
    };
    let obstacles = ambient.obstacles.iter().filter(drops);
    obstacles
        .map(|obstacle| warning::dropping_firewall(obstacle, &pools))
        .collect()
}

fn add_datapath(state: &mut State, topology: &Topology, ambient: &Ambient, bpffs: &Path) {
    let path = bpffs.to_owned();
    state.insert(Key::Bpffs, Value::Bpffs { path });
    state.insert(
        Key::Datapath,
        Value::Datapath {
            digest: ambient.digest.clone(),
            endpoint_slots: topology.endpoint_slots(),
            flows: topology.capacity.flows,
            bindings: topology.bindings(),
        },
    );
}

fn add_host_link(
    state: &mut State,
    topology: &Topology,
    host_routing: HostRoutingMode,
    reassembles: bool,
) {
    let Topology {
        host_mac,
        net_mac,
        mtu,
        ..
    } = *topology;
    state.insert(
        Key::HostLink,
        Value::HostLink {
            host_mac,
            net_mac,
            mtu,
        },
    );
    state.insert(
        Key::NodeEntry,
        Value::NodeEntry {
            router4: topology.router4,
            router6: topology.router6,
            ipv4: topology.ipv4,
            ipv6: topology.ipv6,
            host_mac,
            host_link: LinkRef::Current,
            host_routing,
            reassembles,
            masquerade: topology.masquerade,
        },
    );
    let routers = both(topology.router4, topology.router6);
    for (router, pool) in routers.into_iter().zip(pools(topology)) {
        if let (Some(router), Some(pool)) = (router, pool) {
            add_router(state, router, pool);
            if reassembles {
                state.insert(Key::Reassembly(Family::of(router)), Value::Reassembly);
            }
        }
    }
    for link in [Link::Host, Link::Net] {
        state.insert(Key::LinkUp(link), Value::LinkUp);
    }
}

/// Adds what the host needs to reach endpoints of a family, and to answer for them.
fn add_router(state: &mut State, router: IpAddr, pool: IpNet) {
    state.insert(
        Key::Address(Link::Host, IpNet::from(router)),
        Value::Address,
    );
    state.insert(
        Key::Route(Link::Host, pool),
        Value::Route {
            via: None,
            src: Some(router),
            mtu: None,
            metric: None,
        },
    );
    // What the datapath refuses it hands to cilium_net, for the kernel to answer.
    let priority = RULE_PRIORITY;
    state.insert(Key::Rule(Family::of(router)), Value::Rule { priority });
}

fn add_host_attachments(state: &mut State, ambient: &Ambient) {
    let kind = if ambient.tcx {
        AttachKind::Tcx
    } else {
        AttachKind::Clsact
    };
    for (hook, program) in [
        (Hook::Ingress, Program::ToHost),
        (Hook::Egress, Program::FromHost),
    ] {
        state.insert(
            Key::Attachment(Link::Host, hook),
            Value::Attachment {
                program,
                digest: Some(ambient.digest.clone()),
                kind,
            },
        );
    }
}

fn add_sysctls(state: &mut State, topology: &Topology, ambient: &Ambient) {
    let mut want = |path: String, value: &str| {
        state.insert(
            Key::Sysctl(path),
            Value::Sysctl {
                value: value.to_owned(),
            },
        );
    };
    if topology.ipv4.is_some() {
        for (name, value) in [
            ("forwarding", "1"),
            ("rp_filter", "0"),
            ("send_redirects", "0"),
        ] {
            want(format!("net/ipv4/conf/cilium_host/{name}"), value);
        }
        // The kernel answers for others only where it forwards.
        want("net/ipv4/conf/cilium_net/forwarding".to_owned(), "1");
        want("net/ipv4/conf/cilium_net/rp_filter".to_owned(), "0");
        let present = |device: &&Device| ambient.devices.contains_key(&device.name);
        for device in topology.devices.iter().filter(present) {
            want(format!("net/ipv4/conf/{}/forwarding", device.name), "1");
        }
    }
    if let Some(masquerade) = topology.masquerade {
        let ports = reserved::merge(&ambient.reserved_ports, masquerade.ports);
        want(RESERVED_PORTS.to_owned(), &ports);
    }
    if topology.ipv6.is_some() {
        for device in &ambient.ra_devices {
            want(accept_ra(device), "2");
        }
        want(IPV6_FORWARDING.to_owned(), "1");
    }
}

fn add_endpoint(state: &mut State, topology: &Topology, endpoint: &Endpoint, digest: &str) {
    let name = || endpoint.name.clone();
    state.insert(Key::EndpointLink(name()), endpoint_link(topology, endpoint));
    state.insert(
        Key::EndpointEntry(name()),
        endpoint_entry(topology, endpoint),
    );
    let hooks = [
        (Hook::Ingress, Program::FromContainer),
        (Hook::Egress, Program::ToContainer),
    ];
    for (hook, program) in hooks {
        // A tcx attach waits for an RCU grace period, 6–23 ms; a filter costs 0.1 ms.
        let kind = AttachKind::Clsact;
        state.insert(
            Key::Attachment(Link::Lxc(name()), hook),
            Value::Attachment {
                program,
                digest: Some(digest.to_owned()),
                kind,
            },
        );
    }
    let routers = both(topology.router4, topology.router6);
    for (address, router) in both(endpoint.ipv4, endpoint.ipv6).into_iter().zip(routers) {
        if let (Some(address), Some(router)) = (address, router) {
            add_family(state, &endpoint.name, address, router, topology.mtu);
            if topology.endpoint_routes {
                let route = Value::Route {
                    via: None,
                    src: Some(router),
                    mtu: None,
                    metric: None,
                };
                state.insert(Key::Route(Link::Lxc(name()), IpNet::from(address)), route);
            }
        }
    }
    for link in [Link::Lxc(name()), Link::Eth0(name())] {
        state.insert(Key::LinkUp(link), Value::LinkUp);
    }
}

/// Adds the address and the routes of one family to an endpoint's own link.
fn add_family(state: &mut State, name: &str, address: IpAddr, router: IpAddr, mtu: u32) {
    let eth0 = || Link::Eth0(name.to_owned());
    let everything = match router {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let everything = IpNet::new_assert(everything, 0);
    let via_router = Value::Route {
        via: Some(router),
        src: None,
        mtu: Some(mtu),
        metric: None,
    };
    state.insert(Key::Address(eth0(), IpNet::from(address)), Value::Address);
    state.insert(
        Key::Route(eth0(), IpNet::from(router)),
        Value::Route {
            via: None,
            src: None,
            mtu: None,
            metric: None,
        },
    );
    state.insert(Key::Route(eth0(), everything), via_router);
}

fn endpoint_link(topology: &Topology, endpoint: &Endpoint) -> Value {
    Value::EndpointLink {
        link: endpoint.link.clone(),
        netns: Some(Netns::clone(&endpoint.netns)),
        lxc_mac: endpoint.lxc_mac,
        mac: endpoint.mac,
        mtu: topology.mtu,
    }
}

fn endpoint_entry(topology: &Topology, endpoint: &Endpoint) -> Value {
    Value::EndpointEntry {
        id: endpoint.id,
        ipv4: endpoint.ipv4,
        ipv6: endpoint.ipv6,
        mac: endpoint.mac,
        lxc_mac: endpoint.lxc_mac,
        mtu: topology.mtu,
        link: LinkRef::Current,
    }
}

fn pools(topology: &Topology) -> [Option<IpNet>; 2] {
    [topology.ipv4.map(IpNet::V4), topology.ipv6.map(IpNet::V6)]
}

fn both(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> [Option<IpAddr>; 2] {
    [v4.map(IpAddr::V4), v6.map(IpAddr::V6)]
}

/// Returns a digest of everything that the decision about a flow depends on: the entries of the
/// maps, and the build of the programs that read them.
fn fingerprint(state: &State, digest: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(digest);
    for entry in state {
        if entry.0.decides() {
            hasher.update(serde_json::to_vec(&entry).expect("keys and values are plain data"));
        }
    }
    let digest = hasher.finalize();
    let first = digest.first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}
