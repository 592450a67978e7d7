//! Routes of the main table that carry our protocol number: added, replaced, deleted, listed.
//!
//! IPv4 and IPv6 take the same path. A route without a gateway has link scope (IPv6 knows no
//! scopes and ignores it). Adding never replaces anything: a foreign route to the same prefix
//! is an error with the kernel's word for it. Deleting names the protocol, so that only a
//! route of ours can match.
//!
//! Also finds the devices that live on router advertisements, whose default routes the kernel
//! would drop when IPv6 forwarding is switched on.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::PROTOCOL;
use super::error::{Error, Result, gone_is_done};
use super::netlink::Netlink;

const OURS: RouteProtocol = RouteProtocol::Other(PROTOCOL);

/// Metric of a route of IPv6 that is given none (`IP6_RT_PRIO_USER`).
const DEFAULT_METRIC6: u32 = 1024;

/// Describes a route of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index of the link that packets leave by.
    pub link: u32,
    pub prefix: IpNet,
    pub via: Option<IpAddr>,
    /// Preferred source address.
    pub src: Option<IpAddr>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// `None` is the kernel's own choice.
    pub metric: Option<u32>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.prefix)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(src) = self.src {
            write!(f, " src {src}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

/// Adds a route; "already so" is success. Where ours to the same prefix leads elsewhere, it is
/// replaced: the kernel knows one route to a prefix, and the one that goes is deleted later.
///
/// # Errors
/// When the kernel refuses, or a route of somebody else to the prefix exists.
pub fn add(netlink: &mut Netlink, route: &Route, device: &str) -> Result<()> {
    let what = format_args!("add route {route} dev {device}");
    let request = RouteNetlinkMessage::NewRoute(message(route, OURS)?);
    match netlink.execute(request, NLM_F_CREATE | NLM_F_EXCL, what) {
        Err(error) if error.is_exists() => {
            let present = dump(netlink)?;
            if present.contains(route) {
                Ok(())
            } else if present.iter().any(|ours| is_rival(ours, route)) {
                replace(netlink, route, device)
            } else {
                Err(error)
            }
        }
        other => other,
    }
}

/// Tells whether the kernel's table holds one of two routes.
fn is_rival(one: &Route, other: &Route) -> bool {
    (one.prefix, one.metric) == (other.prefix, other.metric)
}

/// Replaces our route to the prefix in one step: no packet misses it.
///
/// # Errors
/// When the kernel refuses.
pub fn replace(netlink: &mut Netlink, route: &Route, device: &str) -> Result<()> {
    replace_of(netlink, route, device, OURS)
}

/// Adds or replaces a route that is none of a node's own: part of what a lab puts it into.
///
/// # Errors
/// When the kernel refuses.
pub fn replace_static(netlink: &mut Netlink, route: &Route, device: &str) -> Result<()> {
    replace_of(netlink, route, device, RouteProtocol::Static)
}

fn replace_of(
    netlink: &mut Netlink,
    route: &Route,
    device: &str,
    protocol: RouteProtocol,
) -> Result<()> {
    let message = RouteNetlinkMessage::NewRoute(message(route, protocol)?);
    let what = format_args!("replace route {route} dev {device}");
    netlink.execute(message, NLM_F_CREATE | NLM_F_REPLACE, what)
}

/// Deletes our route to a prefix through a link; "already gone" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn del(netlink: &mut Netlink, link: u32, device: &str, prefix: IpNet) -> Result<()> {
    let any = Route {
        link,
        prefix,
        via: None,
        src: None,
        mtu: None,
        metric: None,
    };
    let mut message = message(&any, OURS)?;
    message.header.scope = RouteScope::NoWhere; // of any scope
    gone_is_done(netlink.execute(
        RouteNetlinkMessage::DelRoute(message),
        0,
        format_args!("delete route {prefix} dev {device}"),
    ))
}

/// Lists our routes in the main table.
///
/// # Errors
/// When the kernel refuses.
pub fn dump(netlink: &mut Netlink) -> Result<Vec<Route>> {
    let mut routes = dump_protocol(netlink, AddressFamily::Inet, OURS)?;
    routes.extend(dump_protocol(netlink, AddressFamily::Inet6, OURS)?);
    Ok(routes
        .iter()
        .filter(|route| route.header.table == RouteHeader::RT_TABLE_MAIN)
        .filter_map(read)
        .collect())
}

/// Lists the routes to everywhere in the main table that are not ours.
///
/// # Errors
/// When the kernel refuses.
pub fn dump_foreign_defaults(netlink: &mut Netlink) -> Result<Vec<Route>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let request = RouteNetlinkMessage::GetRoute(request);
        for reply in netlink.dump(&request, "list routes")? {
            if let RouteNetlinkMessage::NewRoute(route) = reply
                && route.header.table == RouteHeader::RT_TABLE_MAIN
                && route.header.protocol != OURS
                && route.header.destination_prefix_length == 0
            {
                found.extend(read(&route));
            }
        }
    }
    Ok(found)
}

/// Lists the indices of links that took a default route from an IPv6 router advertisement.
///
/// # Errors
/// When the kernel refuses.
pub fn dump_advertised(netlink: &mut Netlink) -> Result<BTreeSet<u32>> {
    let routes = dump_protocol(netlink, AddressFamily::Inet6, RouteProtocol::Ra)?;
    let defaults = routes
        .into_iter()
        .filter(|route| route.header.destination_prefix_length == 0);
    Ok(defaults.flat_map(outgoing_links).collect())
}

fn dump_protocol(
    netlink: &mut Netlink,
    family: AddressFamily,
    protocol: RouteProtocol,
) -> Result<Vec<RouteMessage>> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.header.protocol = protocol;
    let replies = netlink.dump(&RouteNetlinkMessage::GetRoute(request), "list routes")?;
    Ok(replies
        .into_iter()
        .filter_map(|reply| {
            if let RouteNetlinkMessage::NewRoute(route) = reply {
                Some(route)
            } else {
                None
            }
        })
        // A kernel without IPv6 answers with the routes of every family it has.
        .filter(|route| route.header.address_family == family && route.header.protocol == protocol)
        .collect())
}

fn message(route: &Route, protocol: RouteProtocol) -> Result<RouteMessage> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.prefix.network(), route.prefix.prefix_len())
        .map_err(|error| mixed_families(route, &error))?
        .output_interface(route.link)
        .protocol(protocol);
    builder = match route.via {
        Some(via) => builder
            .gateway(via)
            .map_err(|error| mixed_families(route, &error))?,
        None => builder.scope(RouteScope::Link),
    };
    if let Some(src) = route.src {
        builder = builder
            .pref_source(src)
            .map_err(|error| mixed_families(route, &error))?;
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    let mut message = builder.build();
    if let Some(mtu) = route.mtu {
        let metrics = RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]);
        message.attributes.push(metrics);
    }
    Ok(message)
}

fn mixed_families(route: &Route, error: &dyn fmt::Display) -> Error {
    Error::NotHost {
        what: format!("route {route}: {error}"),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of some thirty attributes, these matter here"
)]
fn read(message: &RouteMessage) -> Option<Route> {
    let (anywhere, default_metric): (IpAddr, _) =
        if message.header.address_family == AddressFamily::Inet {
            (Ipv4Addr::UNSPECIFIED.into(), 0)
        } else {
            (Ipv6Addr::UNSPECIFIED.into(), DEFAULT_METRIC6)
        };
    let (mut destination, mut link) = (anywhere, None);
    let (mut via, mut src, mut mtu, mut metric) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => via = gateway(attribute),
            RouteAttribute::Priority(number) => metric = Some(*number),
            RouteAttribute::PrefSource(address) => src = ip(address),
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(path_mtu),
            _ => {}
        }
    }
    Some(Route {
        link: link?,
        prefix: IpNet::new(destination, message.header.destination_prefix_length).ok()?,
        via,
        src,
        mtu,
        metric: metric.filter(|metric| *metric != default_metric),
    })
}

/// Returns the gateway that an attribute names; one of IPv4 may be an IPv6 address.
pub(super) fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    if let RouteAttribute::Gateway(address) = attribute {
        ip(address)
    } else if let RouteAttribute::Via(RouteVia::Inet6(address)) = attribute {
        Some((*address).into())
    } else {
        None
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(address) = address {
        Some((*address).into())
    } else if let RouteAddress::Inet6(address) = address {
        Some((*address).into())
    } else {
        None
    }
}

fn path_mtu(metric: &RouteMetric) -> Option<u32> {
    if let RouteMetric::Mtu(mtu) = metric {
        Some(*mtu)
    } else {
        None
    }
}

fn outgoing_links(route: RouteMessage) -> Vec<u32> {
    let mut links = Vec::new();
    for attribute in route.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            links.push(index);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            links.extend(hops.iter().map(|hop| hop.interface_index));
        }
    }
    links
}
