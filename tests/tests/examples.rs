//! Every file of `config-examples` is run as its own first lines say, and the README explains what
//! `status` shows.
//!
//! The commands are those of the comment at the top, in their order, on a machine that has what
//! the example speaks of.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use datapath::verdict::DropReason;
use tests::lab::agent;
use tests::lab::dhcp::{DhcpServer, Script};
use tests::lab::inventory::Inventory;
use tests::lab::machine::Machine;
use tests::lab::namespace::{Namespace, Outcome};
use tests::lab::node::{answers, ping};
use tests::lab::wait_until;

const FOLDER: &str = "config-examples";
const LAB: (&str, &str) = ("lab.toml", include_str!("../../config-examples/lab.toml"));
const PEERS: (&str, &str) = (
    "peers.toml",
    include_str!("../../config-examples/peers.toml"),
);
const ROUTER: (&str, &str) = (
    "router.toml",
    include_str!("../../config-examples/router.toml"),
);
const EGRESS: (&str, &str) = (
    "policy-egress.toml",
    include_str!("../../config-examples/policy-egress.toml"),
);
const HOST: (&str, &str) = (
    "policy-host.toml",
    include_str!("../../config-examples/policy-host.toml"),
);
const METADATA: (&str, &str) = (
    "policy-metadata.toml",
    include_str!("../../config-examples/policy-metadata.toml"),
);
const THREE_TIER: (&str, &str) = (
    "policy-three-tier.toml",
    include_str!("../../config-examples/policy-three-tier.toml"),
);
const UPLINK: (&str, &str) = (
    "uplink.toml",
    include_str!("../../config-examples/uplink.toml"),
);
const README: &str = include_str!("../../README.md");
/// How long a connection may take to come about.
const MOMENT: Duration = Duration::from_millis(300);
/// What a command line of an example begins with.
const PROMPT: &str = "#   sudo ";
const OUTSIDE: [(&str, &str); 2] = [
    ("192.0.2.10/24", "192.0.2.1/24"),
    ("2001:db8::10/64", "2001:db8::1/64"),
];

/// Is an example on a machine of its own.
struct Example {
    machine: Machine,
    name: &'static str,
    text: &'static str,
}

impl Example {
    fn new((name, text): (&'static str, &'static str)) -> Self {
        let machine = Machine::new();
        let folder = machine.folder.join(FOLDER);
        fs::create_dir(&folder).expect("make a folder");
        fs::write(folder.join(name), text).expect("write the example");
        Self {
            machine,
            name,
            text,
        }
    }

    /// Returns the commands that the example shows, without what a shell ignores.
    fn commands(&self) -> Vec<&'static str> {
        let lines = self.text.lines();
        let lines = lines.filter_map(|line| line.strip_prefix(PROMPT));
        let commands: Vec<_> = lines
            .map(|line| line.split(" # ").next().unwrap_or(line).trim())
            .collect();
        assert!(commands.len() > 2, "{} should say how it is run", self.name);
        commands
    }

    /// Runs a command as it is written; a ping ends after its first answer.
    fn run(&self, line: &str) -> Outcome {
        let line = line.replace(" ping ", " ping -n -c 1 -W 2 ");
        let mut words = line.split_whitespace();
        let first = words.next().expect("a command has words");
        let program = if first == "ciliate" {
            agent::binary()
        } else {
            first.into()
        };
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.machine.folder);
        self.machine.own.execute(&mut command)
    }

    /// Runs a command, which must succeed; a plan may have something to do.
    fn expect(&self, line: &str) {
        let outcome = self.run(line);
        let is_fine =
            outcome.code == Some(0) || line.starts_with("ciliate plan") && outcome.code == Some(2);
        assert!(is_fine, "`{line}` of {}: {outcome:#?}", self.name);
    }

    /// Checks the file, and runs its commands; `work` is done before the last one, when all is up.
    fn play(&self, work: impl FnOnce()) {
        self.expect(&format!("ciliate check {FOLDER}/{}", self.name));
        let commands = self.commands();
        let (last, others) = commands.split_last().expect("there are some");
        for line in others {
            self.expect(line);
        }
        work();
        self.expect(last);
    }

    /// Fails if a node of the lab would be changed by another `apply`.
    fn expect_nothing_to_do(&self, node: &str) {
        let file = self.machine.folder.join(FOLDER).join(self.name);
        let line = format!("--node {node} plan {}", file.display());
        agent::expect(&Namespace::named(node), &line, 0);
    }

    /// Joins the machine to an outside by `eth0`, where it has the addresses of the example.
    /// Returns what there is then.
    fn join_outside(&self) -> Inventory {
        let (own, outside) = (&self.machine.own, Namespace::add("outside"));
        for place in [own, &outside] {
            place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
        }
        own.run("ip link add eth0 type veth peer name eth0 netns outside");
        for place in [own, &outside] {
            place.run("ip link set eth0 up");
        }
        for (near, far) in OUTSIDE {
            for (place, address) in [(own, near), (&outside, far)] {
                let duplicates = if address.contains(':') { " nodad" } else { "" };
                place.run(&format!("ip address add {address} dev eth0{duplicates}"));
            }
            let (gateway, _) = far.split_once('/').expect("a prefix");
            own.run(&format!("ip route add default via {gateway}"));
        }
        for address in ["198.51.100.1", "198.51.100.129"] {
            outside.run(&format!("ip address add {address}/32 dev lo"));
        }
        wait_until("the link is there", || {
            answers(own, [198, 51, 100, 1].into())
        });
        own.run("ip neigh flush all");
        self.inventory()
    }

    /// Fails unless `policy test` says the same of a port.
    fn expect_answer(&self, from: &str, to: &str, port: u16, passes: bool) {
        let outcome = self.run(&format!(
            "ciliate policy test --from {from} --to {to} --port tcp/{port} --config {FOLDER}/{}",
            self.name
        ));
        assert_eq!(outcome.code, Some(i32::from(!passes)), "{outcome:#?}");
    }

    fn inventory(&self) -> Inventory {
        Inventory::of_machine(&[("machine", &self.machine.own)])
    }
}

#[test]
fn no_example_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(FOLDER);
    // A guest has the tests, and not where they came from.
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let names = entries.map(|entry| entry.expect("list the examples").file_name());

    let mut names: Vec<_> = names.collect();
    names.sort();

    let shown = [
        LAB, PEERS, EGRESS, HOST, METADATA, THREE_TIER, ROUTER, UPLINK,
    ];
    assert_eq!(names, shown.map(|(name, _)| name));
    for name in names {
        let name = name.to_string_lossy();
        let link = format!("[`{name}`]({FOLDER}/{name})");
        assert!(README.contains(&link), "README.md should have: {link}");
    }
}

#[test]
fn readme_explains_every_drop_reason() {
    for reason in DropReason::ALL {
        let row = format!("| {} {} |", *reason as u8, reason.text());
        assert!(README.contains(&row), "README.md should have: {row}");
    }
}

#[test]
fn lab_comes_and_goes() {
    let example = Example::new(LAB);
    let before = example.inventory();

    example.play(|| {
        let [web, db, edge] = ["web", "db", "edge-1"].map(Namespace::named);
        ping(&web, "fd00:1::11".parse().expect("an address"));
        ping(&db, [10, 0, 1, 1].into());
        ping(&edge, [192, 0, 2, 11].into());
        for node in ["edge-1", "edge-2"] {
            example.expect_nothing_to_do(node);
        }
    });

    before.expect_same(&example.inventory(), "after the lab");
}

#[test]
fn peers_reach_each_other() {
    let example = Example::new(PEERS);
    let before = example.inventory();

    example.play(|| {
        for (from, others) in [("web", [2, 3]), ("api", [1, 3]), ("db", [1, 2])] {
            for number in others {
                for address in [format!("10.0.{number}.10"), format!("fd00:{number}::10")] {
                    let address = address.parse().expect("an address");
                    ping(&Namespace::named(from), address);
                }
            }
        }
        for node in ["edge-1", "edge-2", "edge-3"] {
            example.expect_nothing_to_do(node);
        }
    });

    before.expect_same(&example.inventory(), "after the lab");
}

#[test]
fn router_lets_its_endpoint_out() {
    let example = Example::new(ROUTER);
    let (own, before) = (&example.machine.own, example.join_outside());

    example.play(|| {
        ping(
            &Namespace::named("web"),
            "2001:db8::1".parse().expect("an address"),
        );
    });

    own.run("ip netns del web");
    before.expect_same(&example.inventory(), "after the router");
}

#[test]
fn uplink_gets_an_address_of_a_server() {
    let example = Example::new(UPLINK);
    let (own, outside) = (&example.machine.own, Namespace::add("outside"));
    for place in [own, &outside] {
        place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
    }
    own.run("ip link add eth0 type veth peer name eth0 netns outside");
    own.run("ip link set eth0 up");
    for line in [
        "ip link set eth0 up",
        "ip address add 192.0.2.1/24 dev eth0",
        "ip address add 2001:db8::1/64 dev eth0 nodad",
        "ip address add 198.51.100.1/32 dev lo",
    ] {
        outside.run(line);
    }
    let _server = DhcpServer::start(&outside, Script::default());
    let before = example.inventory();

    example.play(|| {
        let address = "2001:db8::1".parse().expect("an address");
        ping(&Namespace::named("web"), address);
        let lease = agent::json(own, "status")["devices"][1]["lease"].take();
        assert_eq!(lease["server"], "192.0.2.1");
    });

    own.run("ip netns del web");
    before.expect_same(&example.inventory(), "after the uplink");
}

#[test]
fn egress_is_closed_but_for_what_is_needed() {
    let example = Example::new(EGRESS);
    example.join_outside();

    example.play(|| {
        let app = Namespace::named("app");
        for (address, port, passes) in [
            ("198.51.100.1", 443, true),
            ("198.51.100.1", 25, false),
            ("198.51.100.129", 443, false),
            ("192.0.2.1", 53, true),
            ("192.0.2.1", 443, false),
            ("2001:db8::1", 53, true),
            ("2001:db8::1", 443, false),
        ] {
            let seen = reaches(&app, &Namespace::named("outside"), address, port);
            assert_eq!(seen, passes, "{address} at {port}");
            example.expect_answer("app", address, port, passes);
        }
    });
}

#[test]
fn metadata_service_is_closed_to_who_does_not_need_it() {
    let example = Example::new(METADATA);
    example.join_outside();
    let outside = Namespace::named("outside");
    outside.run("ip address add 169.254.169.254/32 dev lo");
    outside.run("ip address add fd00:ec2::254/128 dev lo nodad");

    example.play(|| {
        let [v4, v6] = ["169.254.169.254", "fd00:ec2::254"];
        for (name, passes) in [("web", false), ("backup", true)] {
            let place = Namespace::named(name);
            assert_eq!(reaches(&place, &outside, v6, 80), passes, "{name} to {v6}");
            example.expect_answer(name, v6, 80, passes);
            assert!(!reaches(&place, &outside, v4, 80), "it is link-local");
            example.expect_answer(name, v4, 80, false);
        }
        let web = Namespace::named("web");
        assert!(reaches(&web, &outside, "2001:db8::1", 80));
    });
}

#[test]
fn three_tiers_speak_with_their_neighbours_only() {
    let example = Example::new(THREE_TIER);
    let before = example.inventory();

    example.play(|| {
        let tiers = [
            ("web", "10.0.1.10", "fd00:1::10"),
            ("batch", "10.0.1.11", "fd00:1::11"),
            ("app", "10.0.2.10", "fd00:2::10"),
            ("db", "10.0.2.11", "fd00:2::11"),
        ];
        let allowed = [
            ("web", "app", 8080),
            ("batch", "app", 8080),
            ("app", "db", 5432),
        ];
        for (from, ..) in tiers {
            for (to, v4, v6) in tiers.into_iter().filter(|(to, ..)| *to != from) {
                let [client, server] = [from, to].map(Namespace::named);
                ping(&client, v4.parse().expect("an address"));
                for port in [80, 5432, 8080] {
                    let passes = allowed.contains(&(from, to, port));
                    for address in [v4, v6] {
                        let seen = reaches(&client, &server, address, port);
                        assert_eq!(seen, passes, "{from} to {to} at {port}");
                    }
                    example.expect_answer(from, to, port, passes);
                }
            }
        }
        for node in ["edge-1", "edge-2"] {
            example.expect_nothing_to_do(node);
        }
    });

    before.expect_same(&example.inventory(), "after the lab");
}

#[test]
fn machine_is_watched_first_and_closed_later() {
    let example = Example::new(HOST);
    example.join_outside();
    let (own, outside) = (&example.machine.own, Namespace::named("outside"));
    let office = ["203.0.113.7", "2001:db8:203::7"];
    outside.run("ip address add 203.0.113.7/32 dev lo");
    outside.run("ip address add 2001:db8:203::7/128 dev lo nodad");
    let would_deny = || {
        let status = agent::json(own, "status");
        status["policy"]["host"]["would_deny"]
            .as_u64()
            .expect("a number")
    };

    example.play(|| {
        for address in ["192.0.2.10", "2001:db8::10"] {
            let before = would_deny();
            assert!(reaches(&outside, own, address, 22), "it is only watched");
            assert!(would_deny() > before, "and counted");
        }

        let enforced = example
            .text
            .replace("host = \"audit\"", "host = \"enforce\"");
        let file = example.machine.write("enforced.toml", &enforced);
        agent::expect(own, &format!("apply {}", file.display()), 0);

        for (address, source) in ["192.0.2.10", "2001:db8::10"].into_iter().zip(office) {
            assert!(!reaches(&outside, own, address, 22), "{address} is closed");
            outside.run(&format!("ping -n -c 1 -W 2 {address}"));
            outside.run(&format!("ip route add {address} dev eth0 src {source}"));
            assert!(reaches(&outside, own, address, 22), "{source} is let in");
            assert!(!reaches(&outside, own, address, 80), "at this port only");
        }
        assert!(reaches(own, &outside, "192.0.2.1", 80), "the machine calls");
    });
}

/// Tells whether somebody can connect to an address and a port that somebody else has.
fn reaches(from: &Namespace, to: &Namespace, address: &str, port: u16) -> bool {
    let target = SocketAddr::new(address.parse().expect("an address"), port);
    let _listener = to.inside(|| TcpListener::bind(target)).expect("listen");
    from.inside(|| TcpStream::connect_timeout(&target, MOMENT))
        .is_ok()
}
