//! Other binaries: one with other programs, one with tables of another layout as well; and back.

use std::fs;
use std::process::Command;

use aya::programs::links::{FdLink, PinnedLink};
use ciliate::datapath::observe::versions;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::lab::agent;
use tests::lab::namespace::Outcome;
use tests::lab::node::{OneNode, pins};
use tests::lab::outside::Outside;
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::party::Family;

use crate::talk::Talk;

/// Most steps that a run of these tests has.
const MOST_STEPS: usize = 200;

/// Runs a binary with the node's file; it must end with `code`.
pub(crate) fn run(lab: &Outside, binary: &str, verb: &str, code: i32) -> Outcome {
    let mut command = Command::new(agent::variant(binary));
    let outcome = lab.net.host.execute(command.arg(verb).arg(&lab.net.file));
    assert_eq!(outcome.code, Some(code), "{binary} {verb}: {outcome:#?}");
    outcome
}

/// Returns the numbers of our programs' links, and where they are attached.
fn links() -> Vec<(String, u32)> {
    let entries = fs::read_dir(pins().links()).expect("links");
    let mut found: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let link = PinnedLink::from_pin(entry.path()).expect("a link");
            let info = FdLink::from(link).info().expect("of the link");
            (entry.file_name().to_string_lossy().into_owned(), info.id())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn binary_with_other_programs_takes_over_and_gives_back() {
    let lab = Outside::new();
    lab.apply("bpf");
    let (before, first) = (links(), versions(&pins()).expect("versions"));
    let mut talk = Talk::begin(&lab);

    for binary in ["ciliate-other-programs", "ciliate"] {
        run(&lab, binary, "apply", 0);
        run(&lab, binary, "plan", 0);
        talk.go_on();
        assert_eq!(links(), before, "links should be those that were there");
        let now = versions(&pins()).expect("versions");
        assert_eq!(now.len(), 1, "{binary} should leave its own programs only");
        assert_eq!(now == first, binary == "ciliate", "{now:?}");
    }

    talk.end();
    lab.expect_traffic();
}

#[test]
fn binary_with_another_layout_takes_over_and_counts_on() {
    for host_routing in ["bpf", "legacy"] {
        let lab = Outside::new();
        lab.apply(host_routing);
        drop_something(&lab);
        let mut talk = Talk::begin(&lab);
        let before = status(&lab, "ciliate");

        let plan = run(&lab, "ciliate-next-schema", "plan", 2);
        assert!(plan.stdout.contains("another layout"), "{plan:#?}");
        run(&lab, "ciliate-next-schema", "apply", 0);

        run(&lab, "ciliate-next-schema", "plan", 0);
        talk.go_on();
        let after = status(&lab, "ciliate-next-schema");
        let drops = |status: &Value| status["drops"].clone();
        assert_eq!(drops(&before), drops(&after), "counters should go on");
        drop_something(&lab);
        let later = status(&lab, "ciliate-next-schema");
        assert_ne!(drops(&after), drops(&later), "drops should be counted");
        let flows = |status: &Value| entries(status, "FLOWS4") + entries(status, "FLOWS6");
        assert!(
            flows(&after) >= flows(&before),
            "{} flows of {}",
            flows(&after),
            flows(&before)
        );
        talk.end();
        assert_eq!(
            pins().layouts(),
            [datapath::abi::SCHEMA + 1].into(),
            "one layout should be left"
        );
        let refused = run(&lab, "ciliate", "apply", 71);
        assert!(
            refused.stderr.contains("layout") && refused.stderr.contains("ciliate down"),
            "{refused:#?}"
        );
        run(&lab, "ciliate-next-schema", "plan", 0);
        agent::expect(&lab.net.host, "down", 0);
        assert!(!pins().exist(), "nothing should be left");
        lab.net.apply();
        lab.expect_traffic();
    }
}

/// Makes the node drop a packet: one with a source address that the endpoint does not have.
fn drop_something(lab: &Outside) {
    lab.net.web.run("ip address add 10.99.0.1/32 dev eth0");
    let far = Outside::far(Family::V4);
    lab.net
        .web
        .attempt(&format!("ping -n -c 1 -W 1 -I 10.99.0.1 {far}"));
    lab.net.web.run("ip address del 10.99.0.1/32 dev eth0");
}

pub(crate) fn status(lab: &Outside, binary: &str) -> Value {
    let mut command = Command::new(agent::variant(binary));
    let outcome = lab.net.host.execute(command.args(["--json", "status"]));
    serde_json::from_str(&outcome.stdout).expect("`--json` prints JSON")
}

fn entries(status: &Value, map: &str) -> u64 {
    let maps = status["maps"].as_array().expect("maps");
    let map = maps.iter().find(|found| found["name"] == map);
    map.and_then(|map| map["entries"].as_u64())
        .expect("entries")
}

#[test]
fn upgrade_that_is_killed_anywhere_is_completed_and_loses_nothing() {
    let lab = Outside::new();
    lab.apply("bpf");

    let (mut is_over, mut steps) = (false, 0);
    for number in 0..2 * MOST_STEPS {
        let (when, step) = (["before", "after"][number % 2], number / 2);
        let mut talk = Talk::begin(&lab);
        let mut command = Command::new(agent::variant("interrupted-next-schema"));
        let line = format!("{when} {step}");
        let outcome = lab
            .net
            .host
            .execute(command.args(line.split(' ')).arg(&lab.net.file));
        assert!(
            matches!(outcome.code, None | Some(0)),
            "{line}: {outcome:#?}"
        );
        (is_over, steps) = (outcome.code == Some(0), step);
        talk.go_on();
        run(&lab, "ciliate-next-schema", "apply", 0);
        run(&lab, "ciliate-next-schema", "plan", 0);
        talk.end();
        lab.net.down();
        lab.net.apply();
        if is_over {
            break;
        }
    }

    eprintln!("an upgrade has {steps} steps");
    assert!(steps > 15, "{steps} steps are too few");
    assert!(
        is_over,
        "an upgrade should have fewer than {MOST_STEPS} steps"
    );
}

#[test]
fn agent_that_is_killed_at_any_time_loses_nothing_and_attaches_nothing_again() {
    let net = OneNode::prepared();
    let file = net.file.display().to_string();
    let mut agent = Resident::start(&net.machine, &net.host, &file);
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));
    let back = Stream::start(&net.db, &net.web, net.address("web", Family::V6));
    let attached = attachments(&net);

    for round in 0..10 {
        let code = agent.end(Signal::SIGKILL);
        assert_eq!(code, None, "round {round}: it should be killed");
        agent = Resident::start(&net.machine, &net.host, &file);
        assert_eq!(attachments(&net), attached, "round {round}");
    }

    stream.expect_complete();
    back.expect_complete();
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));
}

/// Returns the ids of all programs on the links of endpoints and of the node.
fn attachments(net: &OneNode) -> String {
    let links = ["lxcweb", "lxcdb", "lxcapi"];
    let lines = links.map(|link| net.host.run(&format!("tc filter show dev {link} ingress")));
    lines.concat()
}
