//! The veth pairs that we make: `cilium_host`/`cilium_net`, and one per endpoint.
//!
//! A pair is created by one request, with MAC addresses, MTU and flags in place from the first
//! moment; the peer of an endpoint's link is born inside the endpoint's namespace. It cannot be
//! born up: the kernel configures the peer before it has a counterpart (`ENOTCONN`).
//!
//! ```text
//!   node's namespace                 endpoint's namespace
//!   lxc<name>  <- no addresses  ---  eth0  <- up, with the addresses
//! ```
//!
//! What a creating request cannot carry (up, alias, IPv6 address generation, altname) follows,
//! the alias of the node's side last: a pair without it is unfinished, and `finish_*` completes
//! it in place. One queue per link: a veth of many CPUs would otherwise get many, and their memory.

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::error::{Error, Result};
use super::link::{self, Properties};
use super::mark::{Mark, Owner};
use super::netlink::Netlink;
use super::{ENDPOINT_LINK, HOST_LINK, NET_LINK};
use crate::plan::object::{Mac, Netns, Value};

/// Packets that may wait in a qdisc on the link; the kernel's default for Ethernet.
const TX_QUEUE_LEN: u32 = 1000;

/// Describes the pair `cilium_host`/`cilium_net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPair {
    pub host_mac: Mac,
    pub net_mac: Mac,
    /// In bytes.
    pub mtu: u32,
}

impl HostPair {
    /// Reads the value of [`Key::HostLink`](crate::plan::object::Key::HostLink).
    pub fn of(value: &Value) -> Option<Self> {
        if let Value::HostLink {
            host_mac,
            net_mac,
            mtu,
        } = value
        {
            Some(Self {
                host_mac: *host_mac,
                net_mac: *net_mac,
                mtu: *mtu,
            })
        } else {
            None
        }
    }
}

/// Describes the pair of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointPair<'a> {
    pub endpoint: &'a str,
    /// Where `eth0` lives.
    pub netns: Option<&'a Netns>,
    /// Name of the host-side link.
    pub link: &'a str,
    pub lxc_mac: Mac,
    /// Address of the endpoint's own link.
    pub mac: Mac,
    /// In bytes.
    pub mtu: u32,
}

impl<'a> EndpointPair<'a> {
    /// Reads the value of [`Key::EndpointLink`](crate::plan::object::Key::EndpointLink).
    pub fn of(endpoint: &'a str, value: &'a Value) -> Option<Self> {
        if let Value::EndpointLink {
            link,
            netns,
            lxc_mac,
            mac,
            mtu,
        } = value
        {
            Some(Self {
                endpoint,
                netns: netns.as_ref(),
                link,
                lxc_mac: *lxc_mac,
                mac: *mac,
                mtu: *mtu,
            })
        } else {
            None
        }
    }
}

/// Creates `cilium_host` and `cilium_net`; "already so" is success.
///
/// # Errors
/// When the kernel refuses, or a foreign link has one of the names.
pub fn create_host_pair(netlink: &mut Netlink, mark: &Mark, pair: &HostPair) -> Result<()> {
    let side = |name, mac| dressed(LinkUnspec::new_with_name(name), mark, mac, pair.mtu).arp(false);
    let peer = side(NET_LINK, pair.net_mac).build();
    let host = LinkVeth::new(HOST_LINK, NET_LINK).arp(false);
    let host = dressed(host, mark, pair.host_mac, pair.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    let what = format_args!("add link {HOST_LINK} type veth peer {NET_LINK}");
    if let Err(error) = add(netlink, host, what) {
        let wanted = [(HOST_LINK, pair.host_mac), (NET_LINK, pair.net_mac)];
        for (name, mac) in wanted {
            accept_existing(netlink, mark, name, mac, &error)?;
        }
        if !error.is_exists() {
            return Err(error);
        }
    }
    finish_host_pair(netlink, mark)
}

/// Completes a pair `cilium_host`/`cilium_net` that exists.
///
/// # Errors
/// When the kernel refuses.
pub fn finish_host_pair(netlink: &mut Netlink, mark: &Mark) -> Result<()> {
    for name in [NET_LINK, HOST_LINK] {
        link::set_addr_gen_none(netlink, name)?;
        link::set_mark(netlink, name, mark.node_alias(), mark.group())?;
    }
    Ok(())
}

/// Creates the pair of an endpoint, its peer inside `netns`; "already so" is success.
///
/// `inside` works on that same namespace.
///
/// # Errors
/// When the kernel refuses, a foreign link has the name, or the namespace has an `eth0`.
pub fn create_endpoint_pair(
    netlink: &mut Netlink,
    inside: &mut Netlink,
    netns: impl AsFd,
    mark: &Mark,
    pair: &EndpointPair,
) -> Result<()> {
    let peer = dressed(
        LinkUnspec::new_with_name(ENDPOINT_LINK),
        mark,
        pair.mac,
        pair.mtu,
    )
    .setns_by_fd(netns.as_fd().as_raw_fd())
    .build();
    // Routes may lead here; the programs know the endpoint's address.
    let lxc = LinkVeth::new(pair.link, ENDPOINT_LINK).arp(false);
    let lxc = dressed(lxc, mark, pair.lxc_mac, pair.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    let EndpointPair { endpoint, link, .. } = pair;
    let what =
        format_args!("add link {link} type veth peer {ENDPOINT_LINK} in netns of {endpoint}");
    if let Err(error) = add(netlink, lxc, what) {
        accept_existing(netlink, mark, pair.link, pair.lxc_mac, &error)?;
        accept_existing(inside, mark, ENDPOINT_LINK, pair.mac, &error)?;
        if !error.is_exists() {
            return Err(error);
        }
    }
    finish_endpoint_pair(netlink, inside, mark, pair.endpoint, pair.link)
}

/// Completes a pair of an endpoint that exists.
///
/// # Errors
/// When the kernel refuses.
pub fn finish_endpoint_pair(
    netlink: &mut Netlink,
    inside: &mut Netlink,
    mark: &Mark,
    endpoint: &str,
    link: &str,
) -> Result<()> {
    let alias = mark.endpoint_alias(endpoint);
    link::set_alias(inside, ENDPOINT_LINK, &alias)?;
    link::set_up(inside, ENDPOINT_LINK, true)?;
    link::set_addr_gen_none(netlink, link)?;
    if link != format!("lxc{endpoint}") {
        link::add_altname(netlink, link, endpoint)?;
    }
    link::set_mark(netlink, link, &alias, mark.group())
}

/// Sets what both ends of every pair have in common.
fn dressed<T>(
    link: LinkMessageBuilder<T>,
    mark: &Mark,
    mac: Mac,
    mtu: u32,
) -> LinkMessageBuilder<T> {
    link.address(mac.0.to_vec())
        .mtu(mtu)
        .txqueuelen(TX_QUEUE_LEN)
        .link_group(mark.group())
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
}

fn add(
    netlink: &mut Netlink,
    link: LinkMessageBuilder<LinkVeth>,
    what: impl std::fmt::Display,
) -> Result<()> {
    let message = RouteNetlinkMessage::NewLink(link.build());
    netlink.execute(message, NLM_F_CREATE | NLM_F_EXCL, what)
}

/// Checks, after a creation that met an existing link, whether that link is the wanted one.
fn accept_existing(
    netlink: &mut Netlink,
    mark: &Mark,
    name: &str,
    mac: Mac,
    error: &Error,
) -> Result<()> {
    if !error.is_exists() {
        return Ok(());
    }
    match link::get(netlink, name)? {
        Some(found) if is_ours(&found, mark) && found.mac == Some(mac) => Ok(()),
        Some(found) if is_ours(&found, mark) => Err(Error::Immutable {
            object: format!("link {name}"),
            attribute: "MAC address",
        }),
        Some(Properties { alias, .. }) => Err(Error::ForeignLink {
            name: name.into(),
            alias,
        }),
        // Only the other end's name is taken; that end reports it.
        None => Ok(()),
    }
}

/// Tells whether a link carries the mark.
pub fn is_ours(link: &Properties, mark: &Mark) -> bool {
    mark.owner(link.alias.as_deref(), link.group) != Owner::Foreign
}
