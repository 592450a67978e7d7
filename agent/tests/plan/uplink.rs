//! Devices that the agent configures: by the file, by a lease, and by others before it.

use std::net::Ipv4Addr;
use std::time::Duration;

use ciliate::config::uplink::{Dhcp, Uplink};
use ciliate::plan::lease::{Lease, LeaseRoute, Term};
use ciliate::plan::object::{
    Ambient, Conversation, DeviceFacts, Key, Link, Mac, Observed, State, Value,
};
use ciliate::plan::warning::LOCKOUT;
use ciliate::plan::{self, notes, plan};
use ciliate::topology::Topology;

use super::{golden, lab, plan_to};

/// Returns `edge-1` behind an `eth0` that the agent configures.
fn with(uplink: Uplink) -> Topology {
    let mut topology = lab::outside();
    topology.devices[0].uplink = uplink;
    topology
}

fn by_file() -> Uplink {
    Uplink {
        addresses: ["192.0.2.10/24", "2001:db8::10/64"]
            .map(|text| text.parse().unwrap())
            .into(),
        gateways: ["192.0.2.1", "fe80::1"]
            .map(|text| text.parse().unwrap())
            .into(),
        mtu: Some(1400),
        dhcp: None,
    }
}

fn by_lease(dhcp: Dhcp) -> Uplink {
    Uplink {
        dhcp: Some(dhcp),
        ..Uplink::default()
    }
}

fn lease() -> Lease {
    let second = Duration::from_secs(1);
    Lease {
        address: "192.0.2.77/24".parse().unwrap(),
        server: Ipv4Addr::new(192, 0, 2, 1),
        server_mac: Mac([2, 0, 0, 0, 0, 1]),
        routes: vec![route("0.0.0.0/0", Some(1))],
        mtu: None,
        name_servers: vec![Ipv4Addr::new(192, 0, 2, 53)],
        domain: None,
        obtained: 100 * second,
        term: Some(Term {
            secs: 3600,
            renew: 1900 * second,
            rebind: 3250 * second,
            expires: 3700 * second,
        }),
    }
}

fn route(prefix: &str, last: Option<u8>) -> LeaseRoute {
    LeaseRoute {
        prefix: prefix.parse().unwrap(),
        via: last.map(|last| Ipv4Addr::new(192, 0, 2, last)),
    }
}

/// Returns a machine whose `eth0` is down and has nothing.
fn bare() -> Ambient {
    let mut ambient = lab::ambient();
    ambient.peer_hops.clear();
    let eth0 = ambient.devices.get_mut("eth0").unwrap();
    *eth0 = DeviceFacts {
        addresses4: Vec::new(),
        addresses6: Vec::new(),
        up: false,
        ..eth0.clone()
    };
    ambient
}

fn leased(lease: Lease) -> Ambient {
    Ambient {
        leases: [("eth0".to_owned(), lease)].into(),
        ..bare()
    }
}

fn empty(ambient: &Ambient) -> Observed {
    Observed {
        ambient: ambient.clone(),
        ..Observed::default()
    }
}

fn desired(topology: &Topology, ambient: &Ambient) -> State {
    lab::desired_of(topology, ambient)
}

fn is_of_device(key: &Key) -> bool {
    matches!(
        key,
        Key::Address(Link::Device(_), _) | Key::Route(Link::Device(_), _) | Key::DeviceMtu(_)
    )
}

fn settled(topology: &Topology, ambient: &Ambient) -> Observed {
    let mut objects = desired(topology, ambient);
    objects.remove(&Key::Bpffs);
    Observed {
        objects,
        ambient: ambient.clone(),
    }
}

#[test]
fn device_gets_what_the_file_gives_before_endpoints_are_connected() {
    golden("uplink_static", &plan_to(&with(by_file()), &empty(&bare())));
}

#[test]
fn device_gets_what_a_server_lends() {
    let topology = with(by_lease(Dhcp {
        resolv_conf: Some("/etc/resolv.conf".into()),
        ..Dhcp::default()
    }));
    let mut lease = lease();
    lease.mtu = Some(1460);

    golden(
        "uplink_lease",
        &plan_to(&topology, &settled_without(&topology, lease)),
    );
}

#[test]
fn device_that_has_what_the_file_gives_needs_nothing() {
    let topology = lab::configured();

    assert!(plan_to(&topology, &settled(&topology, &bare())).is_empty());
}

/// Returns a node that waits for its lease, and has it now.
fn settled_without(topology: &Topology, lease: Lease) -> Observed {
    Observed {
        ambient: leased(lease),
        ..settled(topology, &bare())
    }
}

#[test]
fn renewal_changes_the_address_alone() {
    let topology = with(by_lease(Dhcp::default()));
    let mut renewed = lease();
    renewed.term.as_mut().unwrap().expires += Duration::from_mins(30);
    let observed = Observed {
        ambient: leased(renewed),
        ..settled(&topology, &leased(lease()))
    };

    golden("uplink_renewed", &plan_to(&topology, &observed));
}

#[test]
fn lease_that_expired_takes_its_address_and_routes_along() {
    let topology = with(by_lease(Dhcp::default()));
    let observed = Observed {
        ambient: bare(),
        ..settled(&topology, &leased(lease()))
    };

    golden("uplink_expired", &plan_to(&topology, &observed));
}

#[test]
fn another_address_comes_before_the_old_one_goes() {
    let topology = with(by_lease(Dhcp::default()));
    let mut other = lease();
    other.address = "192.0.2.78/24".parse().unwrap();
    let observed = Observed {
        ambient: leased(other),
        ..settled(&topology, &leased(lease()))
    };

    golden("uplink_moved", &plan_to(&topology, &observed));
}

#[test]
fn device_goes_back_to_others_without_what_we_gave_it() {
    let observed = settled(&with(by_file()), &bare());

    let plan = plan(&State::new(), &observed);

    let steps = plan.steps.iter().filter(|step| is_of_device(&step.key));
    let commands: Vec<_> = steps.map(|step| plan.command(step)).collect();
    assert_eq!(
        commands,
        [
            "ip -6 route del default via fe80::1 dev eth0 metric 512",
            "ip route del default via 192.0.2.1 dev eth0",
            "ip route del 10.0.2.0/24 via 192.0.2.11 dev eth0",
            "ip address del 2001:db8::10/64 dev eth0",
            "ip address del 192.0.2.10/24 dev eth0",
            "ip link set eth0 mtu (its original one)",
        ]
    );
}

#[test]
fn what_others_made_so_stays_theirs() {
    let topology = with(by_file());
    let state = desired(&topology, &bare());
    let is_theirs =
        |key: &Key| is_of_device(key) && !matches!(key, Key::Route(_, p) if p.prefix_len() > 0);
    let foreign: State = state
        .clone()
        .into_iter()
        .filter(|(key, _)| is_theirs(key))
        .collect();
    let mut observed = settled(&topology, &bare());
    observed.objects.retain(|key, _| !is_theirs(key));
    observed.ambient.foreign = foreign;

    let plan = plan_to(&topology, &observed);

    assert!(plan.is_empty(), "{plan}");
}

#[test]
fn first_address_of_the_file_is_what_endpoints_get() {
    let state = desired(&with(by_file()), &bare());

    let entry = state.get(&Key::DeviceEntry("eth0".into()));
    let Some(Value::DeviceEntry {
        masquerade4,
        masquerade6,
        ..
    }) = entry
    else {
        panic!("no entry: {entry:?}");
    };
    assert_eq!(*masquerade4, Some(Ipv4Addr::new(192, 0, 2, 10)));
    assert_eq!(*masquerade6, Some("2001:db8::10".parse().unwrap()));
}

/// Returns the routes that follow from a lease, as commands.
fn routes(dhcp: Dhcp, lease: Lease) -> Vec<String> {
    let topology = with(by_lease(dhcp));
    let plan = plan_to(&topology, &empty(&leased(lease)));
    let steps = plan.steps.iter();
    let of_lease = |step: &&plan::Step| {
        matches!(
            &step.after,
            Some(Value::Route {
                metric: Some(_),
                ..
            })
        )
    };
    steps
        .filter(of_lease)
        .map(|step| plan.command(step))
        .collect()
}

#[test]
fn no_default_route_is_taken_where_none_is_asked_for() {
    let dhcp = || Dhcp {
        default_route: false,
        metric: Some(50),
        ..Dhcp::default()
    };
    let mut lease = lease();
    assert_eq!(routes(dhcp(), lease.clone()), [""; 0]);

    lease.routes.push(route("10.8.0.0/16", Some(3)));

    let expected = "ip route add 10.8.0.0/16 via 192.0.2.3 dev eth0 src 192.0.2.77 metric 50";
    assert_eq!(routes(dhcp(), lease), [expected]);
}

#[test]
fn gateway_outside_the_network_is_reached_by_a_route_of_its_own() {
    let mut lease = lease();
    lease.address = "198.51.100.9/32".parse().unwrap();

    assert_eq!(
        routes(Dhcp::default(), lease),
        [
            "ip route add 192.0.2.1 dev eth0 src 198.51.100.9 metric 2000",
            "ip route add default via 192.0.2.1 dev eth0 src 198.51.100.9 metric 2000",
        ]
    );
}

#[test]
fn gateway_on_a_network_that_the_lease_names_needs_no_route_of_its_own() {
    let mut lease = lease();
    lease.address = "198.51.100.9/32".parse().unwrap();
    lease.routes.insert(0, route("192.0.2.0/24", None));

    assert_eq!(
        routes(Dhcp::default(), lease),
        [
            "ip route add 192.0.2.0/24 dev eth0 src 198.51.100.9 metric 2000",
            "ip route add default via 192.0.2.1 dev eth0 src 198.51.100.9 metric 2000",
        ]
    );
}

#[test]
fn routes_that_would_hurt_are_left_out() {
    let mut lease = lease();
    lease.routes = vec![
        route("10.0.1.128/25", Some(1)),
        route("10.0.2.0/24", Some(1)),
        route("127.0.0.0/8", Some(1)),
        LeaseRoute {
            prefix: "198.51.100.0/24".parse().unwrap(),
            via: Some(Ipv4Addr::new(224, 0, 0, 1)),
        },
        // By the client itself: on the link.
        route("203.0.113.0/24", Some(77)),
    ];

    assert_eq!(
        routes(Dhcp::default(), lease.clone()),
        ["ip route add 203.0.113.0/24 dev eth0 src 192.0.2.77 metric 2000"]
    );
    assert_eq!(warnings(Some(lease)).len(), 4);
}

#[test]
fn file_that_cannot_be_replaced_does_not_keep_the_node_from_being() {
    let topology = with(by_lease(Dhcp {
        resolv_conf: Some("/etc/resolv.conf".into()),
        ..Dhcp::default()
    }));
    let ambient = Ambient {
        unwritable: ["/etc/resolv.conf".into()].into(),
        ..leased(lease())
    };

    assert!(
        !desired(&topology, &ambient)
            .keys()
            .any(|key| matches!(key, Key::NameServers(_)))
    );
    let notes = notes(&topology, &ambient);
    assert!(
        notes
            .warnings
            .iter()
            .any(|warning| warning.code == "CIL0136")
    );
}

/// Returns what is said about a lease.
fn warnings(lease: Option<Lease>) -> Vec<String> {
    let ambient = lease.map_or_else(bare, leased);
    let notes = notes(&with(by_lease(Dhcp::default())), &ambient);
    let about_dhcp = notes
        .warnings
        .iter()
        .filter(|warning| warning.text.starts_with("dhcp on"));
    about_dhcp.map(ToString::to_string).collect()
}

#[test]
fn what_a_server_says_does_not_keep_the_node_from_being() {
    let mut in_prefix = lease();
    in_prefix.address = "10.0.1.77/24".parse().unwrap();
    let mut narrow = lease();
    narrow.mtu = Some(600);
    let mut wide = lease();
    wide.mtu = Some(9001);

    for (lease, text) in [
        (
            in_prefix,
            "CIL0134 dhcp on eth0: the lease of 10.0.1.77/24 is not taken",
        ),
        (narrow, "CIL0134 dhcp on eth0: the MTU of 600"),
        (wide, "CIL0134 dhcp on eth0: the MTU of 9001"),
    ] {
        let found = warnings(Some(lease));
        assert!(
            found.len() == 1 && found[0].starts_with(text),
            "{text}: {found:?}"
        );
    }
    assert!(warnings(None)[0].starts_with("CIL0131 dhcp on eth0: there is no lease yet"));
    assert_eq!(warnings(Some(lease())), [""; 0]);
}

#[test]
fn peer_behind_the_gateway_to_come_is_reached() {
    let mut topology = with(by_file());
    topology.peers[0].addresses = vec!["203.0.113.5".parse().unwrap()];

    let state = desired(&topology, &bare());

    let pool = "10.0.2.0/24".parse().unwrap();
    let found = state.get(&Key::Route(Link::Device("eth0".into()), pool));
    let gateway = Some("192.0.2.1".parse().unwrap());
    assert!(
        matches!(found, Some(Value::Route { via, .. }) if *via == gateway),
        "{found:?}"
    );
}

/// Returns a machine to whose address by the file somebody came from afar.
fn visited() -> Ambient {
    let mut ambient = bare();
    ambient.callers = vec![Conversation {
        local: "192.0.2.10:22".parse().unwrap(),
        remote: "198.51.100.5:40000".parse().unwrap(),
    }];
    let own = &mut ambient.devices.get_mut("eth0").unwrap().own;
    *own = vec!["192.0.2.10/24".parse().unwrap()];
    ambient
}

fn locks_out(uplink: Uplink, ambient: &Ambient) -> bool {
    let notes = notes(&with(uplink), ambient);
    let mut stops = notes.warnings.iter().filter(|warning| warning.stops);
    stops.any(|warning| warning.code == LOCKOUT)
}

#[test]
fn address_that_the_caller_came_to_is_not_taken_away() {
    let ambient = visited();

    assert!(!locks_out(by_file(), &ambient));
    assert!(locks_out(Uplink::default(), &ambient));
    assert!(locks_out(by_lease(Dhcp::default()), &ambient));
}

#[test]
fn gateway_by_which_the_caller_came_is_not_taken_away() {
    let mut ambient = visited();
    let near = || Uplink {
        gateways: Vec::new(),
        ..by_file()
    };
    assert!(!locks_out(near(), &ambient), "the route is not ours");

    ambient.own_gateways = vec!["192.0.2.1".parse().unwrap()];

    assert!(!locks_out(by_file(), &ambient));
    assert!(locks_out(near(), &ambient));
    ambient.callers[0].remote = "192.0.2.9:40000".parse().unwrap();
    assert!(!locks_out(near(), &ambient), "it is on the network");
}
