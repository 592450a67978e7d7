//! How the kernel reaches an address: through which device, via whom.
//!
//! A lookup, as for a packet that the host sends itself; no table is read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::errno::Errno;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::Result;
use super::link::Properties;
use super::netlink::Netlink;
use super::route;
use crate::plan::object::NextHop;

/// Looks up the ways to addresses; one that is unreachable, or the host's own, has none.
///
/// # Errors
/// When the kernel refuses for another reason than that.
pub fn hops(
    netlink: &mut Netlink,
    links: &[Properties],
    addresses: impl IntoIterator<Item = IpAddr>,
) -> Result<BTreeMap<IpAddr, NextHop>> {
    let mut hops = BTreeMap::new();
    for address in addresses {
        if let Some(hop) = hop(netlink, links, address)? {
            hops.insert(address, hop);
        }
    }
    Ok(hops)
}

fn hop(netlink: &mut Netlink, links: &[Properties], address: IpAddr) -> Result<Option<NextHop>> {
    let what = format_args!("find route to {address}");
    let reply = match netlink.get(RouteNetlinkMessage::GetRoute(request(address)), what) {
        // What tables and rules say to an address that nothing leads to: no route, or a route
        // that refuses (`unreachable`, `prohibit`, `blackhole`); or a kernel without IPv6.
        Err(error) if error.errno().is_some_and(is_refusal) => return Ok(None),
        other => other?,
    };
    let found = reply.into_iter().find_map(|reply| {
        if let RouteNetlinkMessage::NewRoute(route) = reply {
            Some(route)
        } else {
            None
        }
    });
    Ok(found.and_then(|route| next_hop(&route, links)))
}

fn request(address: IpAddr) -> RouteMessage {
    let mut request = RouteMessage::default();
    (
        request.header.address_family,
        request.header.destination_prefix_length,
    ) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let destination = RouteAttribute::Destination(address.into());
    request.attributes.push(destination);
    request
}

fn next_hop(route: &RouteMessage, links: &[Properties]) -> Option<NextHop> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let index = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Oif(index) = attribute {
            Some(*index)
        } else {
            None
        }
    })?;
    let link = links.iter().find(|link| link.index == index)?;
    Some(NextHop {
        device: link.name.clone(),
        gateway: route.attributes.iter().find_map(route::gateway),
    })
}

fn is_refusal(errno: Errno) -> bool {
    [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EACCES,
        Errno::EINVAL,
        Errno::ENETDOWN,
        Errno::ENOENT,
        Errno::EOPNOTSUPP,
        Errno::EAFNOSUPPORT,
    ]
    .contains(&errno)
}
