//! How much memory the maps take: what `plan` says before, and what happens when it is refused.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tests::lab::agent;
use tests::lab::node::{FILE, OneNode};

/// How far the kernel may be from what `plan` said, in percent.
const TOLERANCE: u64 = 3;

/// What a control group may take, in bytes: enough for the agent, and not for the maps.
const LIMIT: u64 = 96 << 20;

/// Is a control group with little memory.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let name = format!("ciliate-test-{}", std::process::id());
        let (parent, limit) = if fs::exists("/sys/fs/cgroup/memory").unwrap_or_default() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let folder = PathBuf::from(parent).join(name);
        fs::create_dir(&folder).expect("make a control group");
        let group = Self(folder);
        fs::write(group.0.join(limit), LIMIT.to_string()).expect("limit its memory");
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is busy is left to the next boot.
        let _ = fs::remove_dir(&self.0);
    }
}

fn maps(told: &Value) -> Vec<(String, u64, u64)> {
    let of = |map: &Value, entries: &str| {
        let number = |key: &str| map[key].as_u64().expect("a number");
        let name = map["name"].as_str().expect("a text").to_owned();
        (name, number(entries), number("bytes"))
    };
    let list = told["maps"].as_array().expect("a list");
    list.iter()
        .map(|map| {
            let key = if map.get("max_entries").is_some() {
                "max_entries"
            } else {
                "entries"
            };
            of(map, key)
        })
        .collect()
}

#[test]
fn plan_says_what_the_kernel_charges() {
    let net = OneNode::prepared();
    let line = format!("--json plan {}", net.file.display());

    let text = net.ciliate("plan", 2).stdout;
    let told = agent::expect(&net.host, &line, 2).stdout;
    net.apply();

    let told: Value = serde_json::from_str(&told).expect("`--json` prints JSON");
    let (planned, charged) = (maps(&told), maps(&net.status()));
    assert_eq!(planned.len(), charged.len());
    for (plan, status) in planned.iter().zip(&charged) {
        assert_eq!((&plan.0, plan.1), (&status.0, status.1), "size");
        assert!(text.contains(&plan.0), "{} should be in {text}", plan.0);
    }
    let sum = |maps: &[(String, u64, u64)]| maps.iter().map(|map| map.2).sum::<u64>();
    let (planned_sum, charged_sum) = (sum(&planned), sum(&charged));
    assert!(
        planned_sum.abs_diff(charged_sum) * 100 <= charged_sum * TOLERANCE,
        "{planned_sum} is not {charged_sum}: {planned:#?} {charged:#?}"
    );
}

#[test]
fn memory_that_is_refused_names_the_key_that_helps() {
    let net = OneNode::prepared();
    net.write(&format!("{FILE}\n[maps]\nflows = 2097152\n"));
    let before = net.inventory();
    let group = Group::new();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec {} apply {}",
        group.0.display(),
        agent::binary().display(),
        net.file.display()
    );

    let refused = net.host.execute(Command::new("sh").args(["-c", &script]));

    assert_eq!(refused.code, Some(71), "{refused:#?}");
    for told in [
        "create map FLOWS",
        "of 2097152 entries",
        "(os error 12)",
        "give a smaller `flows` in [maps]",
    ] {
        assert!(refused.stderr.contains(told), "{told}: {refused:#?}");
    }
    before.expect_same(&net.inventory(), "after the refusal");
    net.write(FILE);
    net.converge();
}
