//! Every file of `config-examples` is run as its own first lines say, and the README explains what
//! `status` shows.
//!
//! The commands are those of the comment at the top, in their order, on a machine that has what
//! the example speaks of.

use std::fs;
use std::path::Path;
use std::process::Command;

use datapath::verdict::DropReason;
use tests::lab::agent;
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
const README: &str = include_str!("../../README.md");
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

    assert_eq!(names, [LAB.0, PEERS.0, ROUTER.0]);
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
    let outside = Namespace::add("outside");
    let own = &example.machine.own;
    for place in [own, &outside] {
        place.set_sysctl("net/ipv6/conf/default/accept_dad", "0");
    }
    own.run("ip link add eth0 type veth peer name eth0 netns outside");
    for place in [own, &outside] {
        place.run("ip link set eth0 up");
    }
    for (near, far) in OUTSIDE {
        own.run(&format!("ip address add {near} dev eth0"));
        outside.run(&format!("ip address add {far} dev eth0"));
        let (gateway, _) = far.split_once('/').expect("a prefix");
        own.run(&format!("ip route add default via {gateway}"));
    }
    outside.run("ip address add 198.51.100.1/32 dev lo");
    wait_until("the link is there", || {
        answers(own, [198, 51, 100, 1].into())
    });
    own.run("ip neigh flush all");
    let before = example.inventory();

    example.play(|| {
        ping(
            &Namespace::named("web"),
            "2001:db8::1".parse().expect("an address"),
        );
    });

    own.run("ip netns del web");
    before.expect_same(&example.inventory(), "after the router");
}
