//! Policies of xfrm (the word of the kernel for IPsec) that packets of endpoints have to meet.
//!
//! The kernel asks for a policy when it forwards a packet, in the directions `fwd` and `out`;
//! what BPF moves is neither checked nor transformed. A policy that lets packets pass as they
//! are is none that matters. Policies of sockets are their owners' business.

use std::hash::{Hash as _, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;
use rtnetlink::sys::protocols::NETLINK_XFRM;

use super::error::Result;
use super::firewall::Traffic;
use super::firewall::ruleset::{Condition, Spans};
use super::netlink::Netlink;
use super::raw::{self, Raw};

/// Is the request for all policies (`XFRM_MSG_GETPOLICY`), and the length of its header.
const GET_POLICY: u16 = 0x15;
const REQUEST_LEN: usize = 64;

/// Length of what describes a policy (`struct xfrm_userpolicy_info`), and where things are in it.
const POLICY_LEN: usize = 168;
const DESTINATION_AT: usize = 0;
const SOURCE_AT: usize = 16;
const FAMILY_AT: usize = 40;
const DESTINATION_LEN_AT: usize = 42;
const SOURCE_LEN_AT: usize = 43;
const USE_AT: Range<usize> = 120..152;
const DIRECTION_AT: usize = 160;
const ACTION_AT: usize = 161;

/// Directions that forwarded packets meet.
const DIRECTIONS: [(u8, &str); 2] = [(1, "out"), (2, "fwd")];

/// The action that refuses packets.
const BLOCK: u8 = 1;

/// The attribute that says how packets are transformed.
const TEMPLATES: u16 = 5;

const INET6: u16 = 10;

/// Lists the policies that can match packets of ours, as `ip xfrm policy` shows them.
///
/// # Errors
/// When the kernel refuses.
pub fn policies(traffic: &Traffic) -> Result<Vec<String>> {
    let mut lines: Vec<String> = dump()?
        .iter()
        .filter_map(|reply| line(reply, traffic))
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Adds all policies to a number, without what counts their use.
///
/// # Errors
/// When the kernel refuses.
pub fn take(hasher: &mut impl Hasher) -> Result<()> {
    for policy in dump()? {
        let bytes = &policy.payload;
        let counted = USE_AT.start.min(bytes.len())..USE_AT.end.min(bytes.len());
        bytes[..counted.start].hash(hasher);
        bytes[counted.end..].hash(hasher);
    }
    Ok(())
}

fn dump() -> Result<Vec<Raw>> {
    if !raw::is_served(NETLINK_XFRM) {
        return Ok(Vec::new());
    }
    let mut netlink = Netlink::<Raw>::open_family(NETLINK_XFRM)?;
    let request = Raw {
        kind: GET_POLICY,
        payload: vec![0; REQUEST_LEN],
    };
    netlink.dump(&request, "list IPsec policies")
}

fn line(reply: &Raw, traffic: &Traffic) -> Option<String> {
    let policy = reply.payload.get(..POLICY_LEN)?;
    let direction = DIRECTIONS
        .iter()
        .find(|(number, _)| *number == policy[DIRECTION_AT]);
    let (_, direction) = direction?;
    let transforms = reply.attributes(POLICY_LEN).get(TEMPLATES).is_some();
    if !transforms && policy[ACTION_AT] != BLOCK {
        return None;
    }
    let version6 = u16::from_ne_bytes([policy[FAMILY_AT], policy[FAMILY_AT + 1]]) == INET6;
    let source = prefix(version6, &policy[SOURCE_AT..], policy[SOURCE_LEN_AT])?;
    let destination = prefix(
        version6,
        &policy[DESTINATION_AT..],
        policy[DESTINATION_LEN_AT],
    )?;
    let within = |prefix: IpNet| Spans {
        spans: vec![prefix.into()],
        inverted: false,
    };
    let conditions = [
        Condition::Source(within(source)),
        Condition::Destination(within(destination)),
    ];
    let matches = traffic.flows().any(|flow| flow.may_match(&conditions));
    matches.then(|| format!("ip xfrm policy: src {source} dst {destination} dir {direction}"))
}

fn prefix(version6: bool, bytes: &[u8], len: u8) -> Option<IpNet> {
    let address = if version6 {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(..16)?).ok()?))
    } else {
        IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?))
    };
    IpNet::new(address, len).ok()
}
