//! Edits of the file and of conf.d, as editors make them.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tests::lab::agent;
use tests::lab::node::{FILE, OneNode};
use tests::lab::resident::Resident;
use tests::lab::stream::Stream;
use tests::lab::wait_until;
use tests::party::Family;

use super::{ANNOUNCED, BUSY, Kept, has_api, is_quiet, repairs, start, without_api};

/// Is a way to write a file, with whose it is.
type Way<'a> = (&'a str, &'a dyn Fn(&str));

/// Closes an endpoint.
const RULE: &str = "[[policy.rule]]\nendpoints = \"web\"\ningress = [{ from = \"all\" }]\n";

impl Kept {
    /// Waits until the node has `api`, or has not.
    fn expect_api(&self, has: bool, when: &str) {
        wait_until(&format!("{when}: the node has api: {has}"), || {
            has_api(&self.net) == has
        });
    }

    /// Waits until `status` tells this state of the file; returns what it tells.
    fn expect_state(&self, state: &str) -> Value {
        let mut config = Value::Null;
        wait_until(&format!("the file is {state}"), || {
            config = self.net.status()["config"].clone();
            config["state"] == state
        });
        config
    }
}

#[test]
fn edit_is_taken_within_a_second_and_loses_no_packet_of_others() {
    let kept = Kept::new();
    let net = &kept.net;
    let stream = Stream::start(&net.web, &net.db, net.address("db", Family::V4));

    let begun = Instant::now();
    net.write(without_api());
    kept.expect_api(false, "after the edit");
    let took = begun.elapsed();

    eprintln!("taken {took:?} after the edit");
    let factor = if is_quiet() { 1 } else { BUSY };
    assert!(took < ANNOUNCED * factor, "{took:?} are too long");
    kept.agent.expect_log("the file is taken anew");
    net.ciliate("plan", 0);
    assert_eq!(repairs(), 0, "an edit is no repair");
    stream.expect_complete();
}

#[test]
fn every_way_of_editors_to_write_a_file_is_taken() {
    let kept = Kept::new();
    let (net, folder) = (&kept.net, &kept.net.machine.folder);
    let at = |name: &str| folder.join(name);
    let ways: [Way<'_>; 5] = [
        ("sed -i", &|text| {
            fs::write(at("sedA1b2C3"), text).expect("write");
            fs::rename(at("sedA1b2C3"), &net.file).expect("rename");
        }),
        ("vim", &|text| {
            fs::write(at("4913"), "").expect("write");
            fs::remove_file(at("4913")).expect("remove");
            fs::rename(&net.file, at("ciliate.toml~")).expect("rename");
            fs::write(&net.file, text).expect("write");
            let mode = Permissions::from_mode(0o644);
            fs::set_permissions(&net.file, mode).expect("set the mode");
            fs::remove_file(at("ciliate.toml~")).expect("remove");
        }),
        ("emacs", &|text| {
            symlink("me@here", at(".#ciliate.toml")).expect("link");
            fs::copy(&net.file, at("ciliate.toml~")).expect("copy");
            fs::write(&net.file, text).expect("write");
            fs::remove_file(at(".#ciliate.toml")).expect("remove");
        }),
        ("in pieces", &|text| {
            let mut file = OpenOptions::new();
            let mut file = file
                .write(true)
                .truncate(true)
                .open(&net.file)
                .expect("open");
            for piece in text.as_bytes().chunks(64) {
                file.write_all(piece).expect("write");
            }
        }),
        ("remove and write", &|text| {
            fs::remove_file(&net.file).expect("remove");
            fs::write(&net.file, text).expect("write");
        }),
    ];

    for (way, write) in ways {
        write(without_api());
        kept.expect_api(false, way);
        write(FILE);
        kept.expect_api(true, way);
    }
    net.host.run(&format!(
        "sed -i s/10.0.1.12/10.0.1.13/ {}",
        net.file.display()
    ));
    wait_until("sed itself has changed the address", || {
        net.api
            .run("ip address show dev eth0")
            .contains("10.0.1.13")
    });

    let log = kept.agent.log();
    assert!(
        !log.contains("CIL0104"),
        "no half of a file should be read: {log}"
    );
}

#[test]
fn folders_that_are_swapped_by_links_or_replaced_are_taken() {
    let net = OneNode::prepared();
    let folder = net.machine.folder.clone();
    let at = |name: &str| folder.join(name);
    for (version, text) in [("v1", FILE), ("v2", without_api())] {
        fs::create_dir_all(at(&format!("etc/{version}"))).expect("make a folder");
        fs::write(at(&format!("etc/{version}/ciliate.toml")), text).expect("write");
    }
    symlink("v1", at("etc/..data")).expect("link");
    symlink("..data/ciliate.toml", at("etc/ciliate.toml")).expect("link");
    let file = at("etc/ciliate.toml").display().to_string();
    let agent = Resident::start(&net.machine, &net.host, &file);
    let kept = Kept { agent, net };

    let swap = |version: &str| {
        symlink(version, at("etc/..new")).expect("link");
        fs::rename(at("etc/..new"), at("etc/..data")).expect("rename");
    };
    swap("v2");
    kept.expect_api(false, "after the swap");
    swap("v1");
    kept.expect_api(true, "after the swap back");

    fs::create_dir(at("new")).expect("make a folder");
    fs::write(at("new/ciliate.toml"), without_api()).expect("write");
    fs::rename(at("etc"), at("old")).expect("rename");
    fs::rename(at("new"), at("etc")).expect("rename");
    kept.expect_api(false, "after the folder was replaced");
    fs::write(at("etc/ciliate.toml"), FILE).expect("write");
    kept.expect_api(true, "after an edit in the new folder");
}

#[test]
fn drop_ins_that_come_change_and_go_are_taken() {
    let kept = Kept::new();
    let net = &kept.net;
    net.write(without_api());
    kept.expect_api(false, "without api");
    let (_, api) = FILE.rsplit_once("[[endpoint]]").expect("endpoints");
    let folder = net.machine.folder.join("conf.d");
    let drop_in = folder.join("10-api.toml");
    let write = |text: &str| fs::write(&drop_in, text).expect("write");

    fs::create_dir(&folder).expect("make a folder");
    write(&format!("[[endpoint]]{api}"));
    kept.expect_api(true, "after the drop-in came");
    kept.expect_nothing_to_do();
    write(&format!(
        "[[endpoint]]{}",
        api.replace("10.0.1.12", "10.0.1.99")
    ));
    wait_until("the address is another one", || {
        net.api
            .run("ip address show dev eth0")
            .contains("10.0.1.99")
    });
    write(&format!("[[endpoint]]{api}lables = {{}}\n"));
    let config = kept.expect_state("refused");
    let error = config["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("conf.d/10-api.toml:5:1: error: unknown key"),
        "{error}"
    );
    fs::remove_dir_all(&folder).expect("remove");
    kept.expect_api(false, "after it went");
    kept.expect_state("applied");
}

#[test]
fn bad_file_keeps_the_last_good_one_running_and_status_says_so_until_it_is_cured() {
    let kept = Kept::new();
    let net = &kept.net;
    let before = kept.expect_state("applied");
    assert_eq!(before["error"], Value::Null);

    net.write("[[node]]\nname = 1\n");
    let refused = kept.expect_state("refused");
    let error = refused["error"].as_str().unwrap_or_default();
    assert!(error.contains("ciliate.toml:2:8: error: "), "{refused:#}");
    assert!(
        refused["since"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z')),
        "{refused:#}"
    );
    let text = agent::expect(&net.host, "status", 0).stdout;
    assert!(text.contains("refused since"), "{text}");
    assert!(text.contains("  2 | name = 1"), "{text}");
    net.ping_all();
    kept.expect_repair_alone(&net.host, "ip link set lxcapi down", ANNOUNCED);
    net.write("[[node]]\nname = 1\n");
    agent::expect(&net.host, "reload", 78);

    net.write(FILE);
    let cured = kept.expect_state("applied");
    assert_eq!(cured["error"], Value::Null, "{cured:#}");
    kept.agent.expect_log("is good again");
    let log = kept.agent.log();
    let told = log.matches("CIL0104").count();
    assert_eq!(told, 2, "once, and once for who asked: {log}");
    net.ping_all();
}

#[test]
fn file_that_is_missing_is_refused_until_it_comes() {
    let kept = Kept::new();
    let net = &kept.net;

    fs::remove_file(&net.file).expect("remove");
    let refused = kept.expect_state("refused");
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|error| error.contains("read file: "))
    );
    net.ping_all();
    net.write(without_api());

    kept.expect_api(false, "when it came");
    kept.expect_state("applied");
}

#[test]
fn edit_that_changes_nothing_does_nothing() {
    let net = OneNode::prepared();
    let mut command = Command::new(agent::binary());
    command.args(["--log-level", "debug", "run"]).arg(&net.file);
    let agent = Resident::start_command(&net.machine, &net.host, command);
    let kept = Kept { agent, net };

    kept.net.write(&format!("{FILE}\n# A comment.\n"));
    kept.agent.expect_log("ciliate.toml says what it did");
    kept.net
        .write(&format!("# Other lines for all that follows.\n{FILE}"));
    kept.agent
        .expect_log("ciliate.toml is taken anew, and nothing is to be done");

    let log = kept.agent.log();
    assert!(!log.contains("info: the file"), "{log}");
    assert_eq!(
        kept.net.status()["agent"]["last_reload"]["result"],
        "unchanged"
    );
}

#[test]
fn file_that_others_can_write_is_not_taken() {
    let kept = Kept::new();
    let net = &kept.net;
    let set = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set the mode");
    };

    set(&net.file, 0o664);
    let refused = kept.expect_state("refused");
    let error = refused["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("CIL0110 the group can write the file"),
        "{error}"
    );
    assert!(error.contains("help: chmod go-w "), "{error}");
    net.ciliate("apply", 78);
    let plan = net.ciliate("plan", 0);
    assert!(plan.stderr.contains("CIL0110"), "{plan:#?}");
    set(&net.file, 0o644);
    kept.expect_state("applied");

    set(&net.machine.folder, 0o777);
    kept.expect_state("refused");
    set(&net.machine.folder, 0o1777);
    kept.expect_state("applied");
    nix::unistd::chown(&net.file, Some(65534.into()), None).expect("give it away");
    let refused = kept.expect_state("refused");
    let error = refused["error"].as_str().unwrap_or_default();
    assert!(error.contains("the file belongs to user 65534"), "{error}");
}

#[test]
fn good_file_that_something_hinders_is_tried_again() {
    let kept = Kept::new();
    let net = &kept.net;

    net.write(&format!("{FILE}\n[[device]]\nname = \"up0\"\n"));
    let refused = kept.expect_state("refused");
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|error| error.contains("up0")),
        "{refused:#}"
    );
    net.host.run("ip link add up0 type veth peer name far0");
    net.host.run("ip link set up0 up");

    kept.expect_state("applied");
    net.ciliate("plan", 0);
}

#[test]
fn file_that_was_applied_is_the_one_whose_edits_count() {
    let kept = Kept::new();
    let net = &kept.net;
    let other = net.machine.write("other.toml", FILE);

    agent::expect(&net.host, &format!("apply {}", other.display()), 0);
    kept.agent.expect_log("other.toml was applied");
    net.machine.write("other.toml", without_api());
    kept.expect_api(false, "after an edit of the file that was applied");
    net.write(&format!("{FILE}{RULE}"));
    net.machine.write("other.toml", FILE);

    kept.expect_api(true, "after another edit of it");
    let status = net.status();
    assert_eq!(status["config"]["file"], other.display().to_string());
    assert_eq!(
        status["policy"]["entries"], 0,
        "the other file should not count"
    );
}

#[test]
fn edits_between_two_agents_are_taken_by_the_next_one() {
    let Kept { agent, net } = Kept::new();
    assert_eq!(agent.end(nix::sys::signal::Signal::SIGTERM), Some(0));

    net.write(without_api());
    let kept = Kept {
        agent: start(&net),
        net,
    };

    kept.expect_api(false, "at the start");
}
