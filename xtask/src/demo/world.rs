//! A world behind the first node's device: one namespace on the lab's segment.
//!
//! It knows the node's addresses and nothing of endpoints, so that whatever it answers must have
//! come with the node's address; a capture there shows that it did.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Lab;
use super::traffic;
use crate::privilege::privileged;
use crate::process;

/// Name of the namespace, and of its port in the segment.
pub(super) const NAME: &str = "world";

/// Addresses for documentation (RFC 5737, RFC 3849).
pub(super) const ADDRESSES: [&str; 2] = ["198.51.100.1", "2001:db8:51::1"];

const NAMESPACES: &str = "/run/netns";
const FILE: &str = "/run/netns/world";
const SEGMENT: &str = "segment-";

/// Packets of a ping, there and back.
const PACKETS: &str = "6";

/// Is the world, which is there until it is removed.
pub(super) struct World<'a> {
    /// Each of its addresses, with the node's of that family
    pub(super) ways: Vec<(&'static str, &'a str)>,
}

impl<'a> World<'a> {
    /// Lists the segments of all labs.
    pub(super) fn segments() -> Result<BTreeSet<String>> {
        let entries = match fs::read_dir(NAMESPACES) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeSet::new());
            }
            other => other.with_context(|| format!("list {NAMESPACES}"))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(SEGMENT)).collect())
    }

    /// Makes the namespace and joins it to the segment that is not one of the others.
    pub(super) fn add(lab: &'a Lab, others: &BTreeSet<String>) -> Result<Self> {
        let segments = Self::segments()?;
        let segment = segments.difference(others).next();
        let segment = segment.context("find the segment of the lab: there is none")?;
        if Path::new(FILE).exists() {
            bail!("make a namespace {NAME}: there is one");
        }
        make_namespace()?;
        let near = |far: &str| {
            let mut addresses = lab.addresses.iter();
            addresses.find(|near| near.contains(':') == far.contains(':'))
        };
        let ways = ADDRESSES.into_iter();
        let ways = ways.filter_map(|far| Some((far, near(far)?.as_str())));
        let world = Self {
            ways: ways.collect(),
        };
        match world.join(&lab.node, segment) {
            Ok(()) => Ok(world),
            Err(error) => {
                Self::remove()?;
                Err(error)
            }
        }
    }

    fn join(&self, node: &str, segment: &str) -> Result<()> {
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", NAME];
        ip(&[&["-n", segment, "link", "add", NAME][..], &pair].concat())?;
        ip(&["-n", segment, "link", "set", NAME, "master", "br0", "up"])?;
        ip(&["-n", NAME, "link", "set", "eth0", "up"])?;
        for (far, near) in &self.ways {
            let prefix = format!("{far}/{}", if far.contains(':') { 128 } else { 32 });
            // Without waiting for others to claim the address.
            let duplicates: &[&str] = if far.contains(':') { &["nodad"] } else { &[] };
            let address = ["-n", NAME, "address", "add", &prefix, "dev", "eth0"];
            ip(&[&address[..], duplicates].concat())?;
            ip(&["-n", NAME, "route", "add", near, "dev", "eth0"])?;
            ip(&["-n", node, "route", "add", far, "dev", "eth0"])?;
        }
        Ok(())
    }

    pub(super) fn remove() -> Result<()> {
        run("umount", &[FILE])?;
        run("rm", &[FILE])
    }
}

/// Captures a ping: every packet must have the node's address, and none an endpoint's.
pub(super) fn watch(
    near: &str,
    inside: &[String],
    ping: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let arguments = [
        "timeout", "10", "tcpdump", "-l", "-n", "-i", "eth0", "-c", PACKETS, "host", near,
    ];
    let mut capture = traffic::within(NAME, &arguments);
    let capture = capture.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut capture = capture.spawn().context("run tcpdump")?;
    let said = capture.stderr.take().context("read what tcpdump says")?;
    let mut said = BufReader::new(said).lines();
    if !said.any(|line| line.is_ok_and(|line| line.starts_with("listening"))) {
        bail!("run tcpdump in {NAME}: it does not listen");
    }
    println!("$ ip netns exec {NAME} {} &", arguments[2..].join(" "));

    ping()?;

    let output = capture.wait_with_output().context("wait for tcpdump")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let is_seen = text.lines().any(|line| line.contains(near));
    let is_leaking = inside.iter().any(|address| {
        let mut words = text.split_whitespace();
        words.any(|word| word.trim_end_matches(':') == address)
    });
    if !is_seen || is_leaking {
        bail!("capture in {NAME}: packets should come from {near} only");
    }
    Ok(())
}

/// Checks that `flows --json` shows what leaves with each of these addresses.
pub(super) fn require_translation(flows: &str, addresses: &[String]) -> Result<()> {
    let flows: Value = serde_json::from_str(flows).context("read the JSON of flows")?;
    let flows = flows.as_array().map(Vec::as_slice).unwrap_or_default();
    for address in addresses {
        if !flows
            .iter()
            .any(|flow| flow["translated_source"] == **address)
        {
            bail!("read flows: none leaves with {address}");
        }
    }
    Ok(())
}

/// Makes the namespace without `ip netns add`, which would leave a mount of its folder.
fn make_namespace() -> Result<()> {
    run("touch", &[FILE])?;
    run("unshare", &[&format!("--net={FILE}"), "true"])
}

/// Shows and runs a command of `ip`.
fn ip(arguments: &[&str]) -> Result<()> {
    run("ip", arguments)
}

/// Shows and runs a command.
fn run(program: &str, arguments: &[&str]) -> Result<()> {
    println!("$ {program} {}", arguments.join(" "));
    process::run(privileged(program).args(arguments))
}

#[cfg(test)]
mod tests {
    use super::require_translation;

    #[test]
    fn every_address_must_be_seen_in_a_flow() {
        let flows = r#"[{"translated_source": "192.0.2.10"}, {"translated_source": null}]"#;

        require_translation(flows, &["192.0.2.10".to_owned()]).expect("it is there");
        require_translation(flows, &["2001:db8::10".to_owned()]).expect_err("it is not there");
    }
}
