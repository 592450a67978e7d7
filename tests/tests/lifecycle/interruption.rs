//! A run that is killed at any point leaves a node from which the next run converges.

use std::process::Command;

use tests::lab::agent;
use tests::lab::node::{FILE, OneNode};
use tests::lab::stream::Stream;
use tests::party::Family;

/// Most steps that a run of these tests has.
const MOST_STEPS: usize = 200;

/// Is what an edit replaces.
const EDITED: [(&str, &str); 2] = [
    ("fd00:1::12", "fd00:1::22"),
    ("name = \"api\"", "name = \"api\"\nnetns = \"api\""),
];

#[test]
fn boot_that_is_killed_anywhere_is_completed_by_the_next_apply() {
    let net = OneNode::prepared();
    let before = net.inventory();

    let runs = interrupt_everywhere(&net, &file(&net), || {
        net.apply();
        net.ciliate("plan", 0);
        net.ping_all();
        net.down();
    });

    assert!(
        runs > 80,
        "{runs} points are too few: every step should have two"
    );
    before.expect_same(&net.inventory(), "after all of it");
}

#[test]
fn boot_that_is_killed_anywhere_is_removed_by_down() {
    let net = OneNode::prepared();
    let before = net.inventory();

    interrupt_everywhere(&net, &file(&net), || {
        net.down();
    });

    before.expect_same(&net.inventory(), "after all of it");
}

#[test]
fn edit_that_is_killed_anywhere_is_completed_and_loses_no_packet_of_others() {
    let net = OneNode::new();
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));
    let (without_api, _) = FILE
        .rsplit_once("[[endpoint]]")
        .expect("the file has endpoints");
    let edited = EDITED
        .iter()
        .fold(FILE.to_owned(), |file, (old, new)| file.replace(old, new));

    for texts in [
        [FILE, without_api],
        [without_api, FILE],
        [FILE, edited.as_str()],
    ] {
        net.write(texts[0]);
        net.apply();
        net.write(texts[1]);
        interrupt_everywhere(&net, &file(&net), || {
            net.apply();
            net.ciliate("plan", 0);
            net.write(texts[0]);
            net.apply();
            net.write(texts[1]);
        });
    }

    stream.expect_complete();
    net.write(FILE);
    net.converge();
}

#[test]
fn down_that_is_killed_anywhere_is_completed_by_the_next_down() {
    let net = OneNode::prepared();
    let before = net.inventory();
    net.apply();

    interrupt_everywhere(&net, "down edge-1", || {
        net.down();
        net.apply();
    });

    net.down();
    before.expect_same(&net.inventory(), "after all of it");
}

#[test]
fn down_that_is_killed_anywhere_is_taken_back_by_the_next_apply() {
    let net = OneNode::new();

    interrupt_everywhere(&net, "down edge-1", || {
        net.apply();
        net.ciliate("plan", 0);
        net.ping_all();
    });
}

#[test]
fn damaged_files_block_no_verb() {
    let net = OneNode::new();
    let folder = std::path::Path::new("/run/ciliate/edge-1");
    for damaged in [&b""[..], b"\xff\xfe\n"] {
        for file in ["state.json", "journal"] {
            std::fs::write(folder.join(file), damaged).expect("damage a file");
        }
        let outcome = net.ciliate("plan", 2);
        assert!(outcome.stderr.contains("original values"), "{outcome:#?}");
        net.status();
        let kept = std::fs::read(folder.join("state.json")).expect("it is still there");
        assert_eq!(kept, damaged, "plan and status should write nothing");
        net.converge();
    }
    std::fs::write(folder.join("state.json"), "").expect("damage a file");

    net.down();
    agent::expect(&net.host, "down", 69);
}

/// The same with the real binary, killed at a system call; every seventh stands for all.
#[test]
fn agent_that_is_killed_at_a_system_call_is_succeeded_by_one_that_converges() {
    let net = OneNode::prepared();
    let before = net.inventory();

    kill_at_calls(&net, |is_even| {
        if is_even {
            net.apply();
            net.ciliate("plan", 0);
            net.ping_all();
        }
        net.down();
        before.expect_same(&net.inventory(), "after down");
    });
}

/// Kills the agent at one system call after the other that may write.
fn kill_at_calls(net: &OneNode, mut recover: impl FnMut(bool)) {
    let calls = "sendto,sendmsg,bpf,write,mkdir,rename,unlink,mount";
    for number in (1..4_000).step_by(7) {
        let outcome = net.host.attempt(&format!(
            "strace -f -o /dev/null -e trace={calls} -e inject={calls}:signal=KILL:when={number} {} apply {}",
            agent::binary().display(),
            net.file.display()
        ));
        let is_set_up = std::path::Path::new("/run/ciliate/edge-1").exists();
        if is_set_up {
            recover(number % 2 == 0);
        }
        if outcome.code == Some(0) {
            assert!(
                number > 50,
                "the agent should have been killed before: {outcome:#?}"
            );
            return;
        }
    }
    panic!("the agent should end at some time");
}

fn file(net: &OneNode) -> String {
    net.file.display().to_string()
}

/// Kills a run before and after each of its steps, and calls `recover` each time; returns how
/// often.
fn interrupt_everywhere(net: &OneNode, run: &str, mut recover: impl FnMut()) -> usize {
    let mut runs = 0;
    for when in ["before", "after"] {
        let is_over = (0..MOST_STEPS).any(|step| {
            let line = format!("{when} {step} {run}");
            let mut command = Command::new(env!("CARGO_BIN_EXE_interrupted"));
            let outcome = net.host.execute(command.args(line.split(' ')));
            assert!(
                matches!(outcome.code, None | Some(0)),
                "{line} should be killed: {outcome:#?}"
            );
            runs += 1;
            recover();
            outcome.code == Some(0)
        });
        assert!(is_over, "a run should have fewer than {MOST_STEPS} steps");
    }
    runs
}
