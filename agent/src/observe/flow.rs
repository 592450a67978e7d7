//! The flow table, with names in place of indices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{Addr4, Addr6, Flow, FlowKey, OUTSIDE, Stage};
use serde::Serialize;

use crate::datapath::Error;
use crate::datapath::pin::Pins;
use crate::datapath::table;
use crate::plan::object::Link;
use crate::topology::prefix::{REMOTE_NODE, WORLD};

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
    /// Name of the endpoint that sends, `host`, `world`, `remote-node`, or the identity of an
    /// endpoint of another node.
    pub from: String,
    /// Whoever receives, in the same words.
    pub to: String,
    pub source_identity: u32,
    pub destination_identity: u32,
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

/// Reads all flows, sorted by their tuples.
///
/// # Errors
/// When a table cannot be read.
pub fn flows(pins: &Pins, links: &BTreeMap<Link, u32>) -> Result<Vec<FlowView>, Error> {
    let names: BTreeMap<u32, &str> = links
        .iter()
        .filter_map(|(link, ifindex)| match link {
            Link::Host => Some((*ifindex, "host")),
            Link::Lxc(name) => Some((*ifindex, name.as_str())),
            Link::Net | Link::Eth0(_) | Link::Device(_) => None,
        })
        .collect();
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
    names: &BTreeMap<u32, &str>,
    now_ns: u64,
    address: impl Fn(A) -> IpAddr,
) -> FlowView {
    let name = |ifindex, identity| {
        let known = names.get(&ifindex).map(|name| (*name).to_owned());
        match (known, ifindex) {
            (Some(name), _) => name,
            (None, OUTSIDE) => outsider(identity),
            (None, gone) => format!("#{gone}"),
        }
    };
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
        from: name(flow.zone, flow.source_identity),
        to: name(flow.receiver, flow.target_identity),
        source_identity: flow.source_identity,
        destination_identity: flow.target_identity,
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

/// Says who is behind a device.
fn outsider(identity: u32) -> String {
    match identity {
        0 | WORLD => "world".to_owned(),
        REMOTE_NODE => "remote-node".to_owned(),
        other => format!("identity {other}"),
    }
}

/// Reads the clock that flows are stamped with.
fn now_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.ok()
        .and_then(|now| u64::try_from(now.as_nanos()).ok())
        .unwrap_or(0)
}
