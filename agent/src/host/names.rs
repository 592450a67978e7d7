//! The names behind the planner's symbols: which link and which namespace an endpoint has.

use std::collections::BTreeMap;

use super::error::{Error, Result};
use super::{ENDPOINT_LINK, HOST_LINK, NET_LINK};
use crate::plan::object::{Key, Link, Netns, State, Value};

/// Finds the link names and the namespaces of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    endpoints: BTreeMap<String, Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    link: String,
    netns: Option<Netns>,
}

impl Names {
    /// Collects the endpoints of both states; the desired one wins.
    pub fn new(desired: &State, observed: &State) -> Self {
        let mut endpoints = BTreeMap::new();
        for (key, value) in observed.iter().chain(desired) {
            if let (Key::EndpointLink(endpoint), Value::EndpointLink { link, netns, .. }) =
                (key, value)
            {
                let place = Place {
                    link: link.clone(),
                    netns: netns.clone(),
                };
                endpoints.insert(endpoint.clone(), place);
            }
        }
        Self { endpoints }
    }

    /// Returns the name that a link has in its namespace.
    ///
    /// # Errors
    /// When the link belongs to an unknown endpoint.
    pub fn device<'a>(&'a self, link: &'a Link) -> Result<&'a str> {
        match link {
            Link::Host => Ok(HOST_LINK),
            Link::Net => Ok(NET_LINK),
            Link::Lxc(endpoint) => Ok(&self.place(endpoint)?.link),
            Link::Eth0(_) => Ok(ENDPOINT_LINK),
            Link::Device(name) => Ok(name),
        }
    }

    /// Returns the namespace of an endpoint.
    ///
    /// # Errors
    /// When the endpoint is unknown or its namespace is.
    pub fn netns(&self, endpoint: &str) -> Result<&Netns> {
        let netns = self.place(endpoint)?.netns.as_ref();
        netns.ok_or_else(|| Error::Missing {
            what: format!("find namespace of endpoint {endpoint}"),
        })
    }

    fn place(&self, endpoint: &str) -> Result<&Place> {
        self.endpoints.get(endpoint).ok_or_else(|| Error::Missing {
            what: format!("find endpoint {endpoint}"),
        })
    }
}
