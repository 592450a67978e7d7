//! Links: read, switched on and off, marked, deleted.
//!
//! Used by everything in `host`; creation is in `veth`. Attributes that we do not need are not
//! requested (statistics) or dropped here. Nothing is deleted but by index, so that a link that
//! was renamed or replaced meanwhile is not hit by mistake.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, Prop,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use super::error::{Error, Result, gone_is_done};
use super::netlink::Netlink;
use crate::plan::object::Mac;

/// Describes a link of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub index: u32,
    pub name: String,
    /// `None` for links without an Ethernet address.
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// The largest that the link can have; `None` if the kernel names none.
    pub max_mtu: Option<u32>,
    /// Administratively up.
    pub up: bool,
    pub noarp: bool,
    pub group: u32,
    pub alias: Option<String>,
    /// Kind, such as `veth`; `None` for hardware.
    pub kind: Option<String>,
    /// Index of the peer (of a veth) or the lower link, in the namespace `netnsid`.
    pub peer: Option<u32>,
    /// Index of the bond, bridge, team or VRF that it is a port of.
    pub master: Option<u32>,
    /// What its frames begin with.
    pub layer: LinkLayerType,
    /// Number by which our namespace knows the peer's; `None` if the peer is here too.
    pub netnsid: Option<i32>,
}

/// Reads all links.
///
/// # Errors
/// When the kernel refuses or a link cannot be parsed.
pub fn dump(netlink: &mut Netlink) -> Result<Vec<Properties>> {
    let replies = netlink.dump(
        &RouteNetlinkMessage::GetLink(without_statistics(
            LinkMessageBuilder::<LinkUnspec>::default(),
        )),
        "list links",
    )?;
    Ok(replies.into_iter().filter_map(properties).collect())
}

/// Reads the link with a name, if there is one.
///
/// # Errors
/// When the kernel refuses for another reason than that the link does not exist.
pub fn get(netlink: &mut Netlink, name: &str) -> Result<Option<Properties>> {
    let request = without_statistics(LinkUnspec::new_with_name(name));
    match netlink.get(
        RouteNetlinkMessage::GetLink(request),
        format_args!("get link {name}"),
    ) {
        Err(error) if error.is_gone() => Ok(None),
        other => Ok(other?.into_iter().find_map(properties)),
    }
}

/// Switches a link on or off.
///
/// # Errors
/// When the kernel refuses.
pub fn set_up(netlink: &mut Netlink, name: &str, up: bool) -> Result<()> {
    let link = LinkUnspec::new_with_name(name);
    let (link, word) = if up {
        (link.up(), "up")
    } else {
        (link.down(), "down")
    };
    set(netlink, link, format_args!("set link {name} {word}"))
}

/// Sets the MTU of a link, in bytes.
///
/// # Errors
/// When the kernel refuses.
pub fn set_mtu(netlink: &mut Netlink, name: &str, mtu: u32) -> Result<()> {
    let link = LinkUnspec::new_with_name(name).mtu(mtu);
    set(netlink, link, format_args!("set link {name} mtu {mtu}"))
}

/// Sets the alias of a link.
///
/// # Errors
/// When the kernel refuses.
pub fn set_alias(netlink: &mut Netlink, name: &str, alias: &str) -> Result<()> {
    let link = LinkUnspec::new_with_name(name).alias(alias);
    set(netlink, link, format_args!("set link {name} alias {alias}"))
}

/// Sets alias and group of a link in one step.
///
/// # Errors
/// When the kernel refuses.
pub fn set_mark(netlink: &mut Netlink, name: &str, alias: &str, group: u32) -> Result<()> {
    let link = LinkUnspec::new_with_name(name)
        .alias(alias)
        .link_group(group);
    let what = format_args!("set link {name} alias {alias} group {group}");
    set(netlink, link, what)
}

/// Makes the kernel give a link no IPv6 address of its own. Without IPv6 it gives none anyway.
///
/// # Errors
/// When the kernel refuses.
pub fn set_addr_gen_none(netlink: &mut Netlink, name: &str) -> Result<()> {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
    let link = LinkUnspec::new_with_name(name).append_extra_attribute(spec);
    match set(
        netlink,
        link,
        format_args!("set link {name} addrgenmode none"),
    ) {
        // The kernel runs without IPv6 (`ipv6.disable=1`).
        Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT) => Ok(()),
        other => other,
    }
}

/// Gives a link another name by which it can be found; "already so" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn add_altname(netlink: &mut Netlink, name: &str, altname: &str) -> Result<()> {
    let props = LinkAttribute::PropList(vec![Prop::AltIfName(altname.into())]);
    let link = LinkUnspec::new_with_name(name).append_extra_attribute(props);
    let result = netlink.execute(
        RouteNetlinkMessage::NewLinkProp(link.build()),
        NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND,
        format_args!("add link {name} altname {altname}"),
    );
    match result {
        // It has the name already; or another link does, and ours is found by its alias.
        Err(error) if error.is_exists() => Ok(()),
        other => other,
    }
}

/// Deletes the link with an index; "already gone" is success. A veth takes its peer along.
///
/// # Errors
/// When the kernel refuses.
pub fn del(netlink: &mut Netlink, link: &Properties) -> Result<()> {
    let request = LinkUnspec::new_with_index(link.index).build();
    gone_is_done(netlink.execute(
        RouteNetlinkMessage::DelLink(request),
        0,
        format_args!("delete link {}", link.name),
    ))
}

/// Moves a link to another group.
///
/// # Errors
/// When the kernel refuses.
pub fn set_group(netlink: &mut Netlink, link: &Properties, group: u32) -> Result<()> {
    let request = LinkUnspec::new_with_index(link.index).link_group(group);
    set(
        netlink,
        request,
        format_args!("set link {} group {group}", link.name),
    )
}

/// Deletes all links of a group at once; "already gone" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn del_group(netlink: &mut Netlink, group: u32) -> Result<()> {
    let request = LinkMessageBuilder::<LinkUnspec>::default().link_group(group);
    gone_is_done(netlink.execute(
        RouteNetlinkMessage::DelLink(request.build()),
        0,
        format_args!("delete links of group {group}"),
    ))
}

/// Returns the index of a link that must exist.
///
/// # Errors
/// When there is no such link.
pub fn index(netlink: &mut Netlink, name: &str) -> Result<u32> {
    get(netlink, name)?
        .map(|link| link.index)
        .ok_or_else(|| Error::Missing {
            what: format!("find link {name}"),
        })
}

fn set(
    netlink: &mut Netlink,
    link: LinkMessageBuilder<LinkUnspec>,
    what: impl std::fmt::Display,
) -> Result<()> {
    netlink.execute(RouteNetlinkMessage::SetLink(link.build()), 0, what)
}

fn without_statistics(link: LinkMessageBuilder<LinkUnspec>) -> LinkMessage {
    let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    link.append_extra_attribute(mask).build()
}

fn properties(reply: RouteNetlinkMessage) -> Option<Properties> {
    let RouteNetlinkMessage::NewLink(message) = reply else {
        return None;
    };
    let mut link = Properties {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        layer: message.header.link_layer_type,
        noarp: message.header.flags.contains(LinkFlags::Noarp),
        ..Properties::default()
    };
    for attribute in message.attributes {
        take(&mut link, attribute);
    }
    Some(link)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of some seventy attributes, these matter here"
)]
fn take(link: &mut Properties, attribute: LinkAttribute) {
    match attribute {
        LinkAttribute::IfName(name) => link.name = name,
        LinkAttribute::Address(address) => link.mac = address.try_into().ok().map(Mac),
        LinkAttribute::Mtu(mtu) => link.mtu = mtu,
        LinkAttribute::MaxMtu(mtu) => link.max_mtu = Some(mtu).filter(|mtu| *mtu > 0),
        LinkAttribute::Group(group) => link.group = group,
        LinkAttribute::IfAlias(alias) => link.alias = Some(alias).filter(|text| !text.is_empty()),
        LinkAttribute::Link(index) => link.peer = Some(index),
        LinkAttribute::Controller(index) => link.master = Some(index),
        LinkAttribute::LinkNetNsId(id) => link.netnsid = Some(id),
        LinkAttribute::LinkInfo(infos) => link.kind = infos.into_iter().find_map(kind),
        _ => {}
    }
}

fn kind(info: LinkInfo) -> Option<String> {
    if let LinkInfo::Kind(kind) = info {
        Some(kind.to_string())
    } else {
        None
    }
}
