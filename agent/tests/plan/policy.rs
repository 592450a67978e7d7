//! What a plan says about the size of the policy.

use ciliate::config::Config;
use ciliate::plan::notes::PolicySize;
use ciliate::topology::{Topology, resolve};

use super::{golden, plan_to, settled};

const NODE: &str = r#"
[[node]]
name = "edge-1"
ipv4 = "10.0.1.0/24"

[[endpoint]]
name = "web"
labels = { app = "web" }
"#;

const RULES: &str = r#"
[[policy.rule]]
description = "web is reachable"
endpoints = { app = "web" }
ingress = [{ from = ["192.0.2.0/24", "host"], ports = ["tcp/80", "tcp/443"] }]

[[policy.rule]]
endpoints = { app = "web" }
egress = []
"#;

fn topology(rules: &str) -> Topology {
    let config = Config::parse("edge.toml", &format!("{NODE}{rules}")).unwrap();
    resolve(&config, None, None).unwrap()
}

#[test]
fn plan_tells_how_large_the_policy_is_and_which_rules_make_it_so() {
    let before = settled(&topology(""));
    let after = topology(RULES);

    let mut plan = plan_to(&after, &before);
    plan.notes.policy = PolicySize::of(&after.policy);

    let json = plan.to_json();
    let rules = json["policy"]["rules"].as_array().unwrap();
    assert_eq!(rules[0]["description"], "web is reachable");
    assert!(rules[0]["entries"].as_u64() > Some(0), "{json:#}");
    assert_eq!(
        rules[1]["entries"], 0,
        "a rule without terms only closes: {json:#}"
    );
    golden("policy_size", &plan);
}

#[test]
fn file_without_rules_has_no_size_of_policy() {
    assert_eq!(PolicySize::of(&topology("").policy), None);
}
