//! What of nftables matters to endpoints' packets, and what does not.

use ciliate::host::firewall::{self, Traffic, bypass, nat};
use ciliate::plan::object::{Obstacle, ObstacleKind};

use crate::isolated;
use crate::run::{ip, nft, veth};

fn traffic() -> Traffic {
    Traffic {
        endpoints: vec!["lxcweb".into()],
        devices: vec!["eth0".into()],
        pools: vec![
            "10.0.1.0/24".parse().unwrap(),
            "fd00:1::/64".parse().unwrap(),
        ],
        foreign: vec!["172.17.0.0/16".parse().unwrap()],
    }
}

fn found() -> Vec<Obstacle> {
    bypass::bypassed(&firewall::dump().unwrap(), &traffic())
}

fn obstacles() -> Vec<String> {
    found().into_iter().map(|obstacle| obstacle.what).collect()
}

/// Sets up a forward chain with these rules, and returns what is found.
fn with_forward_rules(rules: &str) -> Vec<String> {
    let mut found = Vec::new();
    isolated(|| {
        nft(&format!(
            "table inet filter {{
                 map ways {{ type ifname : verdict; elements = {{ \"docker0\" : drop }} }}
                 set blocked {{ type ipv4_addr; elements = {{ 203.0.113.1 }} }}
                 chain docker {{ iifname \"docker0\" drop }}
                 chain any {{ drop }}
                 chain forward {{ type filter hook forward priority 0; {rules} }}
             }}"
        ));
        found = obstacles();
    });
    found
}

#[test]
fn namespace_without_a_firewall_has_no_obstacle() {
    isolated(|| assert_eq!(obstacles(), [""; 0]));
}

#[test]
fn chain_that_only_lets_pass_is_no_obstacle() {
    for rules in [
        "",
        "policy accept;",
        "ct state established,related accept",
        "counter accept",
        "tcp dport 22 return",
    ] {
        assert_eq!(with_forward_rules(rules), [""; 0], "{rules}");
    }
}

#[test]
fn rule_for_other_links_or_networks_is_no_obstacle() {
    for rules in [
        "iifname \"docker0\" drop",
        "oifname \"virbr*\" reject",
        "iifname { \"docker0\", \"virbr0\" } drop",
        "iifname vmap { \"docker0\" : drop, \"virbr0\" : drop }",
        "iifname vmap @ways",
        "iif \"lo\" drop",
        "jump docker",
        "ip saddr 172.17.0.0/16 drop",
        "ip daddr { 172.17.0.2, 172.17.4.0-172.17.5.255 } drop",
        "ip6 saddr fd77::/64 ip6 daddr fd78::/64 drop",
        "ip saddr 10.0.2.0/24 ip daddr 10.0.3.0/24 drop",
        "fib daddr type local drop",
    ] {
        assert_eq!(with_forward_rules(rules), [""; 0], "{rules}");
    }
}

#[test]
fn rule_that_can_match_is_named() {
    for (rules, named) in [
        ("drop", "drop"),
        ("iifname \"eth0\" drop", "iifname \"eth0\" drop"),
        ("iifname \"e*\" drop", "iifname \"e*\" drop"),
        ("iifname != \"docker0\" drop", "iifname != \"docker0\" drop"),
        (
            "iifname { \"docker0\", \"eth0\" } reject",
            "iifname { \"docker0\", \"eth0\" } reject",
        ),
        (
            "ip saddr 10.0.0.0/9 drop",
            "meta nfproto ipv4 ip saddr 10.0.0.0/9 drop",
        ),
        (
            "ip6 daddr fd00::/16 drop",
            "meta nfproto ipv6 ip6 daddr fd00::/16 drop",
        ),
        (
            "ip daddr 10.0.1.7-10.0.1.9 drop",
            "meta nfproto ipv4 ip daddr 10.0.1.7-10.0.1.9 drop",
        ),
        (
            "ip saddr { 10.0.1.0/25, 192.0.2.1 } drop",
            "meta nfproto ipv4 ip saddr { 10.0.1.0/25, 192.0.2.1 } drop",
        ),
        ("ip saddr @blocked drop", "meta nfproto ipv4 saddr … drop"),
        ("tcp dport 25 drop", "meta l4proto … payload … drop"),
        ("meta mark 7 drop", "meta mark … drop"),
        ("ct state invalid drop", "ct … drop"),
        ("jump any", "jump any"),
        ("meta mark set 7", "meta mark set"),
        ("log prefix \"seen\" accept", "log accept"),
        ("counter", "counter"),
        ("limit rate 5/second accept comment \"x\" ; drop", "drop"),
    ] {
        let found = with_forward_rules(rules);

        assert_eq!(found.len(), 1, "{rules}: {found:?}");
        let expected = found[0].strip_prefix("nftables: table inet filter, chain forward, handle ");
        let (_, rule) = expected.and_then(|text| text.split_once(": ")).unwrap();
        assert_eq!(rule, named, "{rules}");
    }
}

#[test]
fn policy_that_drops_is_an_obstacle_until_the_pools_are_accepted() {
    isolated(|| {
        nft(
            "table inet filter { chain forward { type filter hook forward priority 0; policy drop; } }",
        );
        let before = obstacles();

        let cure = found().remove(0).cure;
        for command in &cure {
            nft(command.strip_prefix("nft ").unwrap());
        }

        assert_eq!(
            before,
            ["nftables: table inet filter, chain forward (policy drop)"]
        );
        assert_eq!(
            cure[..2],
            [
                "nft insert rule inet filter forward ip saddr 10.0.1.0/24 accept",
                "nft insert rule inet filter forward ip daddr 10.0.1.0/24 accept",
            ]
        );
        assert_eq!(obstacles(), [""; 0], "all of it is accepted");
    });
}

#[test]
fn firewall_closes_a_pool_unless_connections_can_come_about() {
    let open = ["ip saddr 10.0.1.0/24 accept", "ip daddr 10.0.1.0/24 accept"];
    let open6 = "ip6 saddr fd00:1::/64 accept; ip6 daddr fd00:1::/64 accept";
    let established = "ct state established,related accept";
    let kind = |rules: &[&str]| {
        let mut kind = None;
        isolated(|| {
            nft(&format!(
                "table inet filter {{ chain forward {{
                     type filter hook forward priority 0; policy drop; {} }} }}",
                rules.join("; ")
            ));
            kind = found().first().map(|obstacle| obstacle.kind);
        });
        kind
    };

    for closed in [
        &[][..],
        &[established],
        &["tcp dport 22 accept"],
        &[open6],
        &[open6, established],
        // Nothing comes back, or nothing goes there.
        &[open6, open[0]],
        &[open6, open[1]],
        &["ip saddr 10.0.1.0/24 drop", "accept"],
    ] {
        assert_eq!(
            kind(closed),
            Some(ObstacleKind::ForwardClosed),
            "{closed:?}"
        );
    }
    for drops in [
        &[open6, open[0], established][..],
        &[open6, open[1], established],
    ] {
        assert_eq!(kind(drops), Some(ObstacleKind::ForwardDrop), "{drops:?}");
    }
    assert_eq!(
        kind(&["tcp dport 25 drop", "accept"]),
        Some(ObstacleKind::ForwardRules)
    );
    assert_eq!(kind(&[open6, open[0], open[1]]), None);
}

#[test]
fn rules_of_iptables_are_called_by_its_names() {
    isolated(|| {
        nft("table ip filter {
                 chain DOCKER-USER { }
                 chain FORWARD {
                     type filter hook forward priority 0; policy accept;
                     counter jump DOCKER-USER
                     iifname \"docker*\" counter drop
                     iifname \"eth*\" oifname != \"docker0\" ip daddr 10.0.1.5 counter drop
                     meta l4proto tcp counter drop
                 }
             }");

        let found = obstacles();

        assert_eq!(
            found,
            [
                "iptables: filter FORWARD rule 3: -i eth+ ! -o docker0 -d 10.0.1.5 -j DROP, \
              and 1 more rule"
            ]
        );
    });
}

#[test]
fn cure_goes_where_others_put_their_rules() {
    let commands = |rules: &str| {
        let mut found = Vec::new();
        isolated(|| {
            nft(rules);
            let obstacles = self::found().into_iter();
            found = obstacles.flat_map(|obstacle| obstacle.cure).collect();
        });
        found
    };
    let forward = "chain FORWARD { type filter hook forward priority 0; policy drop; }";

    let docker: Vec<String> = commands(&format!(
        "table ip filter {{ chain DOCKER-USER {{ }}\n{} }}",
        forward.replace("drop;", "drop; jump DOCKER-USER")
    ));
    let ufw = commands(&format!(
        "table ip6 filter {{ chain ufw6-user-forward {{ }}\n{forward} }}"
    ));
    let firewalld = commands(
        "table inet firewalld { chain filter_FORWARD {
             type filter hook forward priority 10; policy accept;
             ct state { established, related } accept
             reject with icmpx admin-prohibited
         } }",
    );

    assert_eq!(
        docker,
        [
            "iptables -I DOCKER-USER -s 10.0.1.0/24 -j ACCEPT",
            "iptables -I DOCKER-USER -d 10.0.1.0/24 -j ACCEPT",
        ]
    );
    assert_eq!(
        ufw,
        [
            "ufw route allow from fd00:1::/64",
            "ufw route allow to fd00:1::/64"
        ]
    );
    assert_eq!(
        firewalld.first().map(String::as_str),
        Some("firewall-cmd --permanent --zone=trusted --add-source=10.0.1.0/24")
    );
    assert_eq!(
        firewalld.last().map(String::as_str),
        Some("firewall-cmd --reload")
    );
}

#[test]
fn other_hooks_of_forwarded_packets_matter_too() {
    isolated(|| {
        nft("table ip nat {
                 chain in { type nat hook prerouting priority -100; fib daddr type local tcp dport 80 dnat to 172.17.0.2; }
                 chain out { type nat hook postrouting priority 100; oifname \"eth0\" masquerade; }
             }
             table ip raw { chain first { type filter hook prerouting priority -300; iifname \"eth0\" notrack; } }
             table ip own { chain input { type filter hook input priority 0; policy drop; } }
             table ip asleep { flags dormant; chain f { type filter hook forward priority 0; policy drop; } }");

        let found = obstacles();

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("nftables: table ip raw, chain first, handle "));
        assert!(found[1].starts_with("nftables: table ip nat, chain out, handle "));
    });
}

#[test]
fn translation_to_an_endpoint_matters_whatever_the_destination_was() {
    let found = |rule: &str| {
        let mut found = Vec::new();
        isolated(|| {
            nft(&format!(
                "table ip nat {{ chain in {{ type nat hook prerouting priority -100; {rule} }} }}"
            ));
            found = obstacles();
        });
        found
    };

    for rule in [
        "fib daddr type local tcp dport 80 dnat to 10.0.1.5",
        "ip daddr 203.0.113.5 tcp dport 80 dnat to 10.0.1.5:80",
        "ip daddr 203.0.113.5 dnat to 10.0.0.9-10.0.1.9",
        // Endpoints may send there.
        "ip daddr 203.0.113.5 dnat to 172.17.0.2",
        "iifname \"eth0\" fib daddr type local dnat to tcp dport map { 80 : 10.0.1.5 }",
    ] {
        assert_eq!(found(rule).len(), 1, "{rule}: {:?}", found(rule));
    }
    for rule in [
        "fib daddr type local tcp dport 80 dnat to 172.17.0.2",
        "iifname \"eth0\" ip daddr 203.0.113.5 dnat to 172.17.0.2",
        "iifname \"docker0\" ip daddr 203.0.113.5 dnat to 10.0.1.5",
        "fib daddr type local drop",
    ] {
        assert_eq!(found(rule), [""; 0], "{rule}");
    }
}

#[test]
fn hook_of_a_device_matters_if_the_device_is_ours() {
    isolated(|| {
        veth("eth0", "far");
        veth("docker0", "farther");
        ip("link set eth0 up");
        nft("table netdev guard {
                 chain ours { type filter hook ingress device eth0 priority 0; drop; }
                 chain theirs { type filter hook ingress device docker0 priority 0; drop; }
             }");

        let found = obstacles();

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("nftables: table netdev guard, chain ours, handle "));
    });
}

#[test]
fn rules_that_translate_sources_on_a_device_are_found_with_their_ports() {
    isolated(|| {
        nft("table ip nat {
                 chain more { tcp dport 80 snat to 203.0.113.1-203.0.113.9:1024-2047; }
                 chain out {
                     type nat hook postrouting priority 100;
                     oifname \"docker0\" masquerade
                     ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade
                     oifname \"eth0\" meta l4proto tcp masquerade to :1024-49151
                     jump more
                 }
             }");

        let found = nat::on_devices(&firewall::dump().unwrap(), &["eth0".to_owned()]);

        let kinds: Vec<_> = found.iter().map(|nat| (nat.to, nat.ports)).collect();
        let span = (
            "203.0.113.1".parse().unwrap(),
            "203.0.113.9".parse().unwrap(),
        );
        assert_eq!(
            kinds,
            [
                (None, None),
                (None, Some((1024, 49_151))),
                (Some(span), Some((1024, 2047)))
            ]
        );
        assert!(found.iter().all(|nat| nat.version6 == Some(false)));
        assert!(found[0].what.contains("chain out, handle"), "{found:#?}");
    });
}

#[test]
fn targets_of_iptables_that_translate_sources_are_understood() {
    for flavour in ["", "-legacy"] {
        for (command, version6, address) in [
            ("iptables", false, "203.0.113.1"),
            ("ip6tables", true, "2001:db8::1"),
        ] {
            isolated(|| {
                let run = |rule: &str| {
                    let line = format!("{command}{flavour} -w -t nat -A POSTROUTING {rule}");
                    crate::run::run(&line);
                };
                run("! -o docker0 -j MASQUERADE");
                run("-o eth0 -p udp -j MASQUERADE --to-ports 1024-2047");
                run(&format!("-o eth0 -j SNAT --to-source {address}"));

                let found = nat::on_devices(&firewall::dump().unwrap(), &["eth0".to_owned()]);

                let kinds: Vec<_> = found.iter().map(|nat| (nat.to, nat.ports)).collect();
                let own = address.parse().unwrap();
                assert_eq!(
                    kinds,
                    [
                        (None, None),
                        (None, Some((1024, 2047))),
                        (Some((own, own)), None)
                    ],
                    "{command}{flavour}"
                );
                assert!(found.iter().all(|nat| nat.version6 == Some(version6)));
            });
        }
    }
}
