//! The segment that joins the nodes of a lab: a bridge in a namespace of its own.
//!
//! Nodes reach each other's addresses by host routes over the segment, so that nothing has to be
//! said about its prefix.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth};
use sha2::{Digest as _, Sha256};

use super::error::{Error, Result};
use super::netns::{in_netns, netlink_in};
use super::route::{self, Route};
use super::{ENDPOINT_LINK, Netlink, address, link, sysctl};

const BRIDGE: &str = "br0";

/// Tells whether a node's link looks for others that have its addresses (RFC 4862, section 5.4).
const ACCEPT_DAD: &str = "net/ipv6/conf/eth0/accept_dad";

/// Most bytes that a link's name has.
const NAME_MAX: usize = 15;

/// Names that a namespace has already, or that the kernel means something else by.
const TAKEN: [&str; 4] = [BRIDGE, "lo", "all", "default"];

/// What the name of a port begins with whose node's name cannot serve.
const PREFIX: &str = "node";

/// Bytes of a digest in such a name.
const DIGEST_LEN: usize = 5;

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
/// When the kernel refuses, or a link that does not lead to the node has the port's name.
pub fn join(
    segment: impl AsFd,
    node: impl AsFd,
    name: &str,
    address: Option<IpAddr>,
    peers: &[IpAddr],
) -> Result<()> {
    let port = &port_name(name);
    let node = node.as_fd();
    let mut inside = netlink_in(node)?;
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
        check_port(&mut netlink, &mut inside, port, name)?;
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
    in_netns(node, trust_addresses)??;
    let mut netlink = netlink_in(node)?;
    link::set_up(&mut netlink, ENDPOINT_LINK, true)?;
    let Some(own) = address else {
        return Ok(());
    };
    let index = link::index(&mut netlink, ENDPOINT_LINK)?;
    address::add_static(&mut netlink, index, ENDPOINT_LINK, IpNet::from(own))?;
    for peer in peers.iter().filter(|peer| peer.is_ipv4() == own.is_ipv4()) {
        let route = Route {
            prefix: IpNet::from(*peer),
            link: index,
            via: None,
            src: Some(own),
            mtu: None,
            metric: None,
        };
        route::replace_static(&mut netlink, &route, ENDPOINT_LINK)?;
    }
    Ok(())
}

/// Lets a node use its link-local address at once: it asks for neighbours of endpoints with it, and
/// nobody else on the segment has it.
fn trust_addresses() -> Result<()> {
    if sysctl::read(ACCEPT_DAD)?.is_some() {
        sysctl::write(ACCEPT_DAD, "0")?;
    }
    Ok(())
}

/// Returns the name of a node's port.
fn port_name(node: &str) -> String {
    if node.len() <= NAME_MAX && !TAKEN.contains(&node) {
        return node.to_owned();
    }
    let digest = Sha256::digest(node);
    format!("{PREFIX}{}", hex::encode(&digest[..DIGEST_LEN]))
}

/// Checks that a port, which may have been there before, leads to the `eth0` of its node.
fn check_port(segment: &mut Netlink, inside: &mut Netlink, port: &str, node: &str) -> Result<()> {
    let (found, eth0) = (link::get(segment, port)?, link::get(inside, ENDPOINT_LINK)?);
    match (found, eth0) {
        (Some(found), Some(eth0))
            if found.peer == Some(eth0.index)
                && eth0.peer == Some(found.index)
                && found.netnsid.is_some()
                && eth0.netnsid.is_some() =>
        {
            Ok(())
        }
        (None, Some(_)) => Err(Error::system(
            format!("add link {ENDPOINT_LINK} in the namespace of node {node}"),
            Errno::EEXIST,
        )),
        _ => Err(Error::system(
            format!("add link {port} to the segment for node {node}"),
            Errno::EEXIST,
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_called_like_its_node_where_that_fits() {
        assert_eq!(port_name("edge-1"), "edge-1");
    }

    #[test]
    fn long_names_with_the_same_beginning_have_ports_of_their_own() {
        let [one, other] = ["machine-room-west-1", "machine-room-west-2"].map(port_name);

        assert_ne!(one, other);
        assert!(one.len() <= NAME_MAX && other.len() <= NAME_MAX);
    }

    #[test]
    fn node_called_like_the_bridge_has_a_port_with_another_name() {
        assert_ne!(port_name(BRIDGE), BRIDGE);
    }
}
