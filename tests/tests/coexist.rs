//! Programs of others beside ours, and labs beside a machine: nobody notices the other.

use std::env;
use std::path::Path;

use aya::programs::{LinkOrder, ProgramInfo, TcAttachType, loaded_programs};
use tests::lab::agent;
use tests::lab::inventory::Inventory;
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode, ping, pins};
use tests::lab::program::Counter;
use tests::lab::wait_until;
use tests::party::Family;

const LAB: &str = r#"
[[node]]
name = "edge-1"
address = "192.0.2.10"
ipv4 = "10.0.1.0/24"
ipv6 = "fd00:1::/64"

[[node]]
name = "edge-2"
address = "192.0.2.11"
ipv4 = "10.0.2.0/24"
ipv6 = "fd00:2::/64"

[[endpoint]]
node = "edge-1"
name = "web"

[[endpoint]]
node = "edge-1"
name = "db"

[[endpoint]]
node = "edge-2"
name = "api"
"#;

/// How often a lab comes and goes, unless `CILIATE_LAB_ROUNDS` says otherwise.
const ROUNDS: usize = 20;

#[test]
fn foreign_filters_beside_ours_see_packets_and_survive() {
    let net = OneNode::new();
    let [early, late, entry] = [Counter::new(), Counter::new(), Counter::new()];
    early
        .program
        .attach_filter(&net.host, "lxcweb", "egress", 1);
    late.program
        .attach_filter(&net.host, "lxcweb", "egress", 60_000);
    entry
        .program
        .attach_filter(&net.host, "lxcweb", "ingress", 1);

    for damage in [
        "true",
        "tc filter del dev lxcdb egress",
        &format!("rm -r {}", pins().root().display()),
    ] {
        net.host.run(damage);
        net.converge();

        let before = [&early, &late, &entry].map(Counter::count);
        ping(&net.host, net.address("web", Family::V4));
        ping(&net.web, net.address("db", Family::V6));
        let after = [&early, &late, &entry].map(Counter::count);
        assert!(
            after[0] > before[0],
            "the filter before ours should see packets after `{damage}`"
        );
        assert!(
            after[1] > before[1],
            "the filter behind ours should see packets after `{damage}`"
        );
        assert!(
            after[2] > before[2] + 1,
            "the filter before ours should see what web sends"
        );
        let filters = net.host.run("tc filter show dev lxcweb egress");
        assert_eq!(
            filters.matches(" bpf chain 0 handle").count(),
            3,
            "{filters}"
        );
    }
}

#[test]
fn foreign_filters_survive_an_edit_of_their_endpoint() {
    let net = OneNode::new();
    let counter = Counter::new();
    counter
        .program
        .attach_filter(&net.host, "lxcweb", "ingress", 1);

    net.write(
        &FILE
            .replace("name = \"edge-1\"", "name = \"edge-1\"\nmtu = 1400")
            .replace("10.0.1.10", "10.0.1.30"),
    );
    net.apply();
    net.ciliate("plan", 0);

    let before = counter.count();
    ping(&net.web, net.address("db", Family::V4));
    assert!(counter.count() > before, "the filter should still be there");
}

#[test]
fn foreign_programs_beside_ours_on_cilium_host_see_packets_and_survive() {
    let net = OneNode::new();
    if net.status()["devices"][0]["tc"]["kind"] != "tcx" {
        // Kernels before 6.6 have filters there, too: the test above is about those.
        return;
    }
    let [mut first, mut last, mut entry] = [Counter::new(), Counter::new(), Counter::new()];
    first
        .program
        .attach_tcx("cilium_host", TcAttachType::Ingress, LinkOrder::first());
    last.program
        .attach_tcx("cilium_host", TcAttachType::Ingress, LinkOrder::last());
    entry
        .program
        .attach_tcx("cilium_host", TcAttachType::Egress, LinkOrder::first());

    for damage in [
        "true",
        &format!("rm -r {}", pins().maps().display()),
        "rm -r /sys/fs/bpf/ciliate",
    ] {
        net.host.run(damage);
        net.converge();

        let before = [&first, &last, &entry].map(Counter::count);
        ping(&net.web, net.address("host", Family::V4));
        ping(&net.host, net.address("web", Family::V6));
        let after = [&first, &last, &entry].map(Counter::count);
        for (position, (before, after)) in before.into_iter().zip(after).enumerate() {
            assert!(
                after > before,
                "program {position} should see packets after `{damage}`"
            );
        }
    }
}

#[test]
fn foreign_filter_behind_our_tcx_program_sees_packets() {
    let net = OneNode::new();
    let counter = Counter::new();
    counter
        .program
        .attach_filter(&net.host, "cilium_host", "ingress", 1);
    net.converge();

    let before = counter.count();
    ping(&net.web, net.address("host", Family::V4));

    assert!(counter.count() > before, "the filter should see packets");
}

#[test]
fn programs_are_unloaded_after_down() {
    let net = OneNode::new();
    let pins = pins().root().join("programs");
    let loaded = || -> Vec<u32> {
        loaded_programs()
            .flatten()
            .map(|program| program.id())
            .collect()
    };
    let mut ours = Vec::new();
    for version in std::fs::read_dir(&pins)
        .expect("list the versions")
        .flatten()
    {
        for pin in std::fs::read_dir(version.path())
            .expect("list the programs")
            .flatten()
        {
            // The table of tail calls lies there, too.
            if pin.file_name() != "CALL" {
                let program = ProgramInfo::from_pin(pin.path()).expect("describe a program");
                ours.push(program.id());
            }
        }
    }
    assert!(
        ours.len() >= 7 && ours.iter().all(|id| loaded().contains(id)),
        "{ours:?}"
    );

    net.down();

    wait_until("all programs are gone", || {
        let loaded = loaded();
        !ours.iter().any(|id| loaded.contains(id))
    });
}

#[test]
fn labs_come_and_go_without_a_trace() {
    let machine = furnished();
    let file = machine.write("lab.toml", LAB).display().to_string();
    let (own, before) = ([("machine", &machine.own)], inventory(&machine));
    let rounds = env::var("CILIATE_LAB_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let network = Inventory::of(&own);

    for round in 0..rounds.unwrap_or(ROUNDS) {
        agent::expect(&machine.own, &format!("lab up {file}"), 0);
        if round == 0 {
            network.expect_same(&Inventory::of(&own), "while the lab is up");
            let [web, api, node] = ["web", "api", "edge-1"].map(Namespace::named);
            ping(&web, [10, 0, 1, 3].into());
            ping(&web, "fd00:1::1".parse().expect("an address"));
            ping(&api, [10, 0, 2, 1].into());
            ping(&node, [192, 0, 2, 11].into());
            agent::expect(&machine.own, "--node edge-2 status", 0);
        }
        agent::expect(&machine.own, &format!("lab down {file}"), 0);
        before.expect_same(&inventory(&machine), &format!("after round {round}"));
    }
}

#[test]
fn lab_that_is_up_already_stays_up() {
    let machine = furnished();
    let before = inventory(&machine);
    let file = machine.write("lab.toml", LAB).display().to_string();
    agent::expect(&machine.own, &format!("lab up {file}"), 0);
    let up = inventory(&machine);

    agent::expect(&machine.own, &format!("lab up {file}"), 0);

    up.expect_same(&inventory(&machine), "after the second `lab up`");
    ping(&Namespace::named("web"), [10, 0, 1, 3].into());
    agent::expect(&machine.own, &format!("lab down {file}"), 0);
    agent::expect(&machine.own, &format!("lab down {file}"), 0);
    before.expect_same(&inventory(&machine), "after the second `lab down`");
}

#[test]
fn lab_stays_up_when_nobody_reads_what_is_said_about_it() {
    let machine = furnished();
    let before = inventory(&machine);
    let file = machine.write("lab.toml", LAB).display().to_string();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec \"$0\" lab up \"$1\" > /dev/full"]);

    machine.own.execute(command.arg(agent::binary()).arg(&file));

    ping(&Namespace::named("web"), [10, 0, 1, 3].into());
    agent::expect(&machine.own, &format!("lab down {file}"), 0);
    before.expect_same(&inventory(&machine), "after `lab down`");
}

#[test]
fn node_of_a_lab_whose_namespace_was_deleted_by_hand_goes_with_the_lab() {
    let machine = furnished();
    let before = inventory(&machine);
    let file = machine.write("lab.toml", LAB).display().to_string();
    agent::expect(&machine.own, &format!("lab up {file}"), 0);
    machine.own.run("ip netns del edge-1");
    std::fs::write("/run/netns/edge-1", "").expect("leave a dead name");

    let outcome = agent::expect(&machine.own, &format!("lab down {file}"), 0);

    assert!(
        outcome.stdout.contains("node edge-1 is gone"),
        "should name it: {outcome:#?}"
    );
    before.expect_same(&inventory(&machine), "after `lab down`");
    assert!(
        !Path::new("/run/ciliate").exists(),
        "no state should be left"
    );
}

#[test]
fn lab_that_is_not_up_is_said_to_be_so() {
    let machine = furnished();
    let file = machine.write("lab.toml", LAB).display().to_string();

    let outcome = agent::expect(&machine.own, &format!("lab down {file}"), 0);

    assert_eq!(outcome.stdout, format!("no lab of {file} is up here\n"));
}

#[test]
fn nodes_of_a_lab_may_have_any_names() {
    let machine = furnished();
    let before = inventory(&machine);
    for (one, other) in [
        ("machine-room-west-1", "machine-room-west-2"),
        ("br0", "lo"),
    ] {
        let text = LAB.replace("edge-1", one).replace("edge-2", other);
        let file = machine.write("lab.toml", &text).display().to_string();

        agent::expect(&machine.own, &format!("lab up {file}"), 0);
        agent::expect(&machine.own, &format!("lab up {file}"), 0);

        for node in [one, other] {
            ping(&Namespace::named(node), [192, 0, 2, 10].into());
            ping(&Namespace::named(node), [192, 0, 2, 11].into());
        }
        agent::expect(&machine.own, &format!("lab down {file}"), 0);
    }
    std::fs::remove_file(machine.folder.join("lab.toml")).expect("remove the file");
    before.expect_same(&inventory(&machine), "after the labs");
}

#[test]
fn one_node_of_a_lab_can_come_and_go_alone() {
    let machine = furnished();
    let before = inventory(&machine);
    let file = machine.write("lab.toml", LAB).display().to_string();
    let lab = |verb: &str| agent::expect(&machine.own, &format!("lab {verb} {file}"), 0);

    lab("up --only edge-1");
    let alone = inventory(&machine);
    assert!(
        !alone.contains("/run/netns/api"),
        "the other node should not be there"
    );
    lab("up");
    lab("down --only edge-2");
    alone.expect_same(&inventory(&machine), "after the other node went");
    ping(&Namespace::named("web"), [10, 0, 1, 3].into());
    lab("down --only edge-1");

    before.expect_same(&inventory(&machine), "after both went");
}

#[test]
fn lab_whose_namespace_is_somebody_elses_is_refused_and_leaves_nothing() {
    let machine = furnished();
    let file = machine.write("lab.toml", LAB).display().to_string();
    Namespace::add("db");
    let before = inventory(&machine);

    let outcome = agent::expect(&machine.own, &format!("lab up {file}"), 71);

    assert!(
        outcome.stderr.contains("db"),
        "should name it: {outcome:#?}"
    );
    before.expect_same(&inventory(&machine), "after the refusal");
    agent::expect(&machine.own, &format!("lab down {file}"), 0);
    before.expect_same(&inventory(&machine), "after `lab down`");
}

/// Returns a machine that has something to lose.
fn furnished() -> Machine {
    let machine = Machine::new();
    let own = &machine.own;
    own.run("ip link add eth0 type veth peer name port0");
    for link in ["eth0", "port0"] {
        // Addresses that come by themselves come in the middle of the test.
        own.run(&format!("ip link set {link} addrgenmode none up"));
    }
    own.run("ip address add 192.0.2.10/24 dev eth0");
    own.run("ip -6 address add 2001:db8::10/64 dev eth0 nodad");
    own.run("ip route add default via 192.0.2.1");
    // The kernel adds these when it has noted the carrier.
    let routes = [
        "2001:db8::10 dev eth0",
        "ff00::/8 dev eth0",
        "ff00::/8 dev port0",
    ];
    wait_until("the machine has its routes", || {
        let table = own.run("ip -6 route show table all");
        routes.iter().all(|route| table.contains(route))
    });
    own.run("ip rule add fwmark 0x200/0xf00 lookup 2004 priority 9");
    if own.attempt("nft --version").code == Some(0) {
        own.run("nft add table inet docker-like");
        own.run("nft add chain inet docker-like forward { type filter hook forward priority 0 ; policy drop ; }");
    }
    machine
}

fn inventory(machine: &Machine) -> Inventory {
    Inventory::of_machine(&[("machine", &machine.own)])
}
