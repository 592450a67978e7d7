//! Veth pairs, addresses of links, and marks.

use ciliate::host::mark::Mark;
use ciliate::host::veth::{self, EndpointPair, HostPair};
use ciliate::host::{Netlink, address, link};
use ipnet::IpNet;

use crate::{Endpoint, isolated, mac};

const MTU: u32 = 1400;

fn web() -> EndpointPair<'static> {
    EndpointPair {
        endpoint: "web",
        netns: None,
        link: "lxcweb",
        lxc_mac: mac(1),
        mac: mac(2),
        mtu: MTU,
    }
}

fn create(netlink: &mut Netlink, endpoint: &Endpoint, pair: &EndpointPair) -> Result<(), String> {
    let mark = Mark::new("edge");
    let (mut inside, fd) = (endpoint.netlink(), endpoint.open());
    veth::create_endpoint_pair(netlink, &mut inside, fd, &mark, pair)
        .map_err(|error| error.to_string())
}

#[test]
fn endpoint_pair_is_complete_on_both_sides() {
    isolated(|| {
        let (endpoint, mut netlink) = (Endpoint::new(), Netlink::open().unwrap());

        create(&mut netlink, &endpoint, &web()).unwrap();

        let lxc = link::get(&mut netlink, "lxcweb").unwrap().unwrap();
        let eth0 = link::get(&mut endpoint.netlink(), "eth0").unwrap().unwrap();
        assert_eq!((lxc.mac, eth0.mac), (Some(mac(1)), Some(mac(2))));
        assert_eq!((lxc.mtu, eth0.mtu), (MTU, MTU));
        assert_eq!((lxc.up, eth0.up), (false, true));
        assert_eq!(lxc.alias.as_deref(), Some("ciliate:edge:web"));
        assert_eq!(eth0.alias, lxc.alias);
        assert_eq!(lxc.peer, Some(eth0.index));
        assert_eq!(lxc.kind.as_deref(), Some("veth"));
        assert!(lxc.netnsid.is_some(), "the peer should be elsewhere");
    });
}

#[test]
fn creating_an_endpoint_pair_again_changes_nothing() {
    isolated(|| {
        let (endpoint, mut netlink) = (Endpoint::new(), Netlink::open().unwrap());
        create(&mut netlink, &endpoint, &web()).unwrap();
        let before = link::get(&mut netlink, "lxcweb").unwrap();

        create(&mut netlink, &endpoint, &web()).unwrap();

        assert_eq!(link::get(&mut netlink, "lxcweb").unwrap(), before);
    });
}

#[test]
fn eth0_of_somebody_else_is_left_alone() {
    isolated(|| {
        let (endpoint, mut netlink) = (Endpoint::new(), Netlink::open().unwrap());
        create(&mut netlink, &endpoint, &web()).unwrap();
        link::set_alias(&mut endpoint.netlink(), "eth0", "theirs").unwrap();
        let db = EndpointPair {
            endpoint: "db",
            link: "lxcdb",
            ..web()
        };

        let error = create(&mut netlink, &endpoint, &db).unwrap_err();

        assert!(
            error.contains("link eth0: exists and is not ours (alias theirs)"),
            "{error}"
        );
        assert_eq!(link::get(&mut netlink, "lxcdb").unwrap(), None);
    });
}

#[test]
fn hashed_link_is_found_by_the_full_name_of_its_endpoint() {
    isolated(|| {
        let (endpoint, mut netlink) = (Endpoint::new(), Netlink::open().unwrap());
        let pair = EndpointPair {
            endpoint: "a-name-of-an-endpoint-that-is-too-long-for-a-link",
            link: "lxc0123456789ab",
            ..web()
        };

        create(&mut netlink, &endpoint, &pair).unwrap();

        let show = std::process::Command::new("ip")
            .args(["link", "show", pair.endpoint])
            .output();
        let shown = String::from_utf8(show.unwrap().stdout).unwrap();
        assert!(shown.contains(pair.link), "{shown}");
    });
}

#[test]
fn host_pair_has_no_arp_and_no_ipv6_address_of_its_own() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let pair = HostPair {
            host_mac: mac(1),
            net_mac: mac(2),
            mtu: MTU,
        };

        veth::create_host_pair(&mut netlink, &Mark::new("edge"), &pair).unwrap();
        veth::create_host_pair(&mut netlink, &Mark::new("edge"), &pair).unwrap();
        link::set_up(&mut netlink, "cilium_net", true).unwrap();
        link::set_up(&mut netlink, "cilium_host", true).unwrap();

        for (name, address) in [("cilium_host", mac(1)), ("cilium_net", mac(2))] {
            let link = link::get(&mut netlink, name).unwrap().unwrap();
            assert_eq!(link.mac, Some(address));
            assert_eq!((link.mtu, link.noarp, link.up), (MTU, true, true));
            assert_eq!(link.alias.as_deref(), Some("ciliate:edge"));
        }
        assert_eq!(address::dump(&mut netlink).unwrap(), []);
    });
}

#[test]
fn addresses_are_ours_and_usable_at_once() {
    isolated(|| {
        let (endpoint, mut netlink) = (Endpoint::new(), Netlink::open().unwrap());
        create(&mut netlink, &endpoint, &web()).unwrap();
        link::set_up(&mut netlink, "lxcweb", true).unwrap();
        let mut inside = endpoint.netlink();
        let eth0 = link::index(&mut inside, "eth0").unwrap();
        let wanted = ["10.0.1.10/32", "fd00:1::10/128"].map(|text| text.parse::<IpNet>().unwrap());

        for address in wanted {
            address::add(&mut inside, eth0, "eth0", address).unwrap();
            address::add(&mut inside, eth0, "eth0", address).unwrap();
        }

        let found = address::dump(&mut inside).unwrap();
        let found: Vec<_> = found.iter().filter(|address| address.ours).collect();
        assert_eq!(found.len(), 2);
        for (address, wanted) in found.iter().zip(wanted) {
            assert_eq!((address.link, address.address), (eth0, wanted));
            assert!(!address.is_tentative(), "{wanted} should be usable at once");
        }
    });
}

#[test]
fn deleting_an_address_twice_succeeds() {
    isolated(|| {
        let mut netlink = Netlink::open().unwrap();
        let lo = link::index(&mut netlink, "lo").unwrap();
        let address: IpNet = "fd00:1::10/128".parse().unwrap();
        address::add(&mut netlink, lo, "lo", address).unwrap();

        address::del(&mut netlink, lo, "lo", address).unwrap();
        address::del(&mut netlink, lo, "lo", address).unwrap();

        assert_eq!(address::dump(&mut netlink).unwrap(), []);
    });
}

#[test]
fn deleting_a_link_twice_succeeds() {
    isolated(|| {
        let (endpoint, mut netlink) = (Endpoint::new(), Netlink::open().unwrap());
        create(&mut netlink, &endpoint, &web()).unwrap();
        let lxc = link::get(&mut netlink, "lxcweb").unwrap().unwrap();

        link::del(&mut netlink, &lxc).unwrap();
        link::del(&mut netlink, &lxc).unwrap();

        let eth0 = link::get(&mut endpoint.netlink(), "eth0").unwrap();
        assert_eq!(eth0, None, "the peer should be gone too");
    });
}
