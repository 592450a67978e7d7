//! Single values: what a string or number in the file means.
//!
//! Each function takes an entry and returns a value or the one thing that is wrong with it.
//! Rules that need more than one value are in `rule`.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::HostRouting;
use super::diagnostic::{Diagnostic, Kind, quote};
use super::family::Family;
use super::name::{self, Fault, NAME_MAX};
use super::table::{Entry, wrong_type};
use crate::plan::object::Netns;

/// Largest process id that Linux gives out (`PID_MAX_LIMIT`).
const PID_MAX: u32 = 1 << 22;

/// Longest file name, in bytes (`NAME_MAX` of Linux).
const FILE_NAME_MAX: usize = 255;

/// Smallest MTU: what every IPv4 host must accept (RFC 791).
const MTU_MIN: u32 = 576;

/// Largest MTU of a veth device.
const MTU_MAX: u32 = 65535;

pub(super) fn string<'a>(entry: &Entry<'a>) -> Result<&'a str, Diagnostic> {
    entry.value.as_str().ok_or_else(|| {
        let diagnostic = wrong_type(entry, "a string");
        if entry.value.is_integer() || entry.value.is_float() {
            diagnostic.help("write it in quotes")
        } else {
            diagnostic
        }
    })
}

/// Returns an integer, unless it is outside the range.
fn within(entry: &Entry<'_>, least: u32, most: u32) -> Option<u32> {
    let integer = entry.value.as_integer()?;
    let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
    (least..=most).contains(&number).then_some(number)
}

/// Reads the name of a node or an endpoint.
pub(super) fn name(entry: &Entry<'_>) -> Result<String, Diagnostic> {
    let text = string(entry)?;
    let Some(fault) = name::fault(text) else {
        return Ok(text.to_owned());
    };
    let reason = match fault {
        Fault::Empty => "is empty".to_owned(),
        Fault::TooLong => format!("has more than {NAME_MAX} characters"),
        Fault::Character(c) => format!("contains {}", quote(&c.to_string())),
        Fault::Edge => "does not begin and end with a letter or digit".to_owned(),
        Fault::Address => "is an address".to_owned(),
        Fault::Entity => {
            let message = format!("name {} is a reserved word", quote(text));
            let diagnostic = Diagnostic::new(Kind::ReservedName, entry.span.clone(), message);
            return Err(diagnostic.help("policies use this word for a group of addresses"));
        }
    };
    let message = format!("name {} {reason}", quote(text));
    Err(Diagnostic::new(Kind::BadName, entry.span.clone(), message)
        .help("names are made of a-z, 0-9, `-` and `.`, and begin and end with a letter or digit"))
}

/// Reads the name of a node that is defined elsewhere.
pub(super) fn reference(entry: &Entry<'_>) -> Result<String, Diagnostic> {
    string(entry).map(str::to_owned)
}

/// Reads the address under which other nodes reach a node.
pub(super) fn node_address(entry: &Entry<'_>) -> Result<IpAddr, Diagnostic> {
    unicast(
        entry,
        "give the address under which other nodes reach this one",
    )
}

/// Reads an address that endpoints have on the outside.
pub(super) fn outside_address(entry: &Entry<'_>) -> Result<IpAddr, Diagnostic> {
    unicast(
        entry,
        "give an address that the network outside sends to this node",
    )
}

/// Reads the router that a device sends to.
pub(super) fn gateway(entry: &Entry<'_>) -> Result<IpAddr, Diagnostic> {
    let link_local = entry
        .value
        .as_str()
        .and_then(|text| text.parse().ok())
        .filter(Ipv6Addr::is_unicast_link_local);
    match link_local {
        Some(address) => Ok(address.into()),
        None => unicast(
            entry,
            "give the address of the router on the device's network",
        ),
    }
}

/// Reads an address of a device, with the length of its network's prefix.
pub(super) fn device_address(entry: &Entry<'_>) -> Result<IpNet, Diagnostic> {
    let text = string(entry)?;
    let bare = |help: &str| {
        let message = format!(
            "{} is not an address with the length of its prefix",
            quote(text)
        );
        Diagnostic::new(Kind::BadAddress, entry.span.clone(), message).help(help)
    };
    let Ok(network) = text.parse::<IpNet>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv4() => bare(&format!("add the length, as in `{ip}/24`")),
            Ok(ip) => bare(&format!("add the length, as in `{ip}/64`")),
            Err(_) => bare("write it as in `192.0.2.10/24`"),
        });
    };
    let ip = network.addr();
    // A network of one or two addresses has no other ones.
    let has_ends = network.max_prefix_len() - network.prefix_len() > 1;
    let reason = match network {
        _ if network.prefix_len() == 0 => "is on a network of all addresses",
        _ if ip.is_unspecified() => "stands for no address",
        _ if ip.is_loopback() => "is a loopback address",
        _ if ip.is_multicast() => "is a multicast address",
        _ if has_ends && ip == network.network() => "is the network itself",
        IpNet::V4(network) if has_ends && ip == network.broadcast() => {
            "is the broadcast address of its network"
        }
        IpNet::V4(_) if ip == Ipv4Addr::BROADCAST => "is a broadcast address",
        IpNet::V6(network) if network.addr().is_unicast_link_local() => {
            "is valid on one link only, where the kernel chooses it"
        }
        IpNet::V4(_) | IpNet::V6(_) => return Ok(network),
    };
    let message = format!("device address {} {reason}", quote(text));
    Err(
        Diagnostic::new(Kind::BadAddress, entry.span.clone(), message)
            .help("give an address that a host on the network can have"),
    )
}

/// Reads an address that one host on a network can have; `help` says which is meant.
fn unicast(entry: &Entry<'_>, help: &str) -> Result<IpAddr, Diagnostic> {
    let text = string(entry)?;
    let address: IpAddr = text.parse().map_err(|_| bad_address(entry, text, None))?;
    let reason = match address {
        _ if address.is_unspecified() => "stands for no address",
        _ if address.is_loopback() => "is a loopback address",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is a broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is valid on one link only",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(address),
    };
    let message = format!("address {} {reason}", quote(text));
    Err(Diagnostic::new(Kind::BadAddress, entry.span.clone(), message).help(help))
}

pub(super) fn ipv4(entry: &Entry<'_>) -> Result<Ipv4Addr, Diagnostic> {
    let text = string(entry)?;
    text.parse()
        .map_err(|_| bad_address(entry, text, Some(Family::V4)))
}

pub(super) fn ipv6(entry: &Entry<'_>) -> Result<Ipv6Addr, Diagnostic> {
    let text = string(entry)?;
    text.parse()
        .map_err(|_| bad_address(entry, text, Some(Family::V6)))
}

fn bad_address(entry: &Entry<'_>, text: &str, family: Option<Family>) -> Diagnostic {
    let kind = family.map_or("an".to_owned(), |family| format!("an {family}"));
    let message = format!("{} is not {kind} address", quote(text));
    let diagnostic = Diagnostic::new(Kind::BadAddress, entry.span.clone(), message);
    let host = text
        .split_once('/')
        .and_then(|(host, _)| host.parse::<IpAddr>().ok());
    match (host, text.parse::<IpAddr>()) {
        (Some(host), _) => diagnostic.help(format!("leave the prefix length out: `{host}`")),
        (None, Ok(other)) => diagnostic.help(format!(
            "an {} address has the key `{}`",
            Family::of(other),
            Family::of(other).key()
        )),
        (None, Err(_)) => diagnostic,
    }
}

/// Reads the prefix of a node's endpoints.
pub(super) fn prefix4(entry: &Entry<'_>) -> Result<Ipv4Net, Diagnostic> {
    match prefix(entry, Family::V4)? {
        IpNet::V4(prefix) => Ok(prefix),
        IpNet::V6(_) => Err(bad_prefix(entry, Family::V4)),
    }
}

/// Reads the prefix of a node's endpoints.
pub(super) fn prefix6(entry: &Entry<'_>) -> Result<Ipv6Net, Diagnostic> {
    match prefix(entry, Family::V6)? {
        IpNet::V6(prefix) => Ok(prefix),
        IpNet::V4(_) => Err(bad_prefix(entry, Family::V6)),
    }
}

/// Reads a prefix of either family.
pub(super) fn any_prefix(entry: &Entry<'_>) -> Result<IpNet, Diagnostic> {
    let text = string(entry)?;
    let prefix = text.parse().map_err(|_| bad_any_prefix(entry, text))?;
    check_host_bits(entry, text, prefix)
}

/// Reads an address, which is the prefix of itself, or a prefix of either family.
pub(super) fn addresses(entry: &Entry<'_>) -> Result<IpNet, Diagnostic> {
    match string(entry)?.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => any_prefix(entry),
    }
}

fn bad_any_prefix(entry: &Entry<'_>, text: &str) -> Diagnostic {
    let message = format!("{} is not a prefix", quote(text));
    let error = Diagnostic::new(Kind::BadPrefix, entry.span.clone(), message);
    let host = text.split_once('/').map_or(text, |(host, _)| host);
    match host.parse::<IpAddr>().map(Family::of) {
        Ok(family) if host == text => error.help(format!(
            "for this address alone write `{text}/{}`",
            family.bits()
        )),
        Ok(family) => error.help(format!("the length is a number up to {}", family.bits())),
        Err(_) => error.help("write an address and a length, as in `10.0.0.0/8`"),
    }
}

fn check_host_bits(entry: &Entry<'_>, text: &str, prefix: IpNet) -> Result<IpNet, Diagnostic> {
    if prefix.addr() == prefix.network() {
        return Ok(prefix);
    }
    let message = format!("prefix {} has bits set behind its length", quote(text));
    Err(Diagnostic::new(Kind::HostBits, entry.span.clone(), message)
        .help(format!("did you mean `{}`?", prefix.trunc())))
}

fn prefix(entry: &Entry<'_>, family: Family) -> Result<IpNet, Diagnostic> {
    let text = string(entry)?;
    let prefix = text
        .parse::<IpNet>()
        .ok()
        .filter(|prefix| Family::of(prefix.addr()) == family)
        .ok_or_else(|| bad_prefix(entry, family))?;
    let refuse = |kind, reason: &str| {
        let message = format!("prefix {} {reason}", quote(text));
        Err(Diagnostic::new(kind, entry.span.clone(), message))
    };
    check_host_bits(entry, text, prefix)?;
    if prefix.prefix_len() > family.longest_prefix() {
        let longest = family.longest_prefix();
        return refuse(
            Kind::PrefixTooSmall,
            "has no room for the router and an endpoint",
        )
        .map_err(|error| error.help(format!("a /{longest} is the smallest that has")));
    }
    match special_range(prefix) {
        Some((range, use_)) => refuse(Kind::UnusablePrefix, "cannot be used for endpoints")
            .map_err(|error| error.label(format!("{range} is for {use_}"))),
        None => Ok(prefix),
    }
}

fn bad_prefix(entry: &Entry<'_>, family: Family) -> Diagnostic {
    let text = entry.value.as_str().unwrap_or_default();
    let message = format!("{} is not an {family} prefix", quote(text));
    let diagnostic = Diagnostic::new(Kind::BadPrefix, entry.span.clone(), message);
    let host = text.split_once('/').map_or(text, |(host, _)| host);
    match host.parse::<IpAddr>() {
        Ok(address) if Family::of(address) != family => {
            let other = Family::of(address);
            diagnostic.help(format!("an {other} prefix has the key `{}`", other.key()))
        }
        Ok(_) if host == text => diagnostic.help("add its length after a `/`"),
        Ok(_) => diagnostic.help(format!("the length is a number up to {}", family.bits())),
        Err(_) => diagnostic,
    }
}

/// Returns the range with a use of its own (RFC 6890) that a prefix touches.
fn special_range(prefix: IpNet) -> Option<(IpNet, &'static str)> {
    let v4 = |a, len| Ipv4Net::new_assert(Ipv4Addr::new(a, 0, 0, 0), len).into();
    let v6 = |head, len| Ipv6Net::new_assert(Ipv6Addr::new(head, 0, 0, 0, 0, 0, 0, 0), len).into();
    let ranges: [(IpNet, &str); 7] = [
        (v4(0, 8), "hosts without an address"),
        (v4(127, 8), "loopback"),
        (v4(224, 4), "multicast"),
        (v4(240, 4), "the future"),
        (v6(0, 8), "loopback and mapped addresses"),
        (v6(0xfe80, 10), "single links"),
        (v6(0xff00, 8), "multicast"),
    ];
    ranges
        .into_iter()
        .find(|(range, _)| range.contains(&prefix) || prefix.contains(range))
}

/// Reads a network namespace: a name, an absolute path, or the pid of a process in it.
pub(super) fn netns(entry: &Entry<'_>) -> Result<Netns, Diagnostic> {
    if entry.value.is_integer() {
        return within(entry, 1, PID_MAX).map(Netns::Pid).ok_or_else(|| {
            let message = format!("pids are numbers from 1 to {PID_MAX}");
            Diagnostic::new(Kind::BadNetns, entry.span.clone(), message)
        });
    }
    let text = entry
        .value
        .as_str()
        .ok_or_else(|| wrong_type(entry, "a name, a path or a pid"))?;
    let refuse = |reason: &str| {
        let message = format!("namespace {} {reason}", quote(text));
        Err(Diagnostic::new(Kind::BadNetns, entry.span.clone(), message))
    };
    if text.contains('\0') {
        return refuse("contains a zero byte");
    }
    if text.starts_with('/') {
        return Ok(Netns::Path(PathBuf::from(text)));
    }
    if text.contains('/') {
        return refuse("is a relative path")
            .map_err(|error| error.help("begin it with `/`, or give a name below /run/netns"));
    }
    if text.is_empty() || text == "." || text == ".." || text.len() > FILE_NAME_MAX {
        return refuse("is not a file name");
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("is a number in quotes").map_err(|error| {
            error.help(format!(
                "write a pid without quotes, a name as `/run/netns/{text}`"
            ))
        });
    }
    Ok(Netns::Name(text.to_owned()))
}

/// Reads the MTU of the links that an agent makes.
pub(super) fn mtu(entry: &Entry<'_>) -> Result<u32, Diagnostic> {
    if !entry.value.is_integer() {
        return Err(wrong_type(entry, "an integer").help("write a number without quotes"));
    }
    within(entry, MTU_MIN, MTU_MAX).ok_or_else(|| {
        let message = format!("MTU is not between {MTU_MIN} and {MTU_MAX}");
        Diagnostic::new(Kind::MtuOutOfRange, entry.span.clone(), message)
    })
}

/// Reads how packets get from one device to the other.
pub(super) fn host_routing(entry: &Entry<'_>) -> Result<HostRouting, Diagnostic> {
    let choices = [HostRouting::Auto, HostRouting::Bpf, HostRouting::Legacy];
    choice(entry, "host routing", &choices)
}

/// Reads one of some words; `what` is what they say something about.
pub(super) fn choice<T: Copy + Display>(
    entry: &Entry<'_>,
    what: &str,
    choices: &[T],
) -> Result<T, Diagnostic> {
    let text = string(entry)?;
    let words: Vec<String> = choices.iter().map(T::to_string).collect();
    let chosen = words.iter().position(|word| word == text);
    chosen.map(|at| choices[at]).ok_or_else(|| {
        let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let (last, others) = quoted.split_last().expect("there is a choice");
        let message = format!(
            "{what} is {} or {last}, not {}",
            others.join(", "),
            quote(text)
        );
        Diagnostic::new(Kind::BadValue, entry.span.clone(), message)
            .suggest(text, words.iter().map(String::as_str))
    })
}

pub(super) fn boolean(entry: &Entry<'_>) -> Result<bool, Diagnostic> {
    entry
        .value
        .as_bool()
        .ok_or_else(|| wrong_type(entry, "`true` or `false`"))
}

pub(super) fn integer(entry: &Entry<'_>, least: u32, most: u32) -> Result<u32, Diagnostic> {
    if !entry.value.is_integer() {
        return Err(wrong_type(entry, "an integer").help("write a number without quotes"));
    }
    within(entry, least, most).ok_or_else(|| {
        let message = format!("{} is not between {least} and {most}", quote(entry.key));
        Diagnostic::new(Kind::OutOfRange, entry.span.clone(), message)
    })
}
