//! The flow table, with names in place of indices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{Addr4, Addr6, Flow, FlowKey, OUTSIDE, Stage};
use serde::Serialize;

use crate::datapath::Error;
use crate::datapath::pin::Pins;
use crate::datapath::table;
use crate::plan::object::Link;
use crate::topology::identity::{HEALTH, HOST, REMOTE_NODE, WORLD, WORLD_IPV4, WORLD_IPV6};

/// Is a flow as `flows` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowView {
    /// Protocol number of the Internet Protocol.
    pub protocol: u8,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Ports; an echo has its identifier in both places.
    pub source_port: u16,
    pub destination_port: u16,
    /// What its packets leave with, where that is something else.
    #[serde(flatten)]
    pub translated: Option<Translated>,
    /// Name of the endpoint that sends, or of whoever is behind a device: that of its identity, or
    /// the number if nobody knows a name.
    pub from: String,
    /// Whoever receives, in the same words.
    pub to: String,
    pub source_identity: u32,
    pub destination_identity: u32,
    /// What the identities stand for, as far as that is known.
    pub source_identity_name: Option<String>,
    pub destination_identity_name: Option<String>,
    /// `opening`, `established`, `half-closed` or `closing`.
    pub state: &'static str,
    pub packets: u64,
    pub bytes: u64,
    /// Since the first packet, in milliseconds.
    pub age_ms: u64,
    /// Since the decision was made last, in milliseconds.
    pub decided_ms: u64,
    pub generation: u32,
}

/// Is what packets of a masqueraded flow leave with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Translated {
    pub translated_source: IpAddr,
    pub translated_destination: IpAddr,
    pub translated_source_port: u16,
    pub translated_destination_port: u16,
}

/// Knows names of what the table has numbers for.
#[derive(Debug)]
struct Names<'n> {
    /// By the indices of links.
    links: BTreeMap<u32, &'n str>,
    /// By identities that are not reserved.
    identities: &'n BTreeMap<u32, String>,
}

/// Reads all flows, sorted by their tuples; these are the names of identities that have one.
///
/// # Errors
/// When a table cannot be read.
pub fn flows(
    pins: &Pins,
    links: &BTreeMap<Link, u32>,
    identities: &BTreeMap<u32, String>,
) -> Result<Vec<FlowView>, Error> {
    let links = links
        .iter()
        .filter_map(|(link, ifindex)| match link {
            Link::Host => Some((*ifindex, "host")),
            Link::Lxc(name) => Some((*ifindex, name.as_str())),
            Link::Net | Link::Eth0(_) | Link::Device(_) => None,
        })
        .collect();
    let names = Names { links, identities };
    let now_ns = now_ns();
    let mut found = Vec::new();
    // Entries come and go while the table is read; one that is gone is no error.
    for (key, flow) in table::flows4(pins)?.iter().filter_map(Result::ok) {
        found.push(view(&key, &flow, &names, now_ns, |address: Addr4| {
            address.octets().into()
        }));
    }
    for (key, flow) in table::flows6(pins)?.iter().filter_map(Result::ok) {
        found.push(view(&key, &flow, &names, now_ns, |address: Addr6| {
            address.octets().into()
        }));
    }
    found.sort_by_key(|flow| {
        (
            flow.protocol,
            flow.source,
            flow.source_port,
            flow.destination,
            flow.destination_port,
        )
    });
    Ok(found)
}

fn view<A: Copy>(
    key: &FlowKey<A>,
    flow: &Flow<A>,
    names: &Names<'_>,
    now_ns: u64,
    address: impl Fn(A) -> IpAddr,
) -> FlowView {
    let millis = |since_ns: u64| now_ns.saturating_sub(since_ns) / 1_000_000;
    FlowView {
        protocol: key.proto(),
        source: address(key.src()),
        destination: address(key.dst()),
        source_port: key.src_port(),
        destination_port: key.dst_port(),
        translated: flow.is_translated().then(|| Translated {
            translated_source: address(flow.out.src()),
            translated_destination: address(flow.out.dst()),
            translated_source_port: flow.out.src_port(),
            translated_destination_port: flow.out.dst_port(),
        }),
        from: names.party(flow.zone, flow.source_identity),
        to: names.party(flow.receiver, flow.target_identity),
        source_identity: flow.source_identity,
        destination_identity: flow.target_identity,
        source_identity_name: names.identity(flow.source_identity),
        destination_identity_name: names.identity(flow.target_identity),
        state: match flow.stage() {
            Stage::Opening => "opening",
            Stage::Established => "established",
            Stage::Ended | Stage::PeerEnded => "half-closed",
            Stage::Closing => "closing",
        },
        packets: flow.packets,
        bytes: flow.bytes,
        age_ms: millis(flow.created_ns),
        decided_ms: millis(flow.decided_ns),
        generation: flow.generation,
    }
}

impl Names<'_> {
    /// Says who is behind a link.
    fn party(&self, ifindex: u32, identity: u32) -> String {
        match (self.links.get(&ifindex), ifindex) {
            (Some(name), _) => (*name).to_owned(),
            // A flow that has no identity of the other side yet.
            (None, OUTSIDE) if identity == 0 => "world".to_owned(),
            (None, OUTSIDE) => self
                .identity(identity)
                .unwrap_or_else(|| format!("identity {identity}")),
            (None, gone) => format!("#{gone}"),
        }
    }

    /// Says what an identity stands for, if that is known.
    fn identity(&self, identity: u32) -> Option<String> {
        let reserved = reserved(identity).map(ToOwned::to_owned);
        reserved.or_else(|| self.identities.get(&identity).cloned())
    }
}

/// Returns the name that Cilium has for an identity.
fn reserved(identity: u32) -> Option<&'static str> {
    Some(match identity {
        HOST => "host",
        WORLD => "world",
        HEALTH => "health",
        REMOTE_NODE => "remote-node",
        WORLD_IPV4 => "world-ipv4",
        WORLD_IPV6 => "world-ipv6",
        _ => return None,
    })
}

/// Reads the clock that flows are stamped with.
fn now_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.ok()
        .and_then(|now| u64::try_from(now.as_nanos()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_outside_is_called_by_what_its_identity_stands_for() {
        let identities = BTreeMap::from([
            (WORLD_IPV4, "not asked".to_owned()),
            (40_000, "db".to_owned()),
        ]);
        let names = Names {
            links: BTreeMap::from([(7, "web")]),
            identities: &identities,
        };

        for (ifindex, identity, name) in [
            (7, 20_199, "web"),
            (8, 20_199, "#8"),
            (OUTSIDE, 0, "world"),
            (OUTSIDE, WORLD, "world"),
            (OUTSIDE, WORLD_IPV4, "world-ipv4"),
            (OUTSIDE, WORLD_IPV6, "world-ipv6"),
            (OUTSIDE, REMOTE_NODE, "remote-node"),
            (OUTSIDE, 40_000, "db"),
            (OUTSIDE, 40_001, "identity 40001"),
        ] {
            assert_eq!(names.party(ifindex, identity), name, "{ifindex} {identity}");
        }
        assert_eq!(names.identity(40_001), None);
    }
}
