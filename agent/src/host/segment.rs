//! The segment that joins the nodes of a lab: a bridge in a namespace of its own.
//!
//! Nodes reach each other's addresses by host routes over the segment, so that nothing has to be
//! said about its prefix.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};

use super::error::Result;
use super::netns::{in_netns, netlink_in};
use super::route::{self, Route};
use super::{ENDPOINT_LINK, Netlink, address, link};

const BRIDGE: &str = "br0";

/// Most bytes that a link's name has.
const NAME_MAX: usize = 15;

/// Makes the bridge in the calling thread's namespace; "already so" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn make_bridge() -> Result<()> {
    let mut netlink = Netlink::open()?;
    create(
        &mut netlink,
        LinkBridge::new(BRIDGE).build(),
        "add link br0 type bridge",
    )?;
    link::set_up(&mut netlink, BRIDGE, true)
}

/// Joins a node to the segment: its `eth0` gets `address`, and a route to each peer.
///
/// # Errors
/// When the kernel refuses.
pub fn join(
    segment: impl AsFd,
    node: impl AsFd,
    name: &str,
    address: Option<IpAddr>,
    peers: &[IpAddr],
) -> Result<()> {
    let port = &name[..name.len().min(NAME_MAX)];
    let node = node.as_fd();
    in_netns(&segment, || -> Result<()> {
        let mut netlink = Netlink::open()?;
        let peer = LinkUnspec::new_with_name(ENDPOINT_LINK)
            .setns_by_fd(node.as_raw_fd())
            .build();
        let pair = LinkVeth::new(port, ENDPOINT_LINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        create(
            &mut netlink,
            pair,
            format_args!("add link {port} type veth"),
        )?;
        let bridge = link::index(&mut netlink, BRIDGE)?;
        let join = LinkUnspec::new_with_name(port)
            .controller(bridge)
            .up()
            .build();
        netlink.execute(
            RouteNetlinkMessage::SetLink(join),
            0,
            format_args!("set link {port} master {BRIDGE} up"),
        )
    })??;
    let mut netlink = netlink_in(node)?;
    link::set_up(&mut netlink, ENDPOINT_LINK, true)?;
    let Some(own) = address else {
        return Ok(());
    };
    let index = link::index(&mut netlink, ENDPOINT_LINK)?;
    address::add(&mut netlink, index, ENDPOINT_LINK, IpNet::from(own))?;
    for peer in peers.iter().filter(|peer| peer.is_ipv4() == own.is_ipv4()) {
        let route = Route {
            prefix: IpNet::from(*peer),
            link: index,
            via: None,
            src: Some(own),
            mtu: None,
        };
        route::replace(&mut netlink, &route, ENDPOINT_LINK)?;
    }
    Ok(())
}

fn create(
    netlink: &mut Netlink,
    message: rtnetlink::packet_route::link::LinkMessage,
    what: impl std::fmt::Display,
) -> Result<()> {
    match netlink.execute(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
        what,
    ) {
        Err(error) if error.is_exists() => Ok(()),
        other => other,
    }
}
