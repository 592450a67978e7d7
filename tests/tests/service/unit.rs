//! The files that start the agent: understood by who reads them, and tight.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tests::lab::agent;
use tests::lab::node::{FILE, OneNode, answers};
use tests::lab::resident::Resident;
use tests::lab::trace::{calls, traced};
use tests::lab::wait_until;
use tests::party::Family;

/// Exposure that is still "OK", times ten (`systemd-analyze(1)`).
const THRESHOLD: &str = "40";

/// Scripts that a shell runs.
const SCRIPTS: [&str; 6] = [
    "openrc/ciliate",
    "runit/run",
    "runit/check",
    "runit/finish",
    "s6/run",
    "s6/finish",
];

#[test]
fn systemd_understands_the_unit() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("ciliate.service");
    let binary = agent::binary().display().to_string();
    let text = read("systemd/ciliate.service").replace("/usr/bin/ciliate", &binary);
    fs::write(&unit, text).expect("write the unit");

    let outcome = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
        .expect("run systemd-analyze: `cargo xtask setup` installs it");

    let said = String::from_utf8_lossy(&outcome.stderr);
    let about_us: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("ciliate"))
        .collect();
    assert!(about_us.is_empty(), "{said}");
}

#[test]
fn unit_exposes_no_more_than_systemd_calls_ok() {
    let outcome = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={THRESHOLD}"))
        .arg(image("systemd/ciliate.service"))
        .output()
        .expect("run systemd-analyze: `cargo xtask setup` installs it");

    let said = String::from_utf8_lossy(&outcome.stdout);
    eprintln!("{}", said.lines().last().unwrap_or_default());
    assert!(outcome.status.success(), "{said}");
}

#[test]
fn agent_makes_no_system_call_that_the_unit_forbids() {
    let net = OneNode::prepared();
    let allowed = allowed_calls();
    let command = traced(&net.machine.folder, &format!("run {}", net.file.display()));
    let agent = Resident::start_command(&net.machine, &net.host, command);

    let web = net.address("web", Family::V4);
    net.host.run("ip link del lxcweb");
    wait_until("web is connected again", || answers(&net.host, web));
    net.write(&FILE.replace("10.0.1.12", "10.0.1.13"));
    agent.signal(Signal::SIGHUP);
    agent.expect_log("the file is taken anew");
    assert_eq!(agent.end(Signal::SIGTERM), Some(0));

    let made: BTreeSet<String> = calls(&net.machine.folder).into_iter().collect();
    let forbidden: Vec<&String> = made.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

#[test]
fn shells_understand_the_scripts_of_other_init_systems() {
    for script in SCRIPTS {
        let path = image("init").join(script);
        for shell in [&["sh", "-n"][..], &["busybox", "ash", "-n"]] {
            let outcome = Command::new(shell[0])
                .args(&shell[1..])
                .arg(&path)
                .output()
                .expect("run a shell: `cargo xtask setup` installs busybox");
            let said = String::from_utf8_lossy(&outcome.stderr);
            assert!(outcome.status.success(), "{shell:?} {script}: {said}");
        }
        let mode = fs::metadata(&path)
            .expect("the script")
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script} should be executable");
    }
}

/// Returns the system calls that the unit allows.
fn allowed_calls() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    let unit = read("systemd/ciliate.service");
    let filters = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="));
    for filter in filters {
        let (forbids, words) = match filter.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, filter),
        };
        for word in words.split(' ') {
            for call in members(word) {
                if forbids {
                    allowed.remove(&call);
                } else {
                    allowed.insert(call);
                }
            }
        }
    }
    // Whatever the filter says, the service manager has to start the agent.
    allowed.insert("execve".to_owned());
    allowed
}

/// Returns the system calls of a set, or a system call itself.
fn members(word: &str) -> Vec<String> {
    if !word.starts_with('@') {
        return vec![word.to_owned()];
    }
    let outcome = Command::new("systemd-analyze")
        .args(["syscall-filter", "--no-pager", word])
        .output()
        .expect("run systemd-analyze: `cargo xtask setup` installs it");
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let words = text.lines().skip(1).map(str::trim);
    let words = words.filter(|word| !word.is_empty() && !word.starts_with('#'));
    words.flat_map(members).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(image(path)).expect("the file is there")
}

/// Returns the path of a file that is shipped.
fn image(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../image")
        .join(path)
}
