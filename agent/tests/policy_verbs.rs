//! `policy test` and `policy show`: what a person reads, and what a script sees.

use std::fs;

use ciliate::cli::args::Command;
use ciliate::cli::policy::count::Counters;
use ciliate::cli::policy::show;
use ciliate::cli::{self, exit};
use ciliate::config::Config;
use ciliate::topology::{Topology, resolve};
use clap::Parser as _;
use serde_json::Value;

const LAB: &str = r#"
[[node]]
name = "edge-1"
address = "192.0.2.10"
ipv4 = "10.0.1.0/24"

[[node]]
name = "edge-2"
address = "192.0.2.11"
ipv4 = "10.0.2.0/24"

[[endpoint]]
node = "edge-1"
name = "web"
labels = { app = "web" }
ports = { http = 8080 }

[[endpoint]]
node = "edge-2"
name = "db"
ipv4 = "10.0.2.9"
labels = { app = "db" }

[[endpoint]]
node = "edge-2"
name = "idle"
audit = true

[policy]
host = "enforce"

[[policy.rule]]
description = "web and its database"
endpoints = { app = "web" }
ingress = [{ from = "world", ports = "tcp/http" }]
egress = [{ to = { app = "db" }, ports = "tcp/5432" }]
egress_deny = [{ to = "198.51.100.0/24" }]

[[policy.rule]]
description = "idle is idle"
endpoints = "idle"
reject = true
ingress = []
"#;

/// Runs a command line on the lab. Returns the exit code, and what a person reads.
fn run(line: &str) -> (u8, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lab.toml");
    fs::write(&file, LAB).expect("write");
    let path = file.to_str().expect("UTF-8");
    let words = line.split(' ').map(|word| word.replace("FILE", path));
    let words = ["ciliate".to_owned(), "policy".to_owned()]
        .into_iter()
        .chain(words);
    let command = Command::try_parse_from(words).expect("a command line");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (code, failure) = match cli::run(&command, &mut out, &mut err) {
        Ok(code) => (code, String::new()),
        Err(failure) => (failure.code(), failure.to_string()),
    };
    let text = String::from_utf8(out).expect("UTF-8") + &failure;
    (
        code,
        text.replace(&format!("{}/", folder.path().display()), ""),
    )
}

/// Runs a command line of which nobody but root sees more; returns what everybody sees.
fn run_without_counters(line: &str) -> (u8, String) {
    let (code, text) = run(&format!("--state-dir /nowhere --bpffs /nowhere {line}"));
    let mut lines: Vec<_> = text.lines().collect();
    let before = lines.len();
    lines.retain(|line| !line.starts_with("no counters: "));
    assert_eq!(lines.len() + 1, before, "it should say why once: {text}");
    (code, lines.join("\n") + "\n")
}

/// Asks about a connection; `port` is the last word.
fn ask(from: &str, to: &str, port: &str) -> (u8, String) {
    run(&format!("test --from {from} --to {to} --port {port} FILE"))
}

#[test]
fn what_is_allowed_names_the_term_that_allows_it() {
    let (code, text) = ask("web", "db", "tcp/5432");

    assert_eq!(code, exit::OK, "{text}");
    let expected = "\
allowed: web → db, tcp/5432

egress of web on edge-1: allowed: a rule allows it
  other side  db (identity 45215)
  decided by  lab.toml:36:11 (web and its database)
              allow { app=db } at tcp/5432

ingress of db on edge-2: allowed: no rule closes it
  other side  web (identity 20199)
";
    assert_eq!(text, expected);
}

#[test]
fn what_no_router_forwards_is_denied_without_a_rule() {
    let (code, text) = ask("db", "169.254.169.254", "tcp/80");

    assert_eq!(code, exit::DENIED, "{text}");
    let expected = "\
denied: db → 169.254.169.254, tcp/80
whatever policy says: endpoints exchange nothing with addresses that no router forwards to

egress of db on edge-2: allowed: no rule closes it
  other side  world (identity 2)
";
    assert_eq!(text, expected);
    assert_eq!(ask("edge-1", "169.254.169.254", "tcp/80").0, exit::OK);
}

#[test]
fn what_is_denied_names_what_closes_it_and_the_nearest_term() {
    let (code, text) = ask("web", "db", "tcp/5433");

    assert_eq!(code, exit::DENIED, "{text}");
    let expected = "\
denied: web → db, tcp/5433

egress of web on edge-1: denied: no rule allows it
  other side  db (identity 45215)
  closed by   lab.toml:32:1 (web and its database)
  nearest     lab.toml:36:11 (web and its database)
              allow { app=db } at tcp/5432
              the same peer, but other ports

ingress of db on edge-2: allowed: no rule closes it
  other side  web (identity 20199)
";
    assert_eq!(text, expected);
}

#[test]
fn the_right_port_of_the_wrong_party_is_near_as_well() {
    let (code, text) = ask("web", "edge-2", "tcp/5432");

    assert_eq!(code, exit::DENIED, "{text}");
    assert!(text.contains("the same port, but other peers"), "{text}");
}

#[test]
fn a_name_of_a_port_means_what_the_receiver_calls_so() {
    assert_eq!(ask("world", "web", "tcp/http").0, exit::OK);
    assert_eq!(ask("203.0.113.1", "web", "tcp/8080").0, exit::OK);
    assert_eq!(ask("world", "web", "tcp/80").0, exit::DENIED);
    assert_eq!(ask("world", "web", "tcp/nonsense").0, exit::USAGE);
}

#[test]
fn an_address_of_an_endpoint_is_the_endpoint() {
    let (code, text) = ask("web", "10.0.2.9", "tcp/5432");

    assert_eq!(code, exit::OK, "{text}");
    assert!(text.starts_with("allowed: web → db, tcp/5432\n"), "{text}");
}

#[test]
fn the_node_itself_may_reach_its_endpoints_and_no_other_node_may() {
    let own = run("test --from host --to web --port tcp/22 --node edge-1 FILE");
    let other = ask("edge-2", "web", "tcp/22");

    assert_eq!(own.0, exit::OK, "{}", own.1);
    assert!(own.1.contains("a node may always reach its own endpoints"));
    assert_eq!(other.0, exit::DENIED, "{}", other.1);
}

#[test]
fn what_is_only_audited_is_denied_and_says_that_it_goes_through() {
    let (code, text) = ask("db", "idle", "tcp/80");

    assert_eq!(code, exit::DENIED);
    assert!(text.starts_with("rejected (audited): db → idle, tcp/80\nit goes through"));
    assert!(
        text.contains("nothing allows this peer, or this port"),
        "{text}"
    );
}

#[test]
fn a_deny_term_is_named_with_its_place() {
    let (code, text) = run("test --from web --to 198.51.100.7 --port udp/53 --json FILE");

    assert_eq!(code, exit::DENIED);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["verdict"], "denied");
    assert_eq!(answer["audited"], false);
    let step = &answer["steps"][0];
    assert_eq!(step["direction"], "egress");
    assert_eq!(step["identity_name"], "198.51.100.0/24");
    assert_eq!(step["term"]["effect"], "deny");
    assert_eq!(step["term"]["place"], "lab.toml:37:16");
    assert_eq!(answer["steps"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_name_that_means_nobody_gets_a_suggestion() {
    let (code, text) = ask("web", "dbb", "tcp/80");

    assert_eq!(code, exit::USAGE);
    assert_eq!(text, "lab.toml has no `dbb`; did you mean `db`?");
}

#[test]
fn questions_that_no_policy_is_asked_are_refused() {
    for (from, to, words) in [
        ("web", "web", "are the same"),
        ("world", "8.8.8.8", "is of this file"),
        ("web", "2001:db8::1", "no family of addresses in common"),
    ] {
        let (code, text) = ask(from, to, "tcp/80");
        assert_eq!(code, exit::USAGE);
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(ask("web", "db", "80").0, exit::USAGE);
}

#[test]
fn an_endpoint_is_shown_in_words() {
    let (code, text) = run_without_counters("show web FILE");

    assert_eq!(code, exit::OK, "{text}");
    let expected = "\
node edge-1, enforcement default

web (identity 20199)
  ingress  closed, all else is denied
    allow world at tcp/http
      lab.toml:35:12 (web and its database)
  egress   closed, all else is denied
    deny 198.51.100.0/24 at every port
      lab.toml:37:16 (web and its database)
    allow { app=db } at tcp/5432
      lab.toml:36:11 (web and its database)
";
    assert_eq!(text, expected);
}

#[test]
fn a_node_is_shown_with_all_its_endpoints() {
    let (code, text) = run_without_counters("show --node edge-2 FILE");

    assert_eq!(code, exit::OK, "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "node edge-2, enforcement default");
    let starts = ["node edge-2 (", "db (", "idle ("];
    for start in starts {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{text}");
    }
    assert!(
        text.contains("  audit: what is denied goes through"),
        "{text}"
    );
    assert!(
        text.contains("  ingress  closed, all else is rejected"),
        "{text}"
    );
}

/// Resolves the lab for the node of `web`, and makes up counters for two of its terms.
fn counted() -> (Config, Topology, Counters) {
    let config = Config::parse("lab.toml", LAB).expect("a good file");
    let topology = resolve(&config, Some("edge-1"), None).expect("a good file");
    let number = |denies| {
        let mut terms = topology.policy.terms.iter();
        let term = terms.find(|(_, term)| term.denies == denies);
        *term.expect("the rule has both kinds of terms").0
    };
    let terms = [(number(true), (3, 180)), (number(false), (12, 3456))];
    let counters = Counters {
        terms: Some(terms.into()),
        note: None,
    };
    (config, topology, counters)
}

#[test]
fn terms_are_shown_with_what_they_have_counted() {
    let (config, topology, counters) = counted();

    let sheet = show::sheet(&config, &topology, None, &counters);

    let mut out = Vec::new();
    show::print(&sheet, &mut out).expect("written");
    let text = String::from_utf8(out).expect("UTF-8");
    let has = |line: &str| text.lines().any(|there| there.trim() == line);
    assert!(
        has("deny 198.51.100.0/24 at every port  [3 packets, 180 bytes]"),
        "{text}"
    );
    assert_eq!(text.matches("[12 packets, 3456 bytes]").count(), 1);
    assert_eq!(
        text.matches("[0 packets, 0 bytes]").count(),
        1,
        "a term that counted nothing says so: {text}"
    );
    assert!(!text.contains("no counters"), "{text}");
}

#[test]
fn counters_are_in_json_if_they_are_known_and_else_the_reason() {
    let (config, topology, counters) = counted();
    let json = |counters: &Counters| {
        let sheet = show::sheet(&config, &topology, None, counters);
        serde_json::to_value(sheet).expect("JSON")
    };
    let terms = |sheet: &Value| sheet["subjects"][1]["directions"][1]["terms"].clone();

    let (known, unknown) = (json(&counters), json(&Counters::default()));

    let denying = |term: &&Value| term["effect"] == "deny";
    let terms_known = terms(&known);
    let term = terms_known
        .as_array()
        .and_then(|all| all.iter().find(denying));
    assert_eq!(term.expect("a term")["counted"]["packets"], 3);
    assert_eq!(known.get("note"), None);
    assert_eq!(terms(&unknown)[0].get("counted"), None);
    let (_, text) = run("--state-dir /nowhere --bpffs /nowhere show web --json FILE");
    let sheet: Value = serde_json::from_str(&text).expect("JSON");
    let note = sheet["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("no counters: "), "{text}");
}

#[test]
fn the_same_is_shown_in_json() {
    let (code, text) = run("show db --json --config FILE");

    assert_eq!(code, exit::OK, "{text}");
    let sheet: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(sheet["node"], "edge-2");
    assert_eq!(sheet["subjects"][0]["name"], "db");
    assert_eq!(sheet["subjects"][0]["directions"][0]["default"], "open");
}

/// Returns the README's example of a policy, with or without what it comments out.
fn example(is_uncommented: bool) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(path).expect("the README is there");
    let mut blocks = readme.split("```toml\n").skip(1);
    let block = blocks.find(|block| block.starts_with("[policy]"));
    let block = block.and_then(|block| block.split("```").next());
    let lines = block.expect("the README has an example").lines();
    let lines = lines.map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_uncommented => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_of_the_readme_is_good_also_with_what_it_comments_out() {
    let (before, _) = LAB.split_once("[policy]").expect("the lab has a policy");
    for is_uncommented in [false, true] {
        let text = format!("{before}{}", example(is_uncommented));

        let config = Config::parse("lab.toml", &text).expect("a good file");

        assert_eq!(config.policy.audit, is_uncommented);
        assert_eq!(config.policy.rules.len(), 1);
        let topology = resolve(&config, Some("edge-1"), None).expect("a good file");
        assert_eq!(
            topology.policy.terms.len(),
            3,
            "each term applies to `web`: {text}"
        );
    }
}
