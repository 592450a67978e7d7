//! The chains of nftables, read by dumps of nfnetlink.
//!
//! Without a chain in a hook that matters, one dump is all. What `iptables` stores here looks
//! like any other table, but for the names, by which `iptables` itself finds it.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::expression;
use super::ruleset::{Base, Chain, Family, Hook, Names, Tool};
use super::set::Set;
use crate::host::error::Result;
use crate::host::netlink::Netlink;
use crate::host::raw::{self, Attributes, Raw};

/// Kinds of requests: those of nftables within nfnetlink.
const GET_TABLE: u16 = kind(1);
const GET_CHAIN: u16 = kind(4);
const GET_RULE: u16 = kind(7);
const GET_SET: u16 = kind(10);
const GET_ELEMENTS: u16 = kind(13);
const GET_GENERATION: u16 = kind(16);

/// Length of the header in front of the attributes: family, version, resource.
pub(super) const HEADER_LEN: usize = 4;

/// Families by number, such as `NFPROTO_INET`.
const FAMILIES: [(u8, Family); 4] = [
    (1, Family::Inet),
    (2, Family::Ip),
    (5, Family::Netdev),
    (10, Family::Ip6),
];

/// Attributes that name table and chain or set, of all kinds but tables.
const TABLE: u16 = 1;
const SET: u16 = 2;

/// Tables of `iptables`.
const XTABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];

pub(super) const fn kind(message: u16) -> u16 {
    const SUBSYSTEM: u16 = 10;
    SUBSYSTEM << 8 | message
}

/// Reads all chains of the families that are looked at.
///
/// # Errors
/// When the kernel refuses.
pub fn dump() -> Result<Vec<Chain>> {
    if !raw::is_served(NETLINK_NETFILTER) {
        return Ok(Vec::new());
    }
    let mut netlink = Netlink::open_family(NETLINK_NETFILTER)?;
    let mut chains = chains(&mut netlink)?;
    if chains.iter().any(|chain| chain.base.is_some()) {
        let sets = sets(&mut netlink)?;
        take_rules(&mut netlink, &mut chains, &sets)?;
    }
    Ok(chains)
}

/// Returns the number of changes to nftables so far; `None` if there is no nftables.
///
/// # Errors
/// When the kernel refuses.
pub fn generation() -> Result<Option<u32>> {
    const ID: u16 = 1;
    if !raw::is_served(NETLINK_NETFILTER) {
        return Ok(None);
    }
    let mut netlink = Netlink::<Raw>::open_family(NETLINK_NETFILTER)?;
    match netlink.get(request(GET_GENERATION, 0), "read generation of nftables") {
        // The kernel has nfnetlink, but not nftables.
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => Ok(None),
        other => Ok(other?
            .first()
            .and_then(|reply| reply.attributes(HEADER_LEN).be32(ID))),
    }
}

/// Reads the chains, without those of tables that are switched off.
fn chains(netlink: &mut Netlink<Raw>) -> Result<Vec<Chain>> {
    let replies = dump_kind(netlink, GET_CHAIN, "list chains of nftables")?;
    let mut chains: Vec<Chain> = replies.iter().filter_map(chain).collect();
    if !chains.is_empty() {
        let dormant = dormant_tables(netlink)?;
        chains.retain(|chain| !dormant.contains(&(chain.family, chain.table.clone())));
    }
    recognise_iptables(&mut chains);
    chains.sort_by_key(|chain| {
        let base = chain.base.as_ref();
        let place = base.map(|base| (base.hook, base.priority));
        (place, chain.family, chain.table.clone(), chain.name.clone())
    });
    Ok(chains)
}

fn dormant_tables(netlink: &mut Netlink<Raw>) -> Result<BTreeSet<(Family, String)>> {
    const NAME: u16 = 1;
    const FLAGS: u16 = 2;
    const DORMANT: u32 = 1;
    let replies = dump_kind(netlink, GET_TABLE, "list tables of nftables")?;
    let tables = replies.iter().filter_map(|reply| {
        let attributes = reply.attributes(HEADER_LEN);
        let is_dormant = attributes.be32(FLAGS).unwrap_or_default() & DORMANT != 0;
        is_dormant.then_some((family(reply)?, attributes.text(NAME)?))
    });
    Ok(tables.collect())
}

/// Reads the sets, with the elements of those that can be followed.
fn sets(netlink: &mut Netlink<Raw>) -> Result<Vec<Set>> {
    let replies = dump_kind(netlink, GET_SET, "list sets of nftables")?;
    let mut sets: Vec<Set> = replies
        .iter()
        .filter_map(|reply| Set::read(*reply.payload.first()?, reply.attributes(HEADER_LEN)))
        .collect();
    for set in sets.iter_mut().filter(|set| set.is_readable) {
        let request = request(GET_ELEMENTS, set.family)
            .with_text(TABLE, &set.table)
            .with_text(SET, &set.name);
        let what = format_args!("list set {} of nftables table {}", set.name, set.table);
        match netlink.dump(&request, what) {
            // Deleted meanwhile, with the rule that needed it.
            Err(error) if error.is_gone() => {}
            other => {
                for reply in other? {
                    set.take(reply.attributes(HEADER_LEN));
                }
            }
        }
    }
    Ok(sets)
}

fn take_rules(netlink: &mut Netlink<Raw>, chains: &mut [Chain], sets: &[Set]) -> Result<()> {
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    for reply in dump_kind(netlink, GET_RULE, "list rules of nftables")? {
        let attributes = reply.attributes(HEADER_LEN);
        let (table, name) = (attributes.text(TABLE), attributes.text(CHAIN));
        let found = chains.iter_mut().find(|chain| {
            Some(chain.family) == family(&reply)
                && Some(&chain.table) == table.as_ref()
                && Some(&chain.name) == name.as_ref()
        });
        let Some(chain) = found else { continue };
        let sets: BTreeMap<&str, &Set> = sets
            .iter()
            .filter(|set| Some(&set.family) == reply.payload.first() && set.table == chain.table)
            .map(|set| (set.name.as_str(), set))
            .collect();
        let number = match chain.tool {
            Tool::Nftables => attributes.be64(HANDLE).unwrap_or_default(),
            Tool::Iptables | Tool::LegacyIptables => {
                chain.rules.last().map_or(1, |rule| rule.number + 1)
            }
        };
        let expressions = attributes.nested(EXPRESSIONS);
        let rules = expression::rules(number, chain.family, expressions, &sets);
        chain.rules.extend(rules);
    }
    Ok(())
}

fn chain(reply: &Raw) -> Option<Chain> {
    const NAME: u16 = 3;
    let family = family(reply)?;
    let attributes = reply.attributes(HEADER_LEN);
    let (table, name) = (attributes.text(TABLE)?, attributes.text(NAME)?);
    let base = base(family, attributes);
    Some(Chain {
        tool: Tool::Nftables,
        family,
        table,
        name,
        base,
        rules: Vec::new(),
    })
}

/// Gives the tables of `iptables` to it. Others with such names have hooked chains in small
/// letters, by convention.
fn recognise_iptables(chains: &mut [Chain]) {
    let is_theirs = |chain: &&Chain| {
        chain.base.is_some()
            && XTABLES.contains(&chain.table.as_str())
            && chain.name.chars().all(char::is_uppercase)
    };
    let theirs: BTreeSet<(Family, String)> = chains
        .iter()
        .filter(is_theirs)
        .map(|chain| (chain.family, chain.table.clone()))
        .collect();
    for chain in chains {
        let is_version_bound = matches!(chain.family, Family::Ip | Family::Ip6);
        if is_version_bound && theirs.contains(&(chain.family, chain.table.clone())) {
            chain.tool = Tool::Iptables;
        }
    }
}

fn base(family: Family, chain: Attributes<'_>) -> Option<Base> {
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const NUMBER: u16 = 1;
    const PRIORITY: u16 = 2;
    const DEVICE: u16 = 3;
    const DEVICES: u16 = 4;
    const DEVICE_PREFIX: u16 = 2;
    const DROP: u32 = 0;
    let place = chain.nested(HOOK);
    let hook = match (family, place.be32(NUMBER)?) {
        (Family::Netdev, 0) | (_, 5) => Hook::Ingress,
        (Family::Netdev, 1) => Hook::Egress,
        (_, 0) => Hook::Prerouting,
        (_, 2) => Hook::Forward,
        (_, 4) => Hook::Postrouting,
        // Input and output.
        _ => return None,
    };
    let devices = place.nested(DEVICES).iter();
    let several = devices.map(|(kind, name)| match kind {
        DEVICE_PREFIX => format!("{}*", raw::text(name)),
        _ => raw::text(name),
    });
    Some(Base {
        hook,
        priority: place.be32(PRIORITY)?.cast_signed(),
        drops: chain.be32(POLICY) == Some(DROP),
        devices: Names {
            patterns: place.text(DEVICE).into_iter().chain(several).collect(),
            inverted: false,
        },
    })
}

pub(super) fn family(reply: &Raw) -> Option<Family> {
    let number = reply.payload.first()?;
    let known = FAMILIES.iter().find(|(known, _)| known == number);
    known.map(|(_, family)| *family)
}

fn request(kind: u16, family: u8) -> Raw {
    Raw {
        kind,
        payload: vec![family, 0, 0, 0],
    }
}

pub(super) fn dump_kind(netlink: &mut Netlink<Raw>, kind: u16, what: &str) -> Result<Vec<Raw>> {
    const ANY_FAMILY: u8 = 0;
    match netlink.dump(&request(kind, ANY_FAMILY), what) {
        // The kernel has nfnetlink, but not nftables.
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        other => other,
    }
}
