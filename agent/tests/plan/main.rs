//! Golden plans: what is there and what the file says → the plan as it is printed.
//!
//! Each test compares with a file in `tests/plans/`; `UPDATE_GOLDEN=1` rewrites them. What is
//! there is mostly the desired state of another topology, with something taken away.

#![expect(clippy::unwrap_used, reason = "a test stops where it stands")]

use std::path::PathBuf;

use ciliate::plan::desired::{IPV6_FORWARDING, accept_ra};
use ciliate::plan::object::{Ambient, Hook, Key, Link, LinkRef, Netns, Observed, State, Value};
use ciliate::plan::{Action, Plan, Step, plan, resume};
use ciliate::topology::Topology;
use lab::{ambient, desired_of, lab};

#[path = "../lab/mod.rs"]
mod lab;
mod outside;
mod policy;
mod uplink;

/// Returns what is observed after an apply.
fn settled(topology: &Topology) -> Observed {
    let ambient = ambient();
    let mut objects = desired_of(topology, &ambient);
    objects.remove(&Key::Bpffs);
    Observed { objects, ambient }
}

fn plan_to(topology: &Topology, observed: &Observed) -> Plan {
    plan(&desired_of(topology, &observed.ambient), observed)
}

fn golden(name: &str, plan: &Plan) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plans/{name}.plan"));
    let text = plan.to_string();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        expected,
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}

fn web() -> Link {
    Link::Eth0("web".to_owned())
}

#[test]
fn empty_node_gets_everything() {
    let observed = Observed {
        ambient: ambient(),
        ..Observed::default()
    };

    golden("empty_to_lab", &plan_to(&lab(), &observed));
}

#[test]
fn node_without_a_bpffs_gets_one() {
    let ambient = Ambient {
        bpffs: false,
        ..ambient()
    };
    let observed = Observed {
        ambient,
        ..Observed::default()
    };

    let plan = plan_to(&lab(), &observed);

    assert_eq!(
        plan.steps[0].key,
        Key::Bpffs,
        "the bpffs should come before what it holds"
    );
    assert_eq!(
        plan.command(&plan.steps[0]),
        "mount -t bpf ciliate /sys/fs/bpf"
    );
}

#[test]
fn bpffs_of_ours_stays_and_goes_last() {
    let mut observed = settled(&lab());
    let path = "/sys/fs/bpf".into();
    observed.objects.insert(Key::Bpffs, Value::Bpffs { path });

    assert!(
        plan_to(&lab(), &observed).is_empty(),
        "our own mount should stay"
    );
    let down = plan(&State::new(), &observed);
    assert_eq!(
        down.steps.last().unwrap().key,
        Key::Bpffs,
        "the bpffs should go last"
    );
}

#[test]
fn settled_node_has_nothing_to_do() {
    golden("no_op", &plan_to(&lab(), &settled(&lab())));
}

#[test]
fn endpoint_is_added() {
    let topology = lab::with_endpoints(&["web", "db", "api"]);

    golden("add_endpoint", &plan_to(&topology, &settled(&lab())));
}

#[test]
fn endpoint_is_removed() {
    let topology = lab::with_endpoints(&["web"]);

    golden("remove_endpoint", &plan_to(&topology, &settled(&lab())));
}

#[test]
fn renamed_endpoint_leaves_its_namespace_first() {
    golden(
        "renamed_endpoint",
        &plan_to(&lab::renamed(), &settled(&lab())),
    );
}

#[test]
fn address_changes_add_before_delete() {
    golden("changed_address", &plan_to(&lab::moved(), &settled(&lab())));
}

#[test]
fn exchanged_addresses_are_given_up_before_they_are_taken() {
    golden(
        "swapped_addresses",
        &plan_to(&lab::swapped(), &settled(&lab())),
    );
}

#[test]
fn prefixes_and_routers_change() {
    golden("renumbered", &plan_to(&lab::renumbered(), &settled(&lab())));
}

#[test]
fn mtu_changes_in_place() {
    golden("changed_mtu", &plan_to(&lab::narrow(), &settled(&lab())));
}

#[test]
fn labels_change_the_identity_alone() {
    golden(
        "changed_labels",
        &plan_to(&lab::relabelled(), &settled(&lab())),
    );
}

#[test]
fn replaced_namespace_makes_the_link_anew() {
    golden(
        "replaced_namespace",
        &plan_to(&lab::replaced_namespace(), &settled(&lab())),
    );
}

#[test]
fn endpoint_that_is_not_where_it_should_be_is_connected_anew() {
    let mut observed = settled(&lab());
    let key = Key::EndpointLink("web".to_owned());
    if let Some(Value::EndpointLink { netns, .. }) = observed.objects.get_mut(&key) {
        *netns = None;
    }

    let plan = plan_to(&lab(), &observed);

    let replaced = plan
        .steps
        .iter()
        .filter(|step| step.key == key)
        .map(Step::action);
    assert_eq!(replaced.collect::<Vec<_>>(), [Action::Remove, Action::Add]);
}

#[test]
fn ipv4_alone() {
    let observed = Observed {
        ambient: ambient(),
        ..Observed::default()
    };

    golden("v4_only", &plan_to(&lab::v4_only(), &observed));
}

#[test]
fn ipv6_alone_behind_a_router() {
    let ambient = Ambient {
        ra_devices: vec!["eth0".to_owned()],
        ..ambient()
    };
    let observed = Observed {
        ambient,
        ..Observed::default()
    };

    golden("v6_only", &plan_to(&lab::v6_only(), &observed));
}

#[test]
fn ipv6_is_given_up() {
    golden(
        "both_to_v4_only",
        &plan_to(&lab::v4_only(), &settled(&lab())),
    );
}

#[test]
fn kernel_before_6_6_gets_filters_and_joins_no_fragments() {
    let ambient = Ambient {
        tcx: false,
        reassembly: false,
        ..ambient()
    };
    let observed = Observed {
        ambient,
        ..Observed::default()
    };

    golden(
        "without_tcx",
        &plan_to(&lab::with_endpoints(&[]), &observed),
    );
}

#[test]
fn new_build_replaces_every_program() {
    let mut observed = settled(&lab());
    "2222222222222222".clone_into(&mut observed.ambient.digest);

    golden("new_digest", &plan_to(&lab(), &observed));
}

#[test]
fn more_endpoints_need_larger_tables() {
    let mut topology = lab::crowd();
    topology.endpoints.truncate(15);
    let observed = settled(&{
        let mut smaller = topology.clone();
        smaller.endpoints.truncate(14);
        smaller
    });

    golden("more_slots", &plan_to(&topology, &observed));
}

#[test]
fn drift_is_repaired() {
    let mut observed = settled(&lab());
    let gone = [
        Key::Route(Link::Host, "10.0.1.0/24".parse().unwrap()),
        Key::Attachment(Link::Lxc("web".to_owned()), Hook::Ingress),
        Key::Address(web(), "10.0.1.10/32".parse().unwrap()),
        Key::Route(web(), "0.0.0.0/0".parse().unwrap()),
        Key::LinkUp(Link::Net),
    ];
    for key in gone {
        assert!(
            observed.objects.remove(&key).is_some(),
            "{key:?} should have been there"
        );
    }
    let rp_filter = Key::Sysctl("net/ipv4/conf/cilium_host/rp_filter".to_owned());
    observed.objects.insert(
        rp_filter,
        Value::Sysctl {
            value: "1".to_owned(),
        },
    );

    golden("drift", &plan_to(&lab(), &observed));
}

#[test]
fn lost_link_is_made_again_and_its_entry_corrected() {
    let mut observed = settled(&lab());
    let link = Key::EndpointLink("web".to_owned());
    observed
        .objects
        .retain(|key, _| *key != link && !key.owners().contains(&link));
    let entry = Key::EndpointEntry("web".to_owned());
    if let Some(Value::EndpointEntry { link, .. }) = observed.objects.get_mut(&entry) {
        *link = LinkRef::Stale(7);
    }

    golden("drift_link", &plan_to(&lab(), &observed));
}

#[test]
fn cilium_host_with_a_foreign_address_is_made_anew() {
    let mut observed = settled(&lab());
    if let Some(Value::HostLink { host_mac, .. }) = observed.objects.get_mut(&Key::HostLink) {
        host_mac.0[5] = 0xff;
    }

    golden("replaced_host_link", &plan_to(&lab(), &observed));
}

#[test]
fn down_removes_everything() {
    golden("down", &plan(&State::new(), &settled(&lab())));
}

#[test]
fn sysctl_that_is_right_without_us_is_left_alone() {
    let mut ambient = Ambient {
        ra_devices: vec!["eth0".to_owned()],
        ..ambient()
    };
    ambient
        .sysctls
        .insert(IPV6_FORWARDING.to_owned(), "1".to_owned());
    ambient.sysctls.insert(accept_ra("eth0"), "2".to_owned());
    let observed = Observed {
        ambient,
        ..Observed::default()
    };

    golden(
        "sysctl_already_right",
        &plan_to(&lab::with_endpoints(&[]), &observed),
    );
}

#[test]
fn device_keeps_accepting_advertisements_while_its_route_is_away() {
    let mut observed = settled(&lab());
    let value = || Value::Sysctl {
        value: "2".to_owned(),
    };
    observed
        .objects
        .insert(Key::Sysctl(accept_ra("eth0")), value());

    assert!(
        plan_to(&lab(), &observed).is_empty(),
        "accept_ra should stay while we forward"
    );
    let v4_only = plan_to(&lab::v4_only(), &observed);
    let sysctls = v4_only
        .steps
        .iter()
        .filter(|step| matches!(step.key, Key::Sysctl(_)));
    assert_eq!(
        sysctls.map(|step| step.key.clone()).collect::<Vec<_>>(),
        [
            Key::Sysctl(IPV6_FORWARDING.to_owned()),
            Key::Sysctl(accept_ra("eth0"))
        ],
        "forwarding should end before the protection against it"
    );
}

#[test]
fn interrupted_run_makes_flows_be_decided_again() {
    let observed = settled(&lab());

    golden(
        "interrupted",
        &resume(&desired_of(&lab(), &observed.ambient), &observed),
    );
}

#[test]
fn process_as_namespace_prints_as_nsenter() {
    let topology = lab::changed(lab::with_endpoints(&["web"]), "web", |web| {
        web.netns = Netns::Pid(4711);
    });

    let plan = plan_to(&topology, &settled(&lab::with_endpoints(&[])));

    let address = |step: &&Step| matches!(step.key, Key::Address(..));
    let command = plan.command(plan.steps.iter().find(address).unwrap());
    assert_eq!(
        command,
        "nsenter -t 4711 -n ip address add 10.0.1.10/32 dev eth0"
    );
}

#[test]
fn process_as_namespace_of_a_new_link_prints_as_ip_takes_it() {
    let topology = lab::changed(lab::with_endpoints(&["web"]), "web", |web| {
        web.netns = Netns::Pid(4711);
    });

    let plan = plan_to(&topology, &settled(&lab::with_endpoints(&[])));

    let link = |step: &&Step| matches!(step.key, Key::EndpointLink(..));
    let command = plan.command(plan.steps.iter().find(link).unwrap());
    assert!(command.contains(" netns 4711 "), "{command}");
}

#[test]
fn pair_that_is_not_finished_is_said_to_be_so() {
    let mut observed = settled(&lab());
    let web = observed
        .objects
        .get_mut(&Key::EndpointLink("web".to_owned()));
    if let Some(Value::EndpointLink { mtu, .. }) = web {
        *mtu = 0;
    }

    let plan = plan_to(&lab(), &observed);

    let link = |step: &&Step| matches!(step.key, Key::EndpointLink(..));
    let step = plan.steps.iter().find(link).unwrap();
    assert_eq!(step.reason, "its creation or removal was interrupted");
}

#[test]
fn json_counts_and_names_every_step() {
    let plan = plan_to(&lab::relabelled(), &settled(&lab()));

    let json = plan.to_json();

    assert_eq!(json["schema"], 1);
    assert_eq!(json["change"], 1);
    assert_eq!(json["steps"][0]["action"], "change");
    assert_eq!(json["steps"][0]["key"], "policy");
    assert_eq!(json["steps"][0]["after"]["policy"]["subjects"], 3);
}

#[test]
fn same_topology_always_gives_the_same_fingerprint() {
    let first = desired_of(&lab(), &ambient());
    let second = desired_of(&lab(), &ambient());
    let other = desired_of(&lab::exchanged(), &ambient());

    assert_eq!(first[&Key::Generation], second[&Key::Generation]);
    assert_ne!(first[&Key::Generation], other[&Key::Generation]);
}

#[test]
fn policy_switches_by_itself_and_changes_no_fingerprint() {
    let before = desired_of(&lab(), &ambient());
    let after = desired_of(&lab::relabelled(), &ambient());

    assert_ne!(before[&Key::Policy], after[&Key::Policy]);
    assert_eq!(before[&Key::Generation], after[&Key::Generation]);
}
