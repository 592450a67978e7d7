//! Editing the file changes what the edit is about, and nothing else.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsRawFd;

use ciliate::datapath::sys;
use tests::lab::agent;
use tests::lab::namespace::Namespace;
use tests::lab::node::{FILE, OneNode, answers, ping, pins};
use tests::lab::stream::Stream;
use tests::party::Family;

const NEW: &str = "\n[[endpoint]]\nname = \"new\"\nipv4 = \"10.0.1.40\"\nipv6 = \"fd00:1::40\"\n";

#[test]
fn added_endpoint_reattaches_nothing_and_loses_no_packet_of_others() {
    let net = OneNode::new();
    let new = Namespace::add("new");
    let before = attachments(&net);
    let streams = Family::BOTH.map(|family| {
        let (from, to, name) = if family == Family::V4 {
            (&net.web, &net.db, "db")
        } else {
            (&net.db, &net.web, "web")
        };
        Stream::start(from, to, net.address(name, family))
    });

    net.write(&format!("{FILE}{NEW}"));
    net.converge();

    assert_eq!(
        before,
        attachments(&net),
        "programs, filters and links should be the same"
    );
    for stream in streams {
        stream.expect_complete();
    }
    for family in Family::BOTH {
        ping(&new, net.address("web", family));
    }
}

#[test]
fn removed_endpoint_takes_nothing_of_others_along() {
    let net = OneNode::new();
    let new = Namespace::add("new");
    let empty = net.inventory();
    let before = attachments(&net);
    net.write(&format!("{FILE}{NEW}"));
    net.converge();
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    net.write(FILE);
    net.converge();

    stream.expect_complete();
    assert_eq!(
        before,
        attachments(&net),
        "programs, filters and links should be the same"
    );
    empty.expect_same(&net.inventory(), "after the endpoint went");
    assert_eq!(
        new.run("ip -br link show type veth"),
        "",
        "its link should be gone"
    );
    assert!(
        !answers(&net.web, [10, 0, 1, 40].into()),
        "nobody should answer there"
    );
}

/// Sixteen slices of the tables of pending flows become thirty-two: programs are loaded anew.
#[test]
fn endpoint_that_needs_larger_tables_loses_no_packet_of_others() {
    let net = OneNode::new();
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));
    let mut text = FILE.to_owned();
    for number in 0..14 {
        Namespace::add(&format!("more{number}"));
        write!(text, "\n[[endpoint]]\nname = \"more{number}\"\n").expect("a text grows");
    }

    net.write(&text);
    net.converge();
    net.write(FILE);
    net.converge();

    stream.expect_complete();
}

#[test]
fn renamed_endpoint_keeps_its_namespace_and_address() {
    let net = OneNode::new();
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V6));
    let renamed = FILE.replace(
        "name = \"api\"",
        "name = \"an-endpoint-with-a-long-name\"\nnetns = \"api\"",
    );

    net.write(&renamed);
    net.apply();

    net.ciliate("plan", 0);
    stream.expect_complete();
    ping(&net.web, [10, 0, 1, 12].into());
    ping(&net.api, net.address("web", Family::V6));
    assert!(
        !net.host.run("ip -br link show").contains("lxcapi"),
        "the old link should be gone"
    );
    net.host.run("ip link show an-endpoint-with-a-long-name");
    let status = net.status();
    let names = status["endpoints"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["name"]);
    assert!(
        names
            .into_iter()
            .any(|name| name == "an-endpoint-with-a-long-name"),
        "{status:#}"
    );
}

#[test]
fn endpoints_that_swap_addresses_have_them_afterwards() {
    let net = OneNode::new();
    let swapped = FILE
        .replace("10.0.1.10", "10.0.1.0x")
        .replace("10.0.1.11", "10.0.1.10")
        .replace("10.0.1.0x", "10.0.1.11");

    net.write(&swapped);
    net.apply();

    net.ciliate("plan", 0);
    assert!(
        net.web
            .run("ip -4 -o address show dev eth0")
            .contains("10.0.1.11/32")
    );
    ping(&net.web, [10, 0, 1, 10].into());
    ping(&net.db, [10, 0, 1, 11].into());
}

#[test]
fn changed_address_is_the_only_one_that_answers() {
    let net = OneNode::new();
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    net.write(
        &FILE
            .replace("10.0.1.12", "10.0.1.33")
            .replace("fd00:1::12", "fd00:1::33"),
    );
    net.apply();

    net.ciliate("plan", 0);
    stream.expect_complete();
    ping(&net.web, [10, 0, 1, 33].into());
    ping(&net.web, "fd00:1::33".parse().expect("an address"));
    ping(&net.api, net.address("web", Family::V4));
    assert!(
        !answers(&net.web, [10, 0, 1, 12].into()),
        "the old address should be gone"
    );
}

#[test]
fn changed_mtu_holds_on_links_and_routes_and_for_packets() {
    let net = OneNode::new();

    net.write(&FILE.replace("name = \"edge-1\"", "name = \"edge-1\"\nmtu = 9000"));
    net.apply();

    net.ciliate("plan", 0);
    for (place, link) in [
        (&net.host, "lxcweb"),
        (&net.host, "cilium_host"),
        (&net.web, "eth0"),
    ] {
        assert!(
            place
                .run(&format!("ip link show {link}"))
                .contains("mtu 9000"),
            "{link}"
        );
    }
    assert!(net.web.run("ip route show default").contains("mtu 9000"));
    for family in Family::BOTH {
        // Not to be fragmented: only the new size carries it.
        net.web.run(&format!(
            "ping -n -c 2 -i 0.01 -W 2 -M do -s 8000 {}",
            net.address("db", family)
        ));
        net.host.run(&format!(
            "ping -n -c 2 -i 0.01 -W 2 -M do -s 8000 {}",
            net.address("db", family)
        ));
    }
    net.write(FILE);
    net.converge();
}

#[test]
fn changed_prefix_moves_the_whole_node() {
    let net = OneNode::new();

    net.write(
        &FILE
            .replace("10.0.1.", "10.9.9.")
            .replace("fd00:1::", "fd00:9::"),
    );
    net.apply();

    net.ciliate("plan", 0);
    ping(&net.web, [10, 9, 9, 11].into());
    ping(&net.web, "fd00:9::11".parse().expect("an address"));
    ping(&net.host, [10, 9, 9, 10].into());
    for command in ["ip -4 route", "ip -6 route", "ip address"] {
        let shown = net.host.run(command);
        assert!(
            !shown.contains("10.0.1.") && !shown.contains("fd00:1:"),
            "{shown}"
        );
    }
}

#[test]
fn nodes_on_one_machine_do_not_meet() {
    let net = OneNode::new();
    let node = Namespace::add("node2");
    let far = Namespace::add("far");
    let before = net.inventory();
    let text = "[[node]]\nname = \"edge-2\"\nipv4 = \"10.0.1.0/24\"\n[[endpoint]]\nname = \"web\"\nnetns = \"far\"\n";
    let file = net.machine.write("second.toml", text);

    agent::expect(&node, &format!("apply {}", file.display()), 0);

    ping(&far, [10, 0, 1, 1].into());
    agent::expect(&net.host, "status", 64);
    agent::expect(&net.host, "--node edge-2 down", 0);
    before.expect_same(&net.inventory(), "after the second node went");
    net.converge();
}

/// Describes what is attached: filters with their programs' numbers, and tcx links with theirs.
fn attachments(net: &OneNode) -> Vec<String> {
    let mut found = Vec::new();
    for link in ["lxcweb", "lxcdb", "lxcapi"] {
        for hook in ["ingress", "egress"] {
            found.push(net.host.run(&format!("tc filter show dev {link} {hook}")));
        }
    }
    for pin in ["cilium_host_ingress", "cilium_host_egress"] {
        let path = pins().links().join(pin);
        if let Ok(link) = sys::open_pin(&path) {
            let file = format!("/proc/self/fdinfo/{}", link.as_raw_fd());
            let info = fs::read_to_string(file).expect("describe a link");
            found.extend(
                info.lines()
                    .filter(|line| line.contains("_id"))
                    .map(str::to_owned),
            );
        }
    }
    assert!(
        found.iter().all(|one| !one.is_empty()),
        "everything should be attached: {found:#?}"
    );
    found
}
