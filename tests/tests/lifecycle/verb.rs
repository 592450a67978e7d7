//! The contract of the verbs: exit codes, and the fields of `status --json`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;
use tests::lab::agent;
use tests::lab::node::{FILE, OneNode};
use tests::lab::wait_until;

const NOBODY: u32 = 65_534;

#[test]
fn wrong_command_lines_end_with_64() {
    let net = OneNode::prepared();
    let other = net.machine.write("other.toml", FILE);

    for line in [
        "",
        "applause",
        "apply --no-such-flag",
        "--log-level loud status",
        "--json check",
        "--node edge-1 lab up",
        "--config ciliate.toml down",
    ] {
        agent::expect(&net.host, line, 64);
    }
    let two = format!("--config {} plan {}", other.display(), net.file.display());
    agent::expect(&net.host, &two, 64);
}

#[test]
fn node_that_is_no_name_is_refused_and_its_folder_stays() {
    let net = OneNode::prepared();
    fs::create_dir_all("/run/victim/maps").expect("make a folder");
    fs::write("/run/victim/lock", "").expect("write a file");
    let before = net.inventory();

    for node in ["/run/victim", "../victim", "/"] {
        for verb in ["down", "status", "flows", "check", "plan", "apply"] {
            agent::expect(&net.host, &format!("--node {node} {verb}"), 64);
        }
    }

    before.expect_same(&net.inventory(), "after the refusals");
}

#[test]
fn verbs_without_a_node_end_with_69() {
    let net = OneNode::prepared();

    for line in ["status", "flows", "--node edge-1 status", "--json status"] {
        let outcome = agent::expect(&net.host, line, 69);
        assert!(
            outcome.stderr.contains("ciliate apply"),
            "should say what to do: {outcome:#?}"
        );
    }
    let outcome = agent::expect(&net.host, "down", 69);
    assert!(
        !outcome.stderr.contains("ciliate apply"),
        "should not advise against itself: {outcome:#?}"
    );
}

#[test]
fn callers_without_privilege_end_with_77() {
    let net = OneNode::new();
    let program = net.machine.folder.join("ciliate");
    // By a process of its own: what another thread starts meanwhile would hold the file open, and
    // a file that is open for writing cannot be run.
    net.host.run(&format!(
        "cp {} {}",
        agent::binary().display(),
        program.display()
    ));
    let file = net.file.display().to_string();

    for line in ["plan", "apply", "lab up", "lab down"] {
        expect_not_privileged(&net, &program, &format!("{line} {file}"));
    }
    for line in ["status", "flows", "down"] {
        expect_not_privileged(&net, &program, line);
    }
    let mut check = Command::new(&program);
    let outcome = net
        .host
        .execute(check.args(["check", &file]).uid(NOBODY).gid(NOBODY));
    assert_eq!(
        outcome.code,
        Some(0),
        "check needs no privilege: {outcome:#?}"
    );
}

#[test]
fn missing_and_wrong_files_end_with_78() {
    let net = OneNode::prepared();
    let missing = net.machine.folder.join("missing.toml");
    let wrong = net
        .machine
        .write("wrong.toml", "[[node]]\nnmae = \"edge\"\n");

    for verb in ["check", "plan", "apply", "lab up", "lab down"] {
        for file in [&missing, &wrong] {
            agent::expect(&net.host, &format!("{verb} {}", file.display()), 78);
        }
    }
    agent::expect(
        &net.host,
        &format!("--node nobody apply {}", net.file.display()),
        78,
    );
    assert!(
        !fs::exists("/run/ciliate").expect("look for a folder"),
        "nothing should be made"
    );
}

#[test]
fn plan_ends_with_2_as_long_as_there_is_something_to_do() {
    let net = OneNode::prepared();

    net.ciliate("plan", 2);
    net.apply();
    net.ciliate("plan", 0);
    net.ciliate("--json plan", 0);
}

#[test]
fn output_that_nobody_takes_changes_no_exit_code() {
    let net = OneNode::prepared();
    let binary = agent::binary();
    let run = |verb: &str, sink: &str| {
        let script = format!(
            "set -o pipefail; {} {verb} {} {sink}",
            binary.display(),
            net.file.display()
        );
        net.host.execute(Command::new("bash").args(["-c", &script]))
    };

    let plan = run("plan", "| true");
    assert_eq!((plan.code, plan.stderr.as_str()), (Some(2), ""));
    assert_eq!(run("apply", "> /dev/full").code, Some(0));
    net.ciliate("plan", 0);
}

#[test]
fn status_in_json_has_the_promised_fields() {
    let net = OneNode::new();
    net.ping_all();

    let status = net.status();

    assert_eq!(status["schema"], 1);
    assert_eq!(status["node"], "edge-1");
    assert_eq!(status["host_routing"]["mode"], "bpf");
    assert_eq!(status["fragments"]["mode"], "any_order");
    for mode in ["host_routing", "masquerade", "fragments"] {
        for field in ["mode", "reason"] {
            let text = status[mode][field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{mode} should have a {field}: {status:#}");
        }
    }
    assert!(status["policy"]["enforcement"].is_string(), "{status:#}");
    assert!(status["drift"]["repairs"].is_u64() && status["drift"].get("last").is_some());
    assert!(status["drops"].is_object(), "{status:#}");
    let web = &list(&status, "endpoints")
        .iter()
        .find(|one| one["name"] == "web")
        .expect("web is there")
        .clone();
    assert_eq!(web["state"], "ready");
    assert_eq!(web["ifindex"], net.host.ifindex("lxcweb"));
    assert_eq!(
        web["addresses"],
        serde_json::json!(["10.0.1.10", "fd00:1::10"])
    );
    assert!(
        web["id"].as_u64() >= Some(2) && web["identity"].as_u64() >= Some(256),
        "{web:#}"
    );
    for map in list(&status, "maps") {
        for field in ["entries", "max_entries", "bytes"] {
            assert!(map[field].is_u64(), "{field} of {map:#}");
        }
    }
    for device in list(&status, "devices") {
        assert!(device["xdp"]["mode"].is_string() && device["xdp"]["reason"].is_string());
        let kind = device["tc"]["kind"].as_str().unwrap_or_default();
        assert!(["tcx", "clsact"].contains(&kind), "{device:#}");
    }
    assert!(
        list(&status, "maps")
            .iter()
            .any(|map| map["name"] == "FLOWS4"),
        "{status:#}"
    );
}

#[test]
fn policy_show_counts_what_terms_allow_and_deny() {
    let net = OneNode::prepared();
    let rule = r#"
[[policy.rule]]
endpoints = "web"
ingress = [{ from = "db", ports = "icmp" }]
ingress_deny = [{ from = "api" }]
"#;
    net.write(&format!("{FILE}{rule}"));
    let line = format!("policy show web {}", net.file.display());
    let before = agent::json(&net.host, &line);
    net.apply();

    net.api.attempt("ping -c 1 -W 1 10.0.1.10");
    let counted = || {
        // What passes is counted once a second, with a later packet of the same flow.
        net.db.run("ping -c 4 -i 0.5 10.0.1.10");
        let sheet = agent::json(&net.host, &line);
        let terms = list(&sheet["subjects"][0]["directions"][0], "terms").to_vec();
        let packets = |effect: &str| {
            let term = terms.iter().find(|term| term["effect"] == effect);
            term.expect("a term")["counted"]["packets"].as_u64()
        };
        packets("allow") > Some(1) && packets("deny") == Some(1)
    };

    wait_until("both terms have counted", counted);
    let note = before["note"].as_str().unwrap_or_default();
    assert!(note.contains("is not set up here"), "{before:#}");
    net.write(FILE);
    let after = agent::json(&net.host, &format!("policy show {}", net.file.display()));
    let note = after["note"].as_str().unwrap_or_default();
    assert!(note.contains("applied last"), "{after:#}");
}

#[test]
fn status_names_what_is_missing() {
    let net = OneNode::new();

    net.host.run("tc filter del dev lxcweb ingress");
    let status = net.status();
    let web = list(&status, "endpoints")
        .iter()
        .find(|one| one["name"] == "web");
    assert_eq!(web.expect("web is there")["state"], "program missing");
}

fn expect_not_privileged(net: &OneNode, program: &std::path::Path, line: &str) {
    let mut command = Command::new(program);
    let outcome = net
        .host
        .execute(command.args(line.split(' ')).uid(NOBODY).gid(NOBODY));
    assert_eq!(
        outcome.code,
        Some(77),
        "`{line}` should be refused: {outcome:#?}"
    );
}

fn list<'a>(status: &'a Value, field: &str) -> &'a [Value] {
    let list = status[field]
        .as_array()
        .unwrap_or_else(|| panic!("{field} should be a list"));
    assert!(!list.is_empty(), "{field} should not be empty");
    list
}
