//! Devices that the file names, and the ways to peers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ciliate::host::route::{self, Route};
use ciliate::host::surroundings::{self, Interest, Surroundings};
use ciliate::host::{Executor, Names, Netlink, clock, link, observe};
use ciliate::plan::object::{DeviceKind, Key, Lifetime, Link, NextHop, State, Value};
use ipnet::IpNet;

use crate::isolated;
use crate::run::{ip, veth};

fn read(devices: &[&str], peers: &[&str]) -> Surroundings {
    let interest = Interest {
        devices: devices.iter().map(ToString::to_string).collect(),
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        ..Interest::default()
    };
    surroundings::read("edge", &interest).unwrap()
}

fn up(name: &str) {
    veth(name, &format!("{name}-far"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}-far up"));
}

#[test]
fn kind_and_master_of_a_device_are_told() {
    isolated(|| {
        up("eth0");
        ip("link add br0 type bridge");
        ip("link set eth0 master br0");
        ip("tuntap add tun0 mode tun");

        let devices = read(&["eth0", "br0", "tun0", "lo", "eth9"], &[]).devices;

        let kinds: Vec<_> = devices
            .iter()
            .map(|(name, facts)| (name.as_str(), facts.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                ("br0", DeviceKind::Ethernet),
                ("eth0", DeviceKind::Ethernet),
                ("lo", DeviceKind::Loopback),
                ("tun0", DeviceKind::NoEthernetHeader),
            ]
        );
        assert_eq!(devices["eth0"].master.as_deref(), Some("br0"));
        assert_eq!(devices["br0"].master, None);
        assert!(devices["eth0"].up && !devices["tun0"].up);
        assert!(devices["eth0"].mac.is_some() && devices["tun0"].mac.is_none());
        assert_eq!(devices["eth0"].mtu, 1500);
    });
}

#[test]
fn addresses_come_with_the_best_one_first() {
    isolated(|| {
        up("eth0");
        for address in [
            "198.51.100.9/24",
            "192.0.2.1/24",
            "192.0.2.2/24",
            "169.254.1.1/16 scope link",
            "fd00::1/64 nodad",
            "2001:db8::1/64 nodad",
            "2001:db8::2/64 nodad preferred_lft 0",
        ] {
            ip(&format!("address add {address} dev eth0"));
        }

        let facts = &read(&["eth0"], &[]).devices["eth0"];

        let texts = facts.addresses4.iter().map(ToString::to_string);
        let texts: Vec<String> = texts
            .chain(facts.addresses6.iter().map(ToString::to_string))
            .collect();
        assert_eq!(
            texts,
            [
                "198.51.100.9",
                "192.0.2.1",
                "192.0.2.2",
                "2001:db8::1",
                "fd00::1"
            ]
        );
    });
}

#[test]
fn way_to_a_peer_is_the_kernels() {
    isolated(|| {
        up("eth0");
        for line in [
            "address add 192.0.2.1/24 dev eth0",
            "address add 2001:db8::1/64 dev eth0 nodad",
            "route add 203.0.113.0/24 via 192.0.2.254",
            "route add 203.0.114.0/24 via inet6 2001:db8::fe",
            "route add unreachable 198.18.0.0/16",
            "-6 route add 2001:db8:1::/48 via 2001:db8::fe",
        ] {
            ip(line);
        }

        let peers = [
            "192.0.2.2",
            "203.0.113.2",
            "203.0.114.2",
            "2001:db8:1::2",
            "192.0.2.1",
            "198.18.0.1",
            "8.8.8.8",
            "2001:db8:9::9",
        ];
        let hops = read(&[], &peers).peer_hops;

        let hop = |gateway: Option<&str>| NextHop {
            device: "eth0".into(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        };
        let way = |peer: &str| hops.get(&peer.parse::<IpAddr>().unwrap()).cloned();
        assert_eq!(way("192.0.2.2"), Some(hop(None)));
        assert_eq!(way("203.0.113.2"), Some(hop(Some("192.0.2.254"))));
        assert_eq!(way("203.0.114.2"), Some(hop(Some("2001:db8::fe"))));
        assert_eq!(way("2001:db8:1::2"), Some(hop(Some("2001:db8::fe"))));
        assert_eq!(
            hops.len(),
            4,
            "the others are our own or unreachable: {hops:?}"
        );
    });
}

/// Returns the route to a peer's pool through a device.
fn peer_route(device: &str, via: &str) -> (Key, Value) {
    let pool: IpNet = "10.0.2.0/24".parse().unwrap();
    let value = Value::Route {
        via: Some(via.parse().unwrap()),
        src: None,
        mtu: None,
        metric: None,
    };
    (Key::Route(Link::Device(device.into()), pool), value)
}

#[test]
fn route_moves_from_one_device_to_the_other() {
    isolated(|| {
        for (device, address) in [("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
            up(device);
            ip(&format!("address add {address} dev {device}"));
        }
        let (first, second) = (
            peer_route("eth0", "192.0.2.2"),
            peer_route("eth1", "198.51.100.2"),
        );
        let see = || observe("edge", &State::new(), &BTreeMap::default()).unwrap();
        let mut executor = Executor::new("edge", Names::default(), BTreeMap::default()).unwrap();

        executor.add(&first.0, &first.1).unwrap();
        executor.add(&first.0, &first.1).unwrap();
        assert_eq!(see().objects, State::from([first.clone()]));
        executor.add(&second.0, &second.1).unwrap();
        executor.remove(&first.0, &first.1).unwrap();
        assert_eq!(see().objects, State::from([second.clone()]));
        executor.remove(&second.0, &second.1).unwrap();
        executor.remove(&second.0, &second.1).unwrap();

        assert_eq!(see().objects, State::new());
        assert!(see().links.contains_key(&Link::Device("eth0".into())));
    });
}

#[test]
fn gateway_of_the_other_family_is_kept() {
    isolated(|| {
        up("eth0");
        ip("address add 2001:db8::1/64 dev eth0 nodad");
        let mut netlink = Netlink::open().unwrap();
        let route = Route {
            link: link::index(&mut netlink, "eth0").unwrap(),
            prefix: "10.0.2.0/24".parse().unwrap(),
            via: Some("2001:db8::2".parse().unwrap()),
            src: None,
            mtu: None,
            metric: None,
        };

        route::add(&mut netlink, &route, "eth0").unwrap();

        assert_eq!(route::dump(&mut netlink).unwrap(), [route]);
    });
}

#[test]
fn what_we_give_a_device_is_told_from_what_others_do() {
    isolated(|| {
        up("eth0");
        for address in ["198.51.100.1/24", "2001:db8:1::1/64"] {
            ip(&format!("address add {address} dev eth0"));
        }
        let device = || Link::Device("eth0".into());
        let see = |desired: &State| observe("edge", desired, &BTreeMap::default()).unwrap();
        let mut executor = Executor::new("edge", Names::default(), BTreeMap::default()).unwrap();
        let lifetime = Some(Lifetime {
            secs: 60,
            until_secs: clock::now().as_secs() + 60,
        });
        let given = State::from([
            given_address("192.0.2.1/24", None),
            given_address("192.0.2.2/32", lifetime),
            given_address("2001:db8::1/64", None),
            peer_route("eth0", "192.0.2.9"),
        ]);

        for (key, value) in &given {
            executor.add(key, value).unwrap();
        }
        assert_eq!(see(&given).objects, given);
        let foreign = Key::Address(device(), "198.51.100.1/24".parse().unwrap());
        assert!(see(&given).foreign.contains_key(&foreign));
        for (key, value) in given.iter().rev() {
            executor.remove(key, value).unwrap();
        }

        assert_eq!(see(&State::new()).objects, State::new());
        assert!(see(&State::new()).foreign.contains_key(&foreign));
    });
}

#[test]
fn lease_that_is_renewed_keeps_its_address() {
    isolated(|| {
        up("eth0");
        let mut executor = Executor::new("edge", Names::default(), BTreeMap::default()).unwrap();
        let until = |secs| {
            let until_secs = clock::now().as_secs() + u64::from(secs);
            given_address("192.0.2.1/24", Some(Lifetime { secs, until_secs }))
        };
        let (first, second) = (until(60), until(600));
        let state = State::from([second.clone()]);

        executor.add(&first.0, &first.1).unwrap();
        executor.change(&first.0, &first.1, &second.1).unwrap();

        let found = observe("edge", &state, &BTreeMap::default()).unwrap();
        assert_eq!(found.objects, state);
    });
}

/// Returns an address of `eth0` that is ours.
fn given_address(address: &str, lifetime: Option<Lifetime>) -> (Key, Value) {
    let key = Key::Address(Link::Device("eth0".into()), address.parse().unwrap());
    (key, Value::DeviceAddress { lifetime })
}

#[test]
fn default_routes_of_two_metrics_stand_beside_each_other() {
    isolated(|| {
        up("eth0");
        ip("address add 192.0.2.1/24 dev eth0");
        ip("route add default via 192.0.2.9");
        let mut netlink = Netlink::open().unwrap();
        let route = Route {
            link: link::index(&mut netlink, "eth0").unwrap(),
            prefix: IpNet::from(ipnet::Ipv4Net::default()),
            via: Some("192.0.2.8".parse().unwrap()),
            src: None,
            mtu: None,
            metric: Some(2000),
        };

        route::add(&mut netlink, &route, "eth0").unwrap();
        route::add(&mut netlink, &route, "eth0").unwrap();

        assert_eq!(
            route::dump(&mut netlink).unwrap(),
            std::slice::from_ref(&route)
        );
        assert_eq!(route::dump_foreign_defaults(&mut netlink).unwrap().len(), 1);
        route::del(&mut netlink, route.link, "eth0", route.prefix).unwrap();
        assert_eq!(route::dump(&mut netlink).unwrap(), []);
        assert_eq!(route::dump_foreign_defaults(&mut netlink).unwrap().len(), 1);
    });
}

#[test]
fn rule_is_an_object_like_others() {
    use ciliate::config::family::Family;
    isolated(|| {
        let value = |priority| Value::Rule { priority };
        let see = || {
            observe("edge", &State::new(), &BTreeMap::default())
                .unwrap()
                .objects
        };
        let mut executor = Executor::new("edge", Names::default(), BTreeMap::default()).unwrap();
        let key = Key::Rule(Family::V6);

        executor.add(&key, &value(3089)).unwrap();
        assert_eq!(see(), State::from([(key.clone(), value(3089))]));
        executor.change(&key, &value(3089), &value(3090)).unwrap();
        assert_eq!(see(), State::from([(key.clone(), value(3090))]));
        executor.remove(&key, &value(3090)).unwrap();

        assert_eq!(see(), State::new());
    });
}

#[test]
fn ports_are_read_as_the_kernel_prints_them() {
    isolated(|| {
        std::fs::write(
            "/proc/sys/net/ipv4/ip_local_reserved_ports",
            "9148-9150,8080,8081",
        )
        .unwrap();

        let found = read(&[], &[]);

        assert_eq!(found.reserved_ports, "8080-8081,9148-9150");
        assert_eq!(found.local_port_range, Some((32768, 60999)));
    });
}
