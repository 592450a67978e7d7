//! Commands of other tools, to set up what the code under test shall find.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs `ip` with the words of a line.
pub(crate) fn ip(line: &str) {
    let status = Command::new("ip").args(line.split_whitespace()).status();
    assert!(status.unwrap().success(), "ip {line}");
}

/// Gives `nft` a ruleset. Older ones want the end of a chain on a line of its own.
pub(crate) fn nft(rules: &str) {
    let rules = format!("{}\n", rules.replace('}', "\n}"));
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = nft.stdin.take().unwrap();
    input.write_all(rules.as_bytes()).unwrap();
    drop(input);
    assert!(nft.wait().unwrap().success(), "nft: {rules}");
}

/// Makes a veth with two ends in this namespace.
pub(crate) fn veth(name: &str, peer: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
}

/// Runs a program with the words of a line.
pub(crate) fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{line}");
}
