//! Addresses of links: added, deleted, listed.
//!
//! IPv4 and IPv6 take the same path. Ours carry the number [`PROTOCOL`] in `IFA_PROTO` (kernel
//! 5.18). Those of IPv6 on our own links are `nodad`: nobody else can have an endpoint's address,
//! and a tentative one would be unusable for more than a second. On a device others may.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::PROTOCOL;
use super::error::{Result, gone_is_done};
use super::netlink::Netlink;

/// Of an address that never ends (`INFINITY_LIFE_TIME`).
const FOR_EVER: u32 = u32::MAX;

/// Describes an address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address itself, with the length of its prefix.
    pub address: IpNet,
    /// Whether we added it.
    pub ours: bool,
    /// What the kernel says of it, such as whether it is tentative.
    pub flags: AddressFlags,
    /// Whether it means the same beyond its link.
    pub is_global: bool,
    /// How long it is still valid; `None` for ever.
    pub valid_secs: Option<u32>,
}

impl Address {
    /// Tells whether duplicate address detection still runs, or found a duplicate.
    pub fn is_tentative(&self) -> bool {
        let pending = AddressFlags::Tentative | AddressFlags::Dadfailed;
        self.flags.intersects(pending)
    }
}

/// Adds an address to a link of ours; one that is there already becomes ours.
///
/// # Errors
/// When the kernel refuses.
pub fn add(netlink: &mut Netlink, link: u32, device: &str, address: IpNet) -> Result<()> {
    let mut message = message(link, address);
    let protocol = AddressProtocol::Other(PROTOCOL);
    message
        .attributes
        .push(AddressAttribute::Protocol(protocol));
    add_at_once(netlink, message, device, address)
}

/// Adds an address that is not marked as ours, as an administrator would.
///
/// # Errors
/// When the kernel refuses.
pub fn add_static(netlink: &mut Netlink, link: u32, device: &str, address: IpNet) -> Result<()> {
    add_at_once(netlink, message(link, address), device, address)
}

/// Adds an address that nobody else has: it is not looked for.
fn add_at_once(
    netlink: &mut Netlink,
    mut message: AddressMessage,
    device: &str,
    address: IpNet,
) -> Result<()> {
    if matches!(address, IpNet::V6(_)) {
        let nodad = AddressAttribute::Flags(AddressFlags::Nodad);
        message.attributes.push(nodad);
    }
    netlink.execute(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
        format_args!("add address {address} dev {device}"),
    )
}

/// Adds an address to a device, or changes how long it is valid; `None` is for ever.
///
/// # Errors
/// When the kernel refuses.
pub fn lend(
    netlink: &mut Netlink,
    link: u32,
    device: &str,
    address: IpNet,
    valid_secs: Option<u32>,
) -> Result<()> {
    let mut message = message(link, address);
    let protocol = AddressProtocol::Other(PROTOCOL);
    message
        .attributes
        .push(AddressAttribute::Protocol(protocol));
    if let Some(secs) = valid_secs {
        let mut info = CacheInfo::default();
        (info.ifa_preferred, info.ifa_valid) = (secs, secs);
        message.attributes.push(AddressAttribute::CacheInfo(info));
    }
    netlink.execute(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
        format_args!("add address {address} dev {device}"),
    )
}

/// Deletes an address; "already gone" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn del(netlink: &mut Netlink, link: u32, device: &str, address: IpNet) -> Result<()> {
    gone_is_done(netlink.execute(
        RouteNetlinkMessage::DelAddress(message(link, address)),
        0,
        format_args!("delete address {address} dev {device}"),
    ))
}

/// Lists the addresses of all links of the namespace, ours and others.
///
/// # Errors
/// When the kernel refuses.
pub fn dump(netlink: &mut Netlink) -> Result<Vec<Address>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let replies = netlink.dump(&request, "list addresses")?;
    Ok(replies.into_iter().filter_map(read).collect())
}

fn message(link: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = address.prefix_len();
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}

fn read(reply: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = reply else {
        return None;
    };
    // With a point-to-point peer the first is ours and the second the peer's; IPv6 sends only
    // the second otherwise.
    let (mut local, mut other): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut ours, mut found_flags) = (false, AddressFlags::empty());
    let mut valid_secs = None;
    for attribute in message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            local = Some(address);
        } else if let AddressAttribute::Address(address) = attribute {
            other = Some(address);
        } else if let AddressAttribute::Protocol(protocol) = attribute {
            ours = protocol == AddressProtocol::Other(PROTOCOL);
        } else if let AddressAttribute::Flags(flags) = attribute {
            found_flags = flags;
        } else if let AddressAttribute::CacheInfo(info) = attribute {
            valid_secs = Some(info.ifa_valid).filter(|secs| *secs != FOR_EVER);
        }
    }
    let address = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
    Some(Address {
        link: message.header.index,
        address,
        ours,
        flags: found_flags,
        is_global: message.header.scope == AddressScope::Universe,
        valid_secs,
    })
}
