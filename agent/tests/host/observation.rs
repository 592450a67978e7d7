//! What is observed after changes: by us, by an interruption, by somebody else.

use ciliate::host::mark::Mark;
use ciliate::host::observe::NO_MAC;
use ciliate::host::{Netlink, link, observe, sysctl, veth};
use ciliate::plan::object::{Key, Link, Netns, State, Value};

use crate::node::{NODE, Node, eth0_mac, lxc_mac, name};
use crate::{isolated, mac};

fn endpoint_link(state: &State, number: u8) -> &Value {
    &state[&Key::EndpointLink(name(number))]
}

#[test]
fn fresh_namespace_holds_nothing_of_ours() {
    isolated(|| {
        let node = Node::new(1);

        let found = node.observe();

        assert_eq!(found.objects, State::new());
        assert_eq!(
            found.sysctls.into_iter().collect::<Vec<_>>(),
            [("net/ipv6/conf/all/forwarding".to_owned(), "0".to_owned())],
            "only what exists without our links"
        );
    });
}

#[test]
fn state_that_was_applied_is_observed() {
    isolated(|| {
        let mut node = Node::new(2);

        node.apply();

        let found = node.observe();
        assert_eq!(found.objects, node.desired);
        assert!(found.sysctls.is_empty(), "all of them should be ours");
        assert_eq!(found.links.len(), 6, "{:?}", found.links);
    });
}

#[test]
fn applying_again_changes_nothing() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let before = node.observe();

        node.apply();

        assert_eq!(node.observe().links, before.links);
        assert_eq!(node.observe().objects, before.objects);
    });
}

#[test]
fn removal_leaves_nothing() {
    isolated(|| {
        let mut node = Node::new(2);
        node.apply();

        node.remove();

        let left = link::dump(&mut Netlink::open().unwrap()).unwrap();
        let left: Vec<_> = left.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(left, ["lo"]);
        let forwarding = sysctl::read("net/ipv6/conf/all/forwarding").unwrap();
        assert_eq!(forwarding.as_deref(), Some("0"), "should be restored");
    });
}

#[test]
fn link_that_is_removed_and_added_is_another_one() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let before = node.observe();
        let mut executor = node.executor();

        for key in [Key::EndpointLink(name(0)), Key::HostLink] {
            executor.remove(&key, &before.objects[&key]).unwrap();
            executor.remove(&key, &before.objects[&key]).unwrap();
            executor.add(&key, &node.desired[&key]).unwrap();
        }

        let after = node.observe();
        for role in [Link::Host, Link::Lxc(name(0))] {
            assert_ne!(after.links[&role], before.links[&role]);
        }
    });
}

#[test]
fn removal_that_was_killed_is_observed_and_repeated() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let before = node.observe();
        let mut killed = node.executor();
        for (key, value) in before.objects.iter().rev() {
            killed.remove(key, value).unwrap();
        }
        std::mem::forget(killed);

        let key = Key::EndpointLink(name(0));
        assert_ne!(
            node.observe().objects[&key],
            before.objects[&key],
            "should need a change if it is desired again"
        );
        node.remove();

        let left = link::dump(&mut Netlink::open().unwrap()).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
    });
}

#[test]
fn sysctl_that_somebody_changed_after_us_is_not_restored() {
    isolated(|| {
        let mut node = Node::new(0);
        node.apply();
        let key = Key::Sysctl("net/ipv4/conf/lo/rp_filter".into());
        let mut executor = node.executor();
        executor
            .originals
            .insert("net/ipv4/conf/lo/rp_filter".into(), "0".into());
        sysctl::write("net/ipv4/conf/lo/rp_filter", "2").unwrap();

        executor
            .remove(&key, &Value::Sysctl { value: "1".into() })
            .unwrap();

        let found = sysctl::read("net/ipv4/conf/lo/rp_filter").unwrap();
        assert_eq!(found.as_deref(), Some("2"));
    });
}

#[test]
fn interrupted_creation_is_completed_in_place() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let mut netlink = Netlink::open().unwrap();
        for name in ["cilium_host", "lxcweb0"] {
            link::set_alias(&mut netlink, name, "").unwrap();
        }
        let before = node.observe();
        let mut executor = node.executor();

        for key in [Key::HostLink, Key::EndpointLink(name(0))] {
            let (old, new) = (&before.objects[&key], &node.desired[&key]);
            assert_ne!(old, new, "should need a change");
            executor.change(&key, old, new).unwrap();
            assert_eq!(&node.observe().objects[&key], new);
        }

        assert_eq!(node.observe().links, before.links);
    });
}

#[test]
fn interrupted_creation_that_nobody_wants_any_more_is_removed() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let mut netlink = Netlink::open().unwrap();
        for name in ["cilium_host", "cilium_net", "lxcweb0"] {
            link::set_alias(&mut netlink, name, "").unwrap();
        }

        node.remove();

        let left = link::dump(&mut netlink).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
    });
}

#[test]
fn mtu_changes_in_place_on_both_ends() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let before = node.observe();
        let mut executor = node.executor();

        for key in [Key::HostLink, Key::EndpointLink(name(0))] {
            let old = node.desired[&key].clone();
            let mut new = old.clone();
            if let Value::HostLink { mtu, .. } | Value::EndpointLink { mtu, .. } = &mut new {
                *mtu = 1300;
            }
            executor.change(&key, &old, &new).unwrap();
            node.desired.insert(key.clone(), new.clone());
            assert_eq!(node.observe().objects[&key], new);
        }

        assert_eq!(node.observe().links, before.links);
    });
}

#[test]
fn one_end_with_another_mtu_is_noticed() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let mut inside = node.endpoints[0].netlink();

        link::set_mtu(&mut inside, "eth0", 1300).unwrap();

        let found = node.observe();
        assert_ne!(
            endpoint_link(&found.objects, 0),
            endpoint_link(&node.desired, 0)
        );
    });
}

#[test]
fn link_that_was_taken_down_inside_is_repaired_with_its_routes() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        link::set_up(&mut node.endpoints[0].netlink(), "eth0", false).unwrap();
        let broken = node.observe().objects;
        assert_ne!(broken, node.desired, "the routes should be missing");

        let mut executor = node.executor();
        for (key, value) in &node.desired {
            if !broken.contains_key(key) {
                executor.add(key, value).unwrap();
            }
        }

        assert_eq!(node.observe().objects, node.desired);
    });
}

#[test]
fn immutable_attributes_are_refused() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let key = Key::EndpointLink(name(0));
        let old = node.desired[&key].clone();
        let mut new = old.clone();
        if let Value::EndpointLink { mac, .. } = &mut new {
            *mac = lxc_mac(9);
        }

        let error = node.executor().change(&key, &old, &new).unwrap_err();

        assert_eq!(
            error.to_string(),
            "change link lxcweb0: MAC address of an existing object cannot be changed"
        );
    });
}

#[test]
fn peer_in_another_namespace_than_desired_is_missing() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let moved = crate::Endpoint::new();
        let key = Key::EndpointLink(name(0));
        if let Some(Value::EndpointLink { netns, .. }) = node.desired.get_mut(&key) {
            *netns = Some(moved.netns.clone());
        }

        let found = node.observe();

        let Value::EndpointLink { netns, mac, .. } = endpoint_link(&found.objects, 0) else {
            panic!("should be an endpoint's link");
        };
        assert_eq!((netns, *mac), (&None, NO_MAC));
        assert!(!found.links.contains_key(&Link::Eth0(name(0))));
    });
}

#[test]
fn undesired_endpoint_is_observed_by_its_name() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        node.desired.clear();

        let found = node.observe();

        let wanted = Value::EndpointLink {
            link: "lxcweb0".into(),
            netns: None,
            lxc_mac: lxc_mac(0),
            mac: NO_MAC,
            mtu: 1500,
        };
        assert_eq!(*endpoint_link(&found.objects, 0), wanted);
    });
}

#[test]
fn foreign_links_with_desired_names_are_refused_by_name() {
    isolated(|| {
        let node = Node::new(1);
        let mut netlink = Netlink::open().unwrap();
        let theirs = veth::HostPair {
            host_mac: mac(1),
            net_mac: mac(2),
            mtu: 1500,
        };
        veth::create_host_pair(&mut netlink, &Mark::new("other"), &theirs).unwrap();

        let error = observe(NODE, &node.desired, &node.originals).unwrap_err();
        let add = node.desired.get_key_value(&Key::HostLink).unwrap();
        let names = ciliate::host::Names::default();
        let mut executor =
            ciliate::host::Executor::new(NODE, names, node.originals.clone()).unwrap();
        let also = executor.add(add.0, add.1).unwrap_err();
        executor.remove(add.0, add.1).unwrap();

        let text = error.to_string();
        for name in ["cilium_host", "cilium_net"] {
            let expected = format!(
                "link {name}: exists and is not ours (alias ciliate:other); \
                 rename it, or remove it with `ip link del {name}`"
            );
            assert!(text.contains(&expected), "{text}");
        }
        assert!(also.to_string().contains("not ours"), "{also}");
        let left = link::get(&mut netlink, "cilium_host").unwrap();
        assert!(left.is_some(), "should be left alone");
    });
}

#[test]
fn every_unusable_namespace_is_named() {
    isolated(|| {
        let mut node = Node::new(4);
        let own = format!(
            "/proc/{}/task/{}/ns/net",
            std::process::id(),
            nix::unistd::gettid()
        );
        let shared = node.endpoints[2].netns.clone();
        for (number, place) in [
            (0, Netns::Name("no-such-netns".into())),
            (1, Netns::Path(own.into())),
            (3, shared),
        ] {
            let link = node.desired.get_mut(&Key::EndpointLink(name(number)));
            if let Some(Value::EndpointLink { netns, .. }) = link {
                *netns = Some(place);
            }
        }

        let error = observe(NODE, &node.desired, &node.originals).unwrap_err();

        let text = error.to_string();
        for part in [
            "endpoint web0: open network namespace no-such-netns: No such file or directory",
            "endpoint web1: namespace /proc/",
            "is the node's own",
            "is the one of endpoint web2",
        ] {
            assert!(text.contains(part), "{part} should be in: {text}");
        }
    });
}

#[test]
fn foreign_addresses_and_routes_are_not_observed() {
    isolated(|| {
        let mut node = Node::new(1);
        node.apply();
        let before = node.observe();
        for command in [
            "address add 192.0.2.1/24 dev cilium_host",
            "route add 198.51.100.0/24 dev cilium_host",
        ] {
            let status = std::process::Command::new("ip")
                .args(command.split(' '))
                .status();
            assert!(status.unwrap().success());
        }

        let after = node.observe();

        assert_eq!(after.objects, before.objects);
        assert_eq!(eth0_mac(0), lxc_mac_of_eth0(&after.objects));
    });
}

fn lxc_mac_of_eth0(state: &State) -> ciliate::plan::object::Mac {
    let Value::EndpointLink { mac, .. } = endpoint_link(state, 0) else {
        panic!("should be an endpoint's link");
    };
    *mac
}
