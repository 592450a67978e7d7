//! Rules of policy routing: the one of ours, and those that BPF cannot follow.
//!
//! Ours refuses what arrives on `cilium_net`: the datapath redirects there what it refuses, so
//! that the kernel tells the sender. It carries our protocol number, and only such a rule is
//! ever deleted.
//!
//! `bpf_fib_lookup` asks the same rules as the kernel does for a packet that it forwards: with
//! addresses, incoming link, protocol and ports. Owners of sockets and outgoing links play no
//! part in either. It knows no mark and no tunnel, though; one decision serves all packets of a
//! flow, whatever their type of service or flow label; and a rule with an attribute that is
//! unknown here may ask for anything.

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, Nla};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::{Result, gone_is_done};
use super::firewall::Traffic;
use super::firewall::ruleset::{Condition, Names, Spans};
use super::netlink::Netlink;
use super::{NET_LINK, PROTOCOL};
use crate::config::family::Family;

/// Attributes without a name here that are followed: padding, and masks of ports.
const FOLLOWED: [u16; 3] = [18, 28, 29];

/// Adds our rule; "already so" is success.
///
/// # Errors
/// When the kernel refuses, or somebody else has the same rule.
pub fn add(netlink: &mut Netlink, family: Family, priority: u32) -> Result<()> {
    let result = netlink.execute(
        RouteNetlinkMessage::NewRule(ours(family, priority)),
        NLM_F_CREATE | NLM_F_EXCL,
        format_args!("add rule {priority} iif {NET_LINK} prohibit ({family})"),
    );
    match result {
        Err(error) if error.is_exists() && priorities(netlink, family)?.contains(&priority) => {
            Ok(())
        }
        other => other,
    }
}

/// Deletes our rule; "already gone" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn del(netlink: &mut Netlink, family: Family, priority: u32) -> Result<()> {
    gone_is_done(netlink.execute(
        RouteNetlinkMessage::DelRule(ours(family, priority)),
        0,
        format_args!("delete rule {priority} iif {NET_LINK} prohibit ({family})"),
    ))
}

/// Lists the priorities of our rules of a family: one, or none, or what an interruption left.
///
/// # Errors
/// When the kernel refuses.
pub fn priorities(netlink: &mut Netlink, family: Family) -> Result<Vec<u32>> {
    let rules = dump(netlink, family)?;
    Ok(rules
        .iter()
        .filter(|rule| is_ours(rule))
        .map(priority)
        .collect())
}

/// Lists the rules of a family that can match packets of ours and that BPF cannot follow, as
/// `ip rule` shows them.
///
/// # Errors
/// When the kernel refuses.
pub fn unfollowed(netlink: &mut Netlink, family: Family, traffic: &Traffic) -> Result<Vec<String>> {
    let rules = dump(netlink, family)?;
    let hindering = rules
        .iter()
        .filter(|rule| is_unfollowed(rule) && may_match(rule, traffic));
    Ok(hindering.map(|rule| describe(family, rule)).collect())
}

/// Lists the rules of a family that look for packets of endpoints by their own links: the stack, and
/// the lookup of BPF, have them from `cilium_host`.
///
/// # Errors
/// When the kernel refuses.
pub fn blind(netlink: &mut Netlink, family: Family, traffic: &Traffic) -> Result<Vec<String>> {
    let rules = dump(netlink, family)?;
    let names_endpoint = |attribute: &RuleAttribute| matches!(attribute, RuleAttribute::Iifname(name) if traffic.endpoints.contains(name));
    let is_blind = |rule: &&RuleMessage| rule.attributes.iter().any(names_endpoint);
    let blind = rules.iter().filter(is_blind);
    Ok(blind.map(|rule| describe(family, rule)).collect())
}

fn dump(netlink: &mut Netlink, family: Family) -> Result<Vec<RuleMessage>> {
    let mut request = RuleMessage::default();
    request.header.family = number(family);
    let replies = netlink.dump(&RouteNetlinkMessage::GetRule(request), "list rules")?;
    Ok(replies
        .into_iter()
        .filter_map(|reply| {
            if let RouteNetlinkMessage::NewRule(rule) = reply {
                Some(rule)
            } else {
                None
            }
        })
        // A kernel without IPv6 answers with the rules of every family it has.
        .filter(|rule| rule.header.family == number(family))
        .collect())
}

fn ours(family: Family, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = number(family);
    rule.header.action = RuleAction::Prohibit;
    rule.attributes = vec![
        RuleAttribute::Priority(priority),
        RuleAttribute::Iifname(NET_LINK.into()),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    rule
}

fn is_ours(rule: &RuleMessage) -> bool {
    let mark = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
    let link = RuleAttribute::Iifname(NET_LINK.into());
    rule.header.action == RuleAction::Prohibit
        && rule.attributes.contains(&mark)
        && rule.attributes.contains(&link)
}

fn priority(rule: &RuleMessage) -> u32 {
    let found = rule.attributes.iter().find_map(|attribute| {
        if let RuleAttribute::Priority(priority) = attribute {
            Some(*priority)
        } else {
            None
        }
    });
    // The kernel leaves out the number of the first rule.
    found.unwrap_or_default()
}

fn is_unfollowed(rule: &RuleMessage) -> bool {
    rule.header.tos != 0 || rule.attributes.iter().any(asks_for_more)
}

fn asks_for_more(attribute: &RuleAttribute) -> bool {
    if let RuleAttribute::Other(other) = attribute {
        return !FOLLOWED.contains(&other.kind());
    }
    matches!(
        attribute,
        RuleAttribute::FwMark(_) | RuleAttribute::TunId(_)
    )
}

fn may_match(rule: &RuleMessage, traffic: &Traffic) -> bool {
    let is_version6 = rule.header.family == AddressFamily::Inet6;
    let mut conditions = vec![Condition::Version6(is_version6)];
    for attribute in &rule.attributes {
        if let RuleAttribute::Oifname(_) = attribute {
            // Only sockets that are bound to a link ask with one.
            return false;
        }
        conditions.extend(condition(rule, attribute));
    }
    // What an inverted rule leaves out is not followed.
    let is_inverted = rule.header.flags.contains(RuleFlags::Invert);
    is_inverted || traffic.flows().any(|flow| flow.may_match(&conditions))
}

fn condition(rule: &RuleMessage, attribute: &RuleAttribute) -> Option<Condition> {
    let spans = |address, len| {
        let prefix = ipnet::IpNet::new(address, len).ok()?;
        let (spans, inverted) = (vec![prefix.into()], false);
        Some(Spans { spans, inverted })
    };
    if let RuleAttribute::Iifname(name) = attribute {
        let (patterns, inverted) = (vec![name.clone()], false);
        Some(Condition::Incoming(Names { patterns, inverted }))
    } else if let RuleAttribute::Source(address) = attribute {
        spans(*address, rule.header.src_len).map(Condition::Source)
    } else if let RuleAttribute::Destination(address) = attribute {
        spans(*address, rule.header.dst_len).map(Condition::Destination)
    } else {
        None
    }
}

/// Writes a rule nearly as `ip rule` does.
fn describe(family: Family, rule: &RuleMessage) -> String {
    let command = match family {
        Family::V4 => "ip rule",
        Family::V6 => "ip -6 rule",
    };
    let is_inverted = rule.header.flags.contains(RuleFlags::Invert);
    let not = if is_inverted { "not " } else { "" };
    let (mut from, mut selectors) = ("all".to_owned(), String::new());
    let (mut mark, mut mask) = (None, u32::MAX);
    let mut table = u32::from(rule.header.table);
    for attribute in &rule.attributes {
        if let RuleAttribute::Source(address) = attribute {
            from = format!("{address}/{}", rule.header.src_len);
        } else if let RuleAttribute::Destination(address) = attribute {
            selectors += &format!(" to {address}/{}", rule.header.dst_len);
        } else if let RuleAttribute::Iifname(name) = attribute {
            selectors += &format!(" iif {name}");
        } else if let RuleAttribute::TunId(id) = attribute {
            selectors += &format!(" tun_id {id}");
        } else if let RuleAttribute::FwMark(found) = attribute {
            mark = Some(*found);
        } else if let RuleAttribute::FwMask(found) = attribute {
            mask = *found;
        } else if let RuleAttribute::Table(number) = attribute {
            table = *number;
        }
    }
    if rule.header.tos != 0 {
        selectors += &format!(" tos {:#x}", rule.header.tos);
    }
    selectors += &mark.map_or_else(String::new, |mark| fwmark(mark, mask));
    let (priority, action) = (priority(rule), action(rule, table));
    format!("{command} {priority}: {not}from {from}{selectors} {action}")
}

fn fwmark(mark: u32, mask: u32) -> String {
    if mask == u32::MAX {
        format!(" fwmark {mark:#x}")
    } else {
        format!(" fwmark {mark:#x}/{mask:#x}")
    }
}

fn action(rule: &RuleMessage, table: u32) -> String {
    let action = rule.header.action;
    if action == RuleAction::ToTable {
        return match table {
            253 => "lookup default".into(),
            254 => "lookup main".into(),
            255 => "lookup local".into(),
            _ => format!("lookup {table}"),
        };
    }
    format!("{action:?}").to_lowercase()
}

fn number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
