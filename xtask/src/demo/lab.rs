//! What the demo must know of the lab: names from its file, addresses and counters from the agent.
//!
//! Reads no more than it needs, by key, and leaves validation to `ciliate check`. The guest's
//! commands are made from the same names.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The first node of the file and its endpoints.
pub(crate) struct Lab {
    /// Name of the node and of its network namespace
    pub(crate) node: String,
    /// Where other nodes reach it
    pub(super) addresses: Vec<String>,
    pub(super) endpoints: Vec<Endpoint>,
}

pub(crate) struct Endpoint {
    pub(super) name: String,
    /// Name of the endpoint's network namespace
    pub(crate) netns: String,
}

impl Lab {
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", file.display()))
    }

    /// Returns the two endpoints that talk to each other.
    pub(crate) fn first_two(&self) -> Result<(&Endpoint, &Endpoint)> {
        let [one, other, ..] = self.endpoints.as_slice() else {
            bail!(
                "use the lab: node {} has fewer than two endpoints",
                self.node
            );
        };
        Ok((one, other))
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let nodes = entries(&table, "node");
        let node = nodes
            .first()
            .and_then(|node| string(node, "name"))
            .context("it has no [[node]] with a name")?;
        let addresses = nodes.first().map(|node| strings(node, "address"));
        let endpoints = entries(&table, "endpoint")
            .into_iter()
            .filter(|endpoint| string(endpoint, "node").is_none_or(|of| of == node))
            .filter_map(|endpoint| {
                let name = string(endpoint, "name")?;
                let netns = string(endpoint, "netns").unwrap_or_else(|| name.clone());
                Some(Endpoint { name, netns })
            })
            .collect();
        Ok(Self {
            node,
            addresses: addresses.unwrap_or_default(),
            endpoints,
        })
    }
}

fn entries<'a>(table: &'a toml::Table, key: &str) -> Vec<&'a toml::Value> {
    table
        .get(key)
        .and_then(toml::Value::as_array)
        .map(|array| array.iter().collect())
        .unwrap_or_default()
}

fn string(value: &toml::Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// Returns a string, or the strings of a list.
fn strings(value: &toml::Value, key: &str) -> Vec<String> {
    let found = value.get(key).into_iter();
    let flat = found.flat_map(|value| match value.as_array() {
        Some(array) => array.iter().collect(),
        None => vec![value],
    });
    flat.filter_map(toml::Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The agent's `status --json`.
pub(super) struct Status(Value);

impl Status {
    pub(super) fn parse(text: &str) -> Result<Self> {
        Ok(Self(
            serde_json::from_str(text).context("read the JSON of status")?,
        ))
    }

    /// Returns the endpoint's addresses without prefix lengths, at least one.
    pub(super) fn addresses(&self, endpoint: &str) -> Result<Vec<String>> {
        let addresses: Vec<String> = self.0["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|candidate| candidate["name"] == endpoint)
            .filter_map(|found| found["addresses"].as_array())
            .flatten()
            .filter_map(Value::as_str)
            .map(|address| address.split('/').next().unwrap_or(address).to_owned())
            .collect();
        if addresses.is_empty() {
            bail!("read status: endpoint {endpoint} has no address");
        }
        Ok(addresses)
    }

    /// Returns the number of dropped packets, for whatever reason.
    pub(super) fn drops(&self) -> u64 {
        self.0["drops"]
            .as_object()
            .into_iter()
            .flat_map(|drops| drops.values())
            .filter_map(Value::as_u64)
            .sum()
    }

    pub(super) fn require_bpf_host_routing(&self) -> Result<()> {
        let mode = &self.0["host_routing"]["mode"];
        if mode != "bpf" {
            bail!("read status: host routing is {mode}, not bpf");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lab_is_the_first_node_with_its_own_endpoints() {
        let lab = Lab::parse(
            r#"
            [[node]]
            name = "edge-1"
            address = ["192.0.2.10", "2001:db8::10"]
            [[node]]
            name = "edge-2"
            [[endpoint]]
            node = "edge-1"
            name = "web"
            netns = "lab-web"
            [[endpoint]]
            node = "edge-2"
            name = "db"
            "#,
        )
        .expect("the file is valid");

        assert_eq!(lab.node, "edge-1");
        assert_eq!(lab.addresses, ["192.0.2.10", "2001:db8::10"]);
        let names: Vec<_> = lab
            .endpoints
            .iter()
            .map(|endpoint| (&*endpoint.name, &*endpoint.netns))
            .collect();
        assert_eq!(names, [("web", "lab-web")]);
    }

    #[test]
    fn status_gives_addresses_without_prefix_and_the_sum_of_drops() {
        let status = Status::parse(
            r#"{"endpoints": [{"name": "web", "addresses": ["10.0.1.10/32", "fd00:1::a"]}],
                "drops": {"invalid source ip": 2, "stale": 3}}"#,
        )
        .expect("the JSON is valid");

        assert_eq!(
            status.addresses("web").expect("web has addresses"),
            ["10.0.1.10", "fd00:1::a"]
        );
        assert_eq!(status.drops(), 5);
    }
}
