//! Routes of ours, and what the kernel says about bad ones.

use std::net::IpAddr;

use ciliate::host::mark::Mark;
use ciliate::host::route::{self, Route};
use ciliate::host::veth::{self, HostPair};
use ciliate::host::{Netlink, address, link};
use ipnet::IpNet;

use crate::{isolated, mac};

/// Makes `cilium_host` with the two router addresses; returns its index.
fn host_link(netlink: &mut Netlink) -> u32 {
    let pair = HostPair {
        host_mac: mac(1),
        net_mac: mac(2),
        mtu: 1500,
    };
    veth::create_host_pair(netlink, &Mark::new("edge"), &pair).unwrap();
    link::set_up(netlink, "cilium_host", true).unwrap();
    let index = link::index(netlink, "cilium_host").unwrap();
    for router in ["10.0.1.1/32", "fd00:1::1/128"] {
        address::add(netlink, index, "cilium_host", router.parse().unwrap()).unwrap();
    }
    index
}

fn pool(link: u32, prefix: &str, src: &str) -> Route {
    Route {
        link,
        prefix: prefix.parse::<IpNet>().unwrap(),
        via: None,
        src: Some(src.parse::<IpAddr>().unwrap()),
        mtu: None,
        metric: None,
    }
}

#[test]
fn routes_of_both_families_read_back_as_they_were_written() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        let routes = [
            pool(link, "10.0.1.0/24", "10.0.1.1"),
            pool(link, "fd00:1::/64", "fd00:1::1"),
        ];

        for route in &routes {
            route::add(&mut netlink, route, "cilium_host").unwrap();
            route::add(&mut netlink, route, "cilium_host").unwrap();
        }

        assert_eq!(route::dump(&mut netlink).unwrap(), routes);
    });
}

#[test]
fn default_routes_carry_gateway_and_mtu() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        let mut wanted = Vec::new();
        for (router, any) in [("10.0.1.9", "0.0.0.0/0"), ("fd00:1::9", "::/0")] {
            let host: IpAddr = router.parse().unwrap();
            let direct = Route {
                prefix: IpNet::from(host),
                src: None,
                ..pool(link, any, router)
            };
            let default = Route {
                via: Some(host),
                src: None,
                mtu: Some(1300),
                metric: None,
                ..pool(link, any, router)
            };
            wanted.extend([direct, default]);
        }

        for route in &wanted {
            route::add(&mut netlink, route, "cilium_host").unwrap();
        }

        let found = route::dump(&mut netlink).unwrap();
        assert_eq!(found.len(), wanted.len());
        for route in wanted {
            assert!(found.contains(&route), "{route} should be in {found:?}");
        }
    });
}

#[test]
fn replacing_a_route_changes_its_mtu() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        for (prefix, src) in [("10.0.1.0/24", "10.0.1.1"), ("fd00:1::/64", "fd00:1::1")] {
            let before = pool(link, prefix, src);
            route::add(&mut netlink, &before, "cilium_host").unwrap();
            let after = Route {
                mtu: Some(1300),
                metric: None,
                ..before.clone()
            };

            route::replace(&mut netlink, &after, "cilium_host").unwrap();

            let found = route::dump(&mut netlink).unwrap();
            assert!(found.contains(&after), "{found:?}");
            assert!(!found.contains(&before), "{found:?}");
        }
    });
}

#[test]
fn refused_route_says_what_the_kernel_said() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        let unreachable = Route {
            via: Some("192.0.2.1".parse().unwrap()),
            src: None,
            ..pool(link, "10.1.0.0/16", "10.0.1.1")
        };

        let error = route::add(&mut netlink, &unreachable, "cilium_host").unwrap_err();

        assert_eq!(
            error.to_string(),
            "add route 10.1.0.0/16 via 192.0.2.1 dev cilium_host: Network is unreachable \
             (kernel: Nexthop has invalid gateway)"
        );
    });
}

#[test]
fn route_of_somebody_else_is_neither_replaced_nor_deleted() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        let theirs = ["route", "add", "10.0.1.0/24", "dev", "cilium_host"];
        let status = std::process::Command::new("ip").args(theirs).status();
        assert!(status.unwrap().success());
        let ours = pool(link, "10.0.1.0/24", "10.0.1.1");

        let error = route::add(&mut netlink, &ours, "cilium_host").unwrap_err();
        route::del(&mut netlink, link, "cilium_host", ours.prefix).unwrap();

        assert!(error.is_exists(), "{error}");
        let show = std::process::Command::new("ip")
            .args(["route", "show", "10.0.1.0/24"])
            .output();
        let shown = String::from_utf8(show.unwrap().stdout).unwrap();
        assert!(shown.contains("dev cilium_host"), "should still be there");
    });
}

#[test]
fn deleting_a_route_twice_succeeds() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        for (prefix, src) in [("10.0.1.0/24", "10.0.1.1"), ("fd00:1::/64", "fd00:1::1")] {
            let route = pool(link, prefix, src);
            route::add(&mut netlink, &route, "cilium_host").unwrap();

            route::del(&mut netlink, link, "cilium_host", route.prefix).unwrap();
            route::del(&mut netlink, link, "cilium_host", route.prefix).unwrap();
        }

        assert_eq!(route::dump(&mut netlink).unwrap(), []);
    });
}

#[test]
fn device_with_an_advertised_default_route_is_found() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = host_link(&mut netlink);
        let advertised = "-6 route add default dev cilium_host proto ra metric 1024";
        let status = std::process::Command::new("ip")
            .args(advertised.split(' '))
            .status();
        assert!(status.unwrap().success());

        let found = route::dump_advertised(&mut netlink).unwrap();

        assert_eq!(found.into_iter().collect::<Vec<_>>(), [link]);
    });
}
