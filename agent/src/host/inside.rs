//! What is inside the namespaces of endpoints.
//!
//! Each is entered once per observation: one thread, one socket, all tables. Before anything is
//! read, all of them are checked, so that every missing one is named at once.

use std::collections::BTreeMap;

use super::ENDPOINT_LINK;
use super::address::{self, Address};
use super::error::{Error, Result};
use super::link::{self, Properties};
use super::netlink::Netlink;
use super::netns;
use super::route::{self, Route};
use crate::plan::object::{Key, Netns, State, Value};

/// Holds the tables of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) links: Vec<Properties>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
}

/// Checks the namespaces of all desired endpoints, and returns them.
///
/// # Errors
/// When one is missing, is the node's own, or is another endpoint's.
pub(super) fn check_all(desired: &State) -> Result<BTreeMap<String, Netns>> {
    let own = netns::identity(netns::open_own()?)?;
    let mut users = BTreeMap::from([(own, None)]);
    let (mut checked, mut errors) = (BTreeMap::new(), Vec::new());
    for (endpoint, netns) in endpoints(desired) {
        match netns::open(&netns).and_then(netns::identity) {
            Err(cause) => errors.push(wrap(endpoint, &netns, cause)),
            Ok(identity) => {
                if let Some(user) = users.get(&identity) {
                    errors.push(taken(endpoint, netns, *user));
                } else {
                    users.insert(identity, Some(endpoint));
                    checked.insert(endpoint.to_owned(), netns);
                }
            }
        }
    }
    Error::collected(errors).map(|()| checked)
}

/// Reads the tables of an endpoint's namespace.
///
/// # Errors
/// When it is gone meanwhile or the kernel refuses.
pub(super) fn read(endpoint: &str, netns: &Netns) -> Result<Inside> {
    let dump_all = || {
        let mut netlink = Netlink::open()?;
        Ok(Inside {
            links: link::dump(&mut netlink)?,
            addresses: address::dump(&mut netlink)?,
            routes: route::dump(&mut netlink)?,
        })
    };
    netns::open(netns)
        .and_then(|fd| netns::in_netns(fd, dump_all)?)
        .map_err(|cause| wrap(endpoint, netns, cause))
}

/// Finds the peer of an endpoint's host-side link among the links of its namespace.
///
/// Indices are per namespace, so that each end must name the other.
pub(super) fn peer_of<'a>(lxc: &Properties, links: &'a [Properties]) -> Option<&'a Properties> {
    links.iter().find(|link| {
        link.name == ENDPOINT_LINK
            && lxc.peer == Some(link.index)
            && link.peer == Some(lxc.index)
            && lxc.netnsid.is_some()
    })
}

fn endpoints(desired: &State) -> impl Iterator<Item = (&str, Netns)> {
    desired
        .iter()
        .filter_map(|(key, value)| match (key, value) {
            (Key::EndpointLink(endpoint), Value::EndpointLink { netns, .. }) => {
                Some((endpoint.as_str(), netns.clone()?))
            }
            _ => None,
        })
}

fn wrap(endpoint: &str, netns: &Netns, cause: Error) -> Error {
    Error::EndpointNetns {
        endpoint: endpoint.into(),
        netns: netns.clone(),
        cause: Box::new(cause),
    }
}

fn taken(endpoint: &str, netns: Netns, user: Option<&str>) -> Error {
    let endpoint = endpoint.to_owned();
    match user.map(str::to_owned) {
        None => Error::OwnNetns { endpoint, netns },
        Some(other) => Error::SharedNetns {
            endpoint,
            netns,
            other,
        },
    }
}
