//! Topologies that the tests of the planner share, and the states that they call for.
//!
//! Every topology is the lab node with one thing changed: `edge-1` with the endpoints `web` and
//! `db`, both families. Built by hand, so that these tests judge the planner alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ciliate::plan::desired;
use ciliate::plan::object::{Ambient, Mac, Netns, State};
use ciliate::topology::{Capacity, Endpoint, HostRouting, Topology};

pub(crate) const DIGEST: &str = "1111111111111111";

/// Returns a kernel with tcx, a bpffs and no router in sight.
pub(crate) fn ambient() -> Ambient {
    Ambient {
        tcx: true,
        bpffs: true,
        digest: DIGEST.to_owned(),
        ..Ambient::default()
    }
}

pub(crate) fn desired_of(topology: &Topology, ambient: &Ambient) -> State {
    desired(topology, ambient, Path::new("/sys/fs/bpf"))
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
        .collect();
    Topology {
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
        prefixes: BTreeMap::new(),
        host_routing: HostRouting::Auto,
        capacity: Capacity::default(),
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
    changed(lab(), "web", |web| web.identity = 70_000)
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
