//! A node with endpoints: its desired state, and the way there and back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ciliate::host::{Executor, Names, Observation, observe};
use ciliate::plan::object::{Key, Link, Mac, Netns, State, Value};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Endpoint;

pub(crate) const NODE: &str = "edge";

/// Is a node in the calling thread's namespace, whose endpoints have namespaces of their own.
pub(crate) struct Node {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) desired: State,
    pub(crate) originals: BTreeMap<String, String>,
}

impl Node {
    pub(crate) fn new(endpoints: u8) -> Self {
        let mut node = Self {
            endpoints: (0..endpoints).map(|_| Endpoint::new()).collect(),
            desired: host_objects(),
            originals: BTreeMap::new(),
        };
        for number in 0..endpoints {
            let netns = node.endpoints[usize::from(number)].netns.clone();
            node.desired.extend(endpoint_objects(number, netns));
        }
        node
    }

    pub(crate) fn observe(&self) -> Observation {
        observe(NODE, &self.desired, &self.originals).unwrap()
    }

    pub(crate) fn executor(&self) -> Executor {
        let names = Names::new(&self.desired, &self.observe().objects);
        Executor::new(NODE, names, self.originals.clone()).unwrap()
    }

    pub(crate) fn apply(&mut self) {
        let mut executor = self.executor();
        for (key, value) in &self.desired {
            executor.add(key, value).unwrap();
        }
        self.originals = executor.originals.clone();
    }

    pub(crate) fn remove(&mut self) {
        let mut executor = self.executor();
        self.desired.clear();
        for (key, value) in self.observe().objects.iter().rev() {
            executor.remove(key, value).unwrap();
        }
        executor.finish().unwrap();
    }
}

pub(crate) fn name(number: u8) -> String {
    format!("web{number}")
}

pub(crate) fn lxc_mac(number: u8) -> Mac {
    Mac([0x02, 0, 0, 0, 1, number])
}

pub(crate) fn eth0_mac(number: u8) -> Mac {
    Mac([0x02, 0, 0, 0, 2, number])
}

fn host_objects() -> State {
    let pool4 = IpNet::from(Ipv4Net::new(Ipv4Addr::new(10, 0, 1, 0), 24).unwrap());
    let pool6 = IpNet::from(Ipv6Net::new("fd00:1::".parse().unwrap(), 64).unwrap());
    let pair = Value::HostLink {
        host_mac: Mac([0x02, 0, 0, 0, 0, 1]),
        net_mac: Mac([0x02, 0, 0, 0, 0, 2]),
        mtu: 1500,
    };
    let forwarding = Value::Sysctl { value: "1".into() };
    let through = |src| Value::Route {
        via: None,
        src: Some(src),
        mtu: None,
        metric: None,
    };
    State::from([
        (Key::HostLink, pair),
        (
            sysctl("net/ipv4/conf/cilium_host/forwarding"),
            forwarding.clone(),
        ),
        (sysctl("net/ipv6/conf/all/forwarding"), forwarding),
        (
            Key::Address(Link::Host, IpNet::from(IpAddr::from(router4()))),
            Value::Address,
        ),
        (
            Key::Address(Link::Host, IpNet::from(IpAddr::from(router6()))),
            Value::Address,
        ),
        (Key::LinkUp(Link::Host), Value::LinkUp),
        (Key::LinkUp(Link::Net), Value::LinkUp),
        (Key::Route(Link::Host, pool4), through(router4().into())),
        (Key::Route(Link::Host, pool6), through(router6().into())),
    ])
}

fn endpoint_objects(number: u8, netns: Netns) -> State {
    let link = Value::EndpointLink {
        link: format!("lxc{}", name(number)),
        netns: Some(netns),
        lxc_mac: lxc_mac(number),
        mac: eth0_mac(number),
        mtu: 1500,
    };
    let (lxc, eth0) = (Link::Lxc(name(number)), Link::Eth0(name(number)));
    let mut objects = State::from([
        (Key::EndpointLink(name(number)), link),
        (Key::LinkUp(lxc), Value::LinkUp),
    ]);
    let address4 = Ipv4Addr::new(10, 0, 1, 10 + number);
    let address6 = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 1, number.into());
    for address in [
        IpNet::from(Ipv4Net::from(address4)),
        Ipv6Net::from(address6).into(),
    ] {
        objects.insert(Key::Address(eth0.clone(), address), Value::Address);
    }
    let any4 = IpNet::from(Ipv4Net::default());
    let any6 = IpNet::from(Ipv6Net::default());
    for (router, any) in [
        (IpNet::from(IpAddr::from(router4())), any4),
        (IpNet::from(IpAddr::from(router6())), any6),
    ] {
        let route = |via, mtu| Value::Route {
            via,
            src: None,
            mtu,
            metric: None,
        };
        let default = route(Some(router.addr()), Some(1500));
        objects.insert(Key::Route(eth0.clone(), router), route(None, None));
        objects.insert(Key::Route(eth0.clone(), any), default);
    }
    objects
}

fn sysctl(path: &str) -> Key {
    Key::Sysctl(path.into())
}

fn router4() -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 1)
}

fn router6() -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1)
}
