//! What stands in the way of BPF host routing besides firewalls.

use ciliate::host::surroundings::{self, Interest};

use crate::isolated;
use crate::run::{ip, nft, veth};

fn interest() -> Interest {
    Interest {
        endpoint_links: vec!["lxcweb".into()],
        devices: vec!["eth0".into()],
        pools: vec![
            "10.0.1.0/24".parse().unwrap(),
            "fd00:1::/64".parse().unwrap(),
        ],
        ..Interest::default()
    }
}

fn obstacles() -> Vec<String> {
    let found = surroundings::read("edge", &interest()).unwrap().obstacles;
    found.into_iter().map(|obstacle| obstacle.what).collect()
}

#[test]
fn default_rules_and_ours_are_no_obstacles() {
    isolated(|| {
        ip("rule add pref 3089 iif cilium_net prohibit protocol 193");

        assert_eq!(obstacles(), [""; 0]);
    });
}

#[test]
fn rule_that_asks_for_what_the_lookup_knows_is_no_obstacle() {
    isolated(|| {
        for selector in [
            "from 10.0.1.0/24",
            "to 198.51.100.0/24 iif eth0",
            "ipproto tcp dport 80",
            "uidrange 1000-1000",
            "iif docker0 fwmark 1",
            "from 172.16.0.0/12 to 172.16.0.0/12 fwmark 1",
            "oif eth0 fwmark 1",
        ] {
            ip(&format!("rule add {selector} lookup 100"));
        }

        assert_eq!(obstacles(), [""; 0]);
    });
}

#[test]
fn rule_that_asks_for_more_than_that_is_an_obstacle() {
    isolated(|| {
        ip("rule add pref 100 fwmark 0x1 lookup 100");
        ip("rule add pref 101 from 10.0.1.0/24 fwmark 0x10/0xff lookup main");
        ip("-6 rule add pref 102 not fwmark 0xca6c lookup 51820");
        ip("rule add pref 103 iif eth0 tos 0x10 lookup 100");

        assert_eq!(
            obstacles(),
            [
                "ip rule 100: from all fwmark 0x1 lookup 100",
                "ip rule 101: from 10.0.1.0/24 fwmark 0x10/0xff lookup main",
                "ip rule 103: from all iif eth0 tos 0x10 lookup 100",
                "ip -6 rule 102: not from all fwmark 0xca6c lookup 51820",
            ]
        );
    });
}

#[test]
fn policy_of_ipsec_is_an_obstacle_if_it_can_match() {
    isolated(|| {
        for line in [
            "src 10.0.0.0/8 dst 198.51.100.0/24 dir out \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
            "src fd00::/8 dst ::/0 dir fwd action block",
            "src 10.0.0.0/8 dst 198.51.100.0/24 dir in \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
            "src 172.16.0.0/16 dst 172.17.0.0/16 dir out \
             tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
            "src 10.0.1.0/24 dst 203.0.113.0/24 dir out",
        ] {
            ip(&format!("xfrm policy add {line}"));
        }

        assert_eq!(
            obstacles(),
            [
                "ip xfrm policy: src 10.0.0.0/8 dst 198.51.100.0/24 dir out",
                "ip xfrm policy: src fd00::/8 dst ::/0 dir fwd",
            ]
        );
    });
}

#[test]
fn network_of_another_link_is_left_to_the_stack() {
    isolated(|| {
        veth("docker0", "far");
        ip("address add 172.17.0.1/16 dev docker0");
        nft("table ip nat { chain post {
                 type nat hook postrouting priority 100;
                 ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade
             } }");

        assert_eq!(obstacles(), [""; 0]);
        ip("address del 172.17.0.1/16 dev docker0");
        assert_eq!(obstacles().len(), 1, "it may come from anywhere then");
    });
}
