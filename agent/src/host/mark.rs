//! How our links are told from everybody else's.
//!
//! A link of ours carries the alias `ciliate:<node>`, or `ciliate:<node>:<endpoint>` on the
//! links of an endpoint. The kernel takes no alias in the request that creates a link, so the
//! same request sets the link *group* to a number derived from the node's name: a link of our
//! group without any alias is one whose creation was interrupted, and ours all the same.
//! A link with any other alias is foreign, whatever its group.

use sha2::{Digest, Sha256};

/// First byte of our link groups; groups that people number by hand are small.
const GROUP_BASE: u32 = 0xc1 << 24;

/// First byte of the groups of links that are about to be deleted.
const CONDEMNED_BASE: u32 = 0xc2 << 24;

/// The other three bytes: a digest of the node's name.
const NODE_BITS: u32 = 0x00ff_ffff;

/// Marks the links of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    alias: String,
    group: u32,
}

/// Tells what a link belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Somebody else.
    Foreign,
    /// Our node itself.
    Node,
    /// An endpoint of our node.
    Endpoint(String),
    /// Our node, but creation was interrupted before it was said what for.
    Unfinished,
}

impl Mark {
    /// Derives the mark of a node.
    pub fn new(node: &str) -> Self {
        let digest = Sha256::digest(node.as_bytes());
        Self {
            alias: format!("ciliate:{node}"),
            group: GROUP_BASE | u32::from_be_bytes([0, digest[0], digest[1], digest[2]]),
        }
    }

    /// Returns the alias of the node's own links.
    pub fn node_alias(&self) -> &str {
        &self.alias
    }

    /// Returns the alias of both links of an endpoint.
    pub fn endpoint_alias(&self, endpoint: &str) -> String {
        format!("{}:{endpoint}", self.alias)
    }

    /// Returns the link group of all our links.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Returns the link group of those of our links that are about to be deleted.
    pub fn condemned_group(&self) -> u32 {
        CONDEMNED_BASE | self.group & NODE_BITS
    }

    /// Tells what a link with this alias and group belongs to.
    pub fn owner(&self, alias: Option<&str>, group: u32) -> Owner {
        let groups = [self.group, self.condemned_group()];
        match alias.and_then(|alias| alias.strip_prefix(&self.alias)) {
            Some("") => Owner::Node,
            Some(rest) => rest.strip_prefix(':').map_or(Owner::Foreign, |endpoint| {
                Owner::Endpoint(endpoint.to_owned())
            }),
            None if alias.is_none() && groups.contains(&group) => Owner::Unfinished,
            None => Owner::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_decides_and_the_group_only_without_one() {
        let mark = Mark::new("edge");
        let web = mark.endpoint_alias("web");

        assert_eq!(mark.owner(Some("ciliate:edge"), 0), Owner::Node);
        assert_eq!(mark.owner(Some(&web), 0), Owner::Endpoint("web".into()));
        assert_eq!(mark.owner(None, mark.group()), Owner::Unfinished);
        assert_eq!(mark.owner(None, 0), Owner::Foreign);
        assert_eq!(mark.owner(Some("uplink"), mark.group()), Owner::Foreign);
    }

    #[test]
    fn node_whose_name_begins_with_ours_is_foreign() {
        let mark = Mark::new("edge");

        assert_eq!(mark.owner(Some("ciliate:edge-2"), 0), Owner::Foreign);
        assert_eq!(mark.owner(Some("ciliate:edge-2:web"), 0), Owner::Foreign);
    }
}
