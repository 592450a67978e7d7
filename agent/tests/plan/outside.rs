//! Golden plans of devices, translation, peers and host routing; what is refused and why.

use std::path::Path;

use ciliate::plan::object::{
    Ambient, BlindRule, DeviceFacts, DeviceKind, Key, Link, Observed, Obstacle, ObstacleKind,
    SourceNat, State,
};
use ciliate::plan::{Desired, Plan, desired, plan};
use ciliate::topology::{HostRouting, Topology};

use super::lab::{self, ambient, lab};
use super::{golden, settled};

const CHAIN: &str = "nftables chain ip filter FORWARD, which drops by policy";

fn try_desired(topology: &Topology, ambient: &Ambient) -> Result<Desired, String> {
    let desired = desired(topology, ambient, Path::new("/sys/fs/bpf"));
    desired.map_err(|refusals| refusals.to_string())
}

/// Returns the plan as `ciliate plan` prints it.
fn plan_to(topology: &Topology, observed: &Observed) -> Plan {
    let desired = try_desired(topology, &observed.ambient).unwrap();
    Plan {
        notes: desired.notes,
        ..plan(&desired.state, observed)
    }
}

fn refusal(topology: &Topology, change: impl FnOnce(&mut Ambient)) -> String {
    let mut ambient = ambient();
    change(&mut ambient);
    try_desired(topology, &ambient).unwrap_err()
}

fn codes(topology: &Topology, ambient: &Ambient) -> Vec<&'static str> {
    let desired = try_desired(topology, ambient).unwrap();
    let warnings = desired.notes.warnings.into_iter();
    warnings.map(|warning| warning.code).collect()
}

fn obstacle(kind: ObstacleKind) -> Obstacle {
    Obstacle {
        what: CHAIN.to_owned(),
        kind,
        cure: vec!["iptables -I FORWARD -s 10.0.1.0/24 -j ACCEPT".into()],
    }
}

#[test]
fn device_that_masquerades_is_joined() {
    golden("outside_added", &plan_to(&lab::outside(), &settled(&lab())));
}

#[test]
fn device_leaves_the_file() {
    let observed = settled(&lab::outside());

    golden("outside_removed", &plan_to(&lab(), &observed));
}

#[test]
fn node_with_a_device_goes_down() {
    let observed = settled(&lab::outside());
    let outside_first = |key: &Key| matches!(key, Key::Attachment(Link::Device(_), _));

    let plan = plan(&State::new(), &observed);

    let position = |wanted: &dyn Fn(&Key) -> bool| {
        let mut keys = plan.steps.iter().map(|step| &step.key);
        keys.position(wanted).unwrap()
    };
    let detached = position(&outside_first);
    assert!(
        detached < position(&|key| *key == Key::Datapath),
        "a program should leave before the maps that it reads"
    );
    assert!(
        position(&|key| matches!(key, Key::EndpointLink(_))) < detached,
        "endpoints should leave before what leads outside"
    );
}

#[test]
fn translation_changes_in_place() {
    let observed = settled(&lab::outside());

    golden("retranslated", &plan_to(&lab::retranslated(), &observed));
}

#[test]
fn host_routing_goes_through_the_stack_when_asked() {
    let observed = settled(&lab::outside());

    golden("legacy", &plan_to(&lab::legacy(), &observed));
}

#[test]
fn firewall_that_would_be_bypassed_makes_host_routing_legacy() {
    let mut observed = settled(&lab::outside());
    observed.ambient.obstacles = vec![obstacle(ObstacleKind::ForwardDrop)];

    golden("bypassed_firewall", &plan_to(&lab::outside(), &observed));
}

#[test]
fn nothing_changes_when_the_firewall_is_legacys_already() {
    let mut ambient = ambient();
    ambient.obstacles = vec![obstacle(ObstacleKind::ForwardRules)];
    let mut objects = try_desired(&lab::outside(), &ambient).unwrap().state;
    objects.remove(&Key::Bpffs);

    let plan = plan_to(&lab::outside(), &Observed { objects, ambient });

    assert!(plan.is_empty(), "{plan}");
    assert!(plan.to_string().starts_with("Host routing: legacy ("));
}

#[test]
fn prefixes_of_a_node_and_its_peer_are_exchanged() {
    let observed = settled(&lab::outside());

    golden("exchanged_prefixes", &plan_to(&lab::exchanged(), &observed));
}

#[test]
fn peer_behind_another_gateway_is_followed() {
    let mut observed = settled(&lab::outside());
    for hop in observed.ambient.peer_hops.values_mut() {
        hop.gateway = "192.0.2.1".parse().ok();
    }

    golden("peer_gateway", &plan_to(&lab::outside(), &observed));
}

#[test]
fn json_names_the_mode_and_the_warnings() {
    let mut observed = settled(&lab::outside());
    observed.ambient.obstacles = vec![obstacle(ObstacleKind::ForwardDrop)];

    let json = plan_to(&lab::outside(), &observed).to_json();

    assert_eq!(json["host_routing"]["mode"], "legacy");
    let reason = format!("the firewall would be bypassed: {CHAIN}");
    assert_eq!(json["host_routing"]["reason"], reason);
    assert_eq!(json["warnings"][0]["code"], "CIL0203");
}

#[test]
fn ports_that_others_reserved_stay_reserved() {
    let mut ambient = ambient();
    "8080,50000".clone_into(&mut ambient.reserved_ports);

    let state = try_desired(&lab::retranslated(), &ambient).unwrap().state;

    let key = Key::Sysctl("net/ipv4/ip_local_reserved_ports".to_owned());
    let value = serde_json::to_value(&state[&key]).unwrap();
    assert_eq!(value["sysctl"]["value"], "8080,40000-50000");
}

#[test]
fn family_without_an_address_is_not_translated_and_said_so() {
    let mut ambient = ambient();
    let eth0 = ambient.devices.get_mut("eth0").unwrap();
    eth0.addresses6.clear();

    assert_eq!(codes(&lab::outside(), &ambient), ["CIL0201"]);
    let v4_only = Topology {
        ipv6: None,
        router6: None,
        endpoints: Vec::new(),
        ..lab::outside()
    };
    assert_eq!(codes(&v4_only, &ambient), [""; 0], "nobody sends IPv6");
}

#[test]
fn what_works_in_part_is_a_warning() {
    let mut down = ambient();
    down.devices.get_mut("eth0").unwrap().up = false;
    let mut unreachable = ambient();
    unreachable.peer_hops.clear();
    let mut elsewhere = ambient();
    for hop in elsewhere.peer_hops.values_mut() {
        "wlan0".clone_into(&mut hop.device);
    }

    assert_eq!(codes(&lab::retranslated(), &ambient()), ["CIL0202"]);
    assert_eq!(codes(&lab::outside(), &down), ["CIL0205"]);
    assert_eq!(codes(&lab::outside(), &unreachable), ["CIL0204"]);
    assert_eq!(codes(&lab::outside(), &elsewhere), ["CIL0204"]);
    assert_eq!(codes(&lab(), &unreachable), [""; 0], "no device at all");
}

#[test]
fn device_that_cannot_carry_programs_is_refused_with_a_way_out() {
    let eth0 = |change: fn(&mut DeviceFacts)| {
        refusal(&lab::outside(), |ambient| {
            change(ambient.devices.get_mut("eth0").unwrap());
        })
    };

    assert_eq!(
        refusal(&lab::outside(), |ambient| ambient.devices.clear()),
        "device eth0: there is no such link; `ip link` lists those of this node"
    );
    assert_eq!(
        eth0(|facts| facts.master = Some("br0".to_owned())),
        "device eth0: it is a port of br0, which takes its packets; name br0"
    );
    assert_eq!(
        eth0(|facts| facts.kind = DeviceKind::NoEthernetHeader),
        "device eth0: its packets have no Ethernet header, which the programs need; \
         name the Ethernet device below it"
    );
    assert_eq!(
        eth0(|facts| facts.kind = DeviceKind::Loopback),
        "device eth0: it is a loopback link, which leads nowhere; name another one"
    );
    assert_eq!(
        eth0(|facts| facts.addresses4 = vec!["10.0.1.7".parse().unwrap()]),
        "device eth0: its address 10.0.1.7 is in the prefix 10.0.1.0/24 of endpoints, so that \
         nothing can be translated to it; give `masquerade_address`"
    );
}

#[test]
fn everything_that_is_in_the_way_is_told_at_once() {
    let topology = Topology {
        host_routing: HostRouting::Bpf,
        ..lab::outside()
    };

    let text = refusal(&topology, |ambient| {
        ambient.devices.clear();
        ambient.local_port_range = Some((49_000, 65_535));
        ambient.obstacles = vec![obstacle(ObstacleKind::ForwardDrop)];
    });

    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines[0],
        "ports 49152-65535 of [masquerade] leave the host 152 of the ports 49000-65535 that it \
         chooses from, and it needs 4096; give other `ports`, or widen \
         net.ipv4.ip_local_port_range"
    );
    assert!(lines[1].starts_with("device eth0: "), "{text}");
    assert!(lines[2].contains(CHAIN), "{text}");
}

#[test]
fn each_endpoint_gets_a_route_when_asked() {
    golden(
        "endpoint_routes",
        &plan_to(&lab::routed(), &settled(&lab())),
    );
}

#[test]
fn routes_of_endpoints_and_strict_filters_exclude_each_other() {
    let strict = Ambient {
        strict_senders: true,
        ..ambient()
    };

    assert_eq!(codes(&lab::routed(), &strict), ["CIL0207"]);
    assert!(codes(&lab(), &strict).is_empty());
    assert!(codes(&lab::routed(), &ambient()).is_empty());
}

#[test]
fn rules_that_name_links_of_endpoints_are_warned_of_unless_they_work() {
    let rule = |by_incoming| BlindRule {
        what: "nftables: table inet f, chain forward, handle 2: iifname \"lxcweb\" drop".into(),
        by_incoming,
    };
    let blind = Ambient {
        blind_rules: vec![rule(true), rule(false)],
        ..ambient()
    };

    assert_eq!(codes(&lab(), &blind), ["CIL0209", "CIL0209"]);
    assert_eq!(codes(&lab::routed(), &blind), ["CIL0209"]);
}

fn nat(device: &str) -> SourceNat {
    SourceNat {
        what: "iptables: nat POSTROUTING rule 1: -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"
            .into(),
        device: device.to_owned(),
        version6: Some(false),
        to: None,
        ports: None,
    }
}

#[test]
fn nat_of_others_on_our_ports_is_warned_of() {
    let mut observed = settled(&lab::outside());
    observed.ambient.source_nats = vec![nat("eth0")];

    golden("colliding_nat", &plan_to(&lab::outside(), &observed));
}

#[test]
fn nat_of_others_matters_only_where_it_collides() {
    let warned = |nat: SourceNat, topology: &Topology| {
        let ambient = Ambient {
            source_nats: vec![nat],
            ..ambient()
        };
        codes(topology, &ambient).contains(&"CIL0206")
    };
    let to = |address: [u8; 4]| {
        let address = std::net::IpAddr::from(address);
        SourceNat {
            to: Some((address, address)),
            ..nat("eth0")
        }
    };
    let ports = |first, last| SourceNat {
        ports: Some((first, last)),
        ..nat("eth0")
    };

    assert!(warned(nat("eth0"), &lab::outside()));
    assert!(!warned(nat("eth9"), &lab::outside()));
    assert!(
        !warned(nat("eth0"), &lab::legacy()),
        "nothing is masqueraded"
    );
    assert!(!warned(to([203, 0, 113, 99]), &lab::outside()));
    assert!(!warned(ports(1024, 49_151), &lab::outside()));
    assert!(warned(ports(1024, 49_152), &lab::outside()));
}
