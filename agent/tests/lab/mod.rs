//! Topologies that the tests of the planner share, and the states that they call for.
//!
//! Every topology is the lab node with one thing changed: `edge-1` with the endpoints `web` and
//! `db`, both families. Built by hand, so that these tests judge the planner alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use ciliate::plan::desired;
use ciliate::plan::object::{
    Ambient, DeviceFacts, DeviceKind, Filtering, Mac, Mapping, Masquerade, Netns, NextHop,
    PortSelection, State, Timeouts,
};
use ciliate::plan::policy::{Policy as Tables, Subject};
use ciliate::topology::policy::Policy;
use ciliate::topology::{Capacity, Device, Endpoint, HostRouting, Peer, Prefix, Topology, Uplink};

pub(crate) const DIGEST: &str = "1111111111111111";

/// Returns a kernel with tcx, a bpffs and no router in sight. Its devices are `eth0`, behind
/// which a peer is, and `eth1`.
pub(crate) fn ambient() -> Ambient {
    let peer = "192.0.2.11".parse().unwrap();
    let hop = NextHop {
        device: "eth0".to_owned(),
        gateway: None,
    };
    let devices = [("eth0", 10), ("eth1", 20)];
    Ambient {
        tcx: true,
        reassembly: true,
        bpffs: true,
        digest: DIGEST.to_owned(),
        devices: devices
            .map(|(name, last)| (name.to_owned(), facts(last)))
            .into(),
        peer_hops: BTreeMap::from([(peer, hop)]),
        local_port_range: Some((32_768, 60_999)),
        ..Ambient::default()
    }
}

/// Returns an Ethernet device whose addresses end with this number.
pub(crate) fn facts(last: u8) -> DeviceFacts {
    DeviceFacts {
        mac: Some(Mac([0x52, 0x54, 0, 0, 0, last])),
        kind: DeviceKind::Ethernet,
        master: None,
        addresses4: vec![Ipv4Addr::new(192, 0, 2, last)],
        addresses6: vec![Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())],
        own: Vec::new(),
        mtu: 1500,
        max_mtu: Some(9000),
        up: true,
    }
}

pub(crate) fn desired_of(topology: &Topology, ambient: &Ambient) -> State {
    desired(topology, ambient, Path::new("/sys/fs/bpf"))
        .unwrap()
        .state
}

/// Returns the policy of a node with its tables changed.
fn with(topology: &Topology, change: impl FnOnce(&mut Tables)) -> Policy {
    let mut policy = topology.policy.clone();
    change(Arc::make_mut(&mut policy.tables));
    policy
}

/// Returns a policy that knows endpoints and the node, and allows everything.
fn open(endpoints: &[Endpoint]) -> Policy {
    let subject = |identity| Subject {
        identity,
        ..Subject::default()
    };
    let known = endpoints
        .iter()
        .map(|endpoint| (endpoint.id, subject(endpoint.identity)));
    let tables = Tables {
        subjects: known.chain([(0, subject(1))]).collect(),
        ..Tables::default()
    };
    Policy {
        tables: Arc::new(tables),
        ..Policy::default()
    }
}

/// Returns `edge-1` with `web` and `db`.
pub(crate) fn lab() -> Topology {
    with_endpoints(&["web", "db"])
}

/// Returns `edge-1` with these endpoints, numbered in this order.
pub(crate) fn with_endpoints(names: &[&str]) -> Topology {
    let endpoints = (2..)
        .zip(names)
        .map(|(id, name)| endpoint(name, id))
        .collect::<Vec<_>>();
    Topology {
        policy: open(&endpoints),
        node: "edge-1".to_owned(),
        addresses: Vec::new(),
        ipv4: Some("10.0.1.0/24".parse().unwrap()),
        ipv6: Some("fd00:1::/64".parse().unwrap()),
        router4: Some(Ipv4Addr::new(10, 0, 1, 1)),
        router6: Some("fd00:1::1".parse().unwrap()),
        mtu: 1500,
        host_mac: Mac([0x02, 0, 0, 0, 0, 0x01]),
        net_mac: Mac([0x02, 0, 0, 0, 0, 0x02]),
        endpoints,
        peers: Vec::new(),
        devices: Vec::new(),
        masquerade: None,
        host_routing: HostRouting::Auto,
        endpoint_routes: false,
        capacity: Capacity::default(),
    }
}

/// Returns the lab behind an `eth0` that the agent configures.
pub(crate) fn configured() -> Topology {
    let mut topology = outside();
    topology.devices[0].uplink = Uplink {
        addresses: vec!["192.0.2.10/24".parse().unwrap()],
        gateways: vec!["192.0.2.1".parse().unwrap()],
        mtu: Some(1400),
        dhcp: None,
    };
    topology
}

/// Returns the lab behind `eth0`, which masquerades, with the peer `edge-2`.
pub(crate) fn outside() -> Topology {
    let known = |identity| Prefix {
        identity,
        excluded: true,
    };
    let prefixes = [
        ("10.0.0.0/8", known(2)),
        ("10.0.2.0/24", known(2)),
        ("10.0.2.10/32", known(1010)),
        ("192.0.2.11/32", known(6)),
        ("fd00:1::/64", known(2)),
    ];
    Topology {
        addresses: vec![Ipv4Addr::new(192, 0, 2, 10).into()],
        devices: vec![device("eth0", true)],
        masquerade: Some(masquerade((49_152, 65_535))),
        policy: with(&lab(), |tables| {
            tables.prefixes = prefixes
                .map(|(prefix, known)| (prefix.parse().unwrap(), known))
                .into();
        }),
        peers: vec![Peer {
            name: "edge-2".to_owned(),
            addresses: vec![Ipv4Addr::new(192, 0, 2, 11).into()],
            ipv4: Some("10.0.2.0/24".parse().unwrap()),
            ipv6: None,
        }],
        ..lab()
    }
}

/// Returns the same with another port range, translated to addresses that the file gives.
pub(crate) fn retranslated() -> Topology {
    let mut topology = Topology {
        masquerade: Some(masquerade((40_000, 49_999))),
        ..outside()
    };
    topology.devices[0].masquerade4 = Some(Ipv4Addr::new(203, 0, 113, 3));
    topology
}

/// Returns the same with two devices, of which none masquerades, through the host's stack.
pub(crate) fn legacy() -> Topology {
    Topology {
        devices: vec![device("eth0", false), device("eth1", false)],
        masquerade: None,
        host_routing: HostRouting::Legacy,
        ..outside()
    }
}

/// Returns the lab with a route to each endpoint.
pub(crate) fn routed() -> Topology {
    Topology {
        endpoint_routes: true,
        ..lab()
    }
}

/// Returns the same with the prefixes of the node and of its peer exchanged.
pub(crate) fn exchanged() -> Topology {
    let mut topology = outside();
    std::mem::swap(&mut topology.ipv4, &mut topology.peers[0].ipv4);
    topology.router4 = Some(Ipv4Addr::new(10, 0, 2, 1));
    for endpoint in &mut topology.endpoints {
        let [.., last] = endpoint.ipv4.unwrap().octets();
        endpoint.ipv4 = Some(Ipv4Addr::new(10, 0, 2, last));
    }
    topology
}

pub(crate) fn device(name: &str, masquerade: bool) -> Device {
    Device {
        name: name.to_owned(),
        required: true,
        masquerade,
        masquerade4: None,
        masquerade6: None,
        uplink: Uplink::default(),
    }
}

fn masquerade(ports: (u16, u16)) -> Masquerade {
    Masquerade {
        ports,
        mapping: Mapping::default(),
        filtering: Filtering::default(),
        selection: PortSelection::default(),
        max_ports: 0,
        timeouts: Timeouts::default(),
    }
}

/// Returns the topology with one endpoint changed.
pub(crate) fn changed(
    mut topology: Topology,
    name: &str,
    change: impl FnOnce(&mut Endpoint),
) -> Topology {
    let mut endpoints = topology.endpoints.iter_mut();
    change(endpoints.find(|endpoint| endpoint.name == name).unwrap());
    topology
}

/// Returns the lab with `db` called `data`, in the same namespace, with the same addresses.
pub(crate) fn renamed() -> Topology {
    changed(lab(), "db", |db| {
        "data".clone_into(&mut db.name);
        "lxcdata".clone_into(&mut db.link);
        db.lxc_mac = mac(0x0a, "data");
        db.mac = mac(0x0e, "data");
    })
}

/// Returns the lab with `web` at another address.
pub(crate) fn moved() -> Topology {
    changed(lab(), "web", |web| {
        web.ipv4 = Some(Ipv4Addr::new(10, 0, 1, 99));
        web.ipv6 = Some("fd00:1::99".parse().unwrap());
    })
}

/// Returns the lab with the addresses of `web` and `db` exchanged.
pub(crate) fn swapped() -> Topology {
    let mut topology = lab();
    let (web, db) = (topology.endpoints[0].clone(), topology.endpoints[1].clone());
    (topology.endpoints[0].ipv4, topology.endpoints[0].ipv6) = (db.ipv4, db.ipv6);
    (topology.endpoints[1].ipv4, topology.endpoints[1].ipv6) = (web.ipv4, web.ipv6);
    topology
}

/// Returns the lab with other labels on `web`.
pub(crate) fn relabelled() -> Topology {
    let lab = lab();
    let policy = with(&lab, |tables| {
        let web = tables.subjects.get_mut(&2).expect("the slot of web");
        web.identity = 70_000;
    });
    Topology { policy, ..lab }
}

/// Returns the lab with `web` in another namespace.
pub(crate) fn replaced_namespace() -> Topology {
    changed(lab(), "web", |web| {
        web.netns = Netns::Path("/run/box/web".into());
    })
}

/// Returns the lab with a smaller MTU.
pub(crate) fn narrow() -> Topology {
    Topology { mtu: 1400, ..lab() }
}

/// Returns the lab with IPv4 alone.
pub(crate) fn v4_only() -> Topology {
    let mut topology = Topology {
        ipv6: None,
        router6: None,
        ..lab()
    };
    topology
        .endpoints
        .iter_mut()
        .for_each(|endpoint| endpoint.ipv6 = None);
    topology
}

/// Returns the lab with IPv6 alone.
pub(crate) fn v6_only() -> Topology {
    let mut topology = Topology {
        ipv4: None,
        router4: None,
        ..lab()
    };
    topology
        .endpoints
        .iter_mut()
        .for_each(|endpoint| endpoint.ipv4 = None);
    topology
}

/// Returns the lab with other prefixes and routers.
pub(crate) fn renumbered() -> Topology {
    let mut topology = Topology {
        ipv4: Some("10.9.0.0/24".parse().unwrap()),
        ipv6: Some("fd00:9::/64".parse().unwrap()),
        router4: Some(Ipv4Addr::new(10, 9, 0, 1)),
        router6: Some("fd00:9::1".parse().unwrap()),
        ..lab()
    };
    for endpoint in &mut topology.endpoints {
        let id = endpoint.id;
        endpoint.ipv4 = Some(Ipv4Addr::new(10, 9, 0, u8::try_from(id).unwrap() + 8));
        endpoint.ipv6 = Some(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, id + 8));
    }
    topology
}

/// Returns `edge-1` with 16 endpoints, which need more slices than the smallest tables have.
pub(crate) fn crowd() -> Topology {
    let names: Vec<String> = (0..16).map(|number| format!("box{number:02}")).collect();
    with_endpoints(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn endpoint(name: &str, id: u16) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        id,
        identity: 1000 + u32::from(id),
        netns: Netns::Name(name.to_owned()),
        ipv4: Some(Ipv4Addr::new(10, 0, 1, u8::try_from(id).unwrap() + 8)),
        ipv6: Some(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, id + 8)),
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        link: format!("lxc{name}"),
        lxc_mac: mac(0x0a, name),
        mac: mac(0x0e, name),
        place: "lab.toml:1:1".to_owned(),
    }
}

/// Returns an address that the name and the side of the pair decide.
fn mac(side: u8, name: &str) -> Mac {
    let sum = name.bytes().fold(0u16, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let [high, low] = sum.to_be_bytes();
    Mac([side, 0, 0, 0, high, low])
}
