//! Typed access to the pinned maps.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use aya::Pod;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use datapath::abi::{
    Addr4, Addr6, Binding, Count, Datagram, Device, Flow, FlowKey, FragmentKey, Lengths, Line,
    Node, Overtaking, Party, Pending, PolicyEntry, PolicyKey, PolicyPort, Prefix, PrefixKey,
    Ruling, Sides, Subject,
};
use datapath::verdict::DropReason;

use super::Error;
use super::pin::Pins;

/// Names every pinned map, in the order in which `status` lists them.
pub const MAPS: [&str; 32] = [
    "NODE",
    "ENDPOINTS",
    "LOCAL4",
    "LOCAL6",
    "FLOWS4",
    "FLOWS6",
    "PENDING4",
    "PENDING6",
    "PERMITS4",
    "PERMITS6",
    "TICKETS4",
    "TICKETS6",
    "FRAGMENTS4",
    "FRAGMENTS6",
    "SHARES",
    "DEVICES",
    "PREFIXES4",
    "PREFIXES6",
    "LENGTHS",
    "SUBJECTS",
    "POLICY",
    "RANGES",
    "TERMS",
    "AUDITS",
    "BINDINGS4",
    "BINDINGS6",
    "BOUND",
    "CURSOR",
    "SWEEPS",
    "WORK4",
    "WORK6",
    "DROPS",
];

/// Opens the map that holds the node's entry.
///
/// # Errors
/// Names the map and the kernel's error; the same for all functions here.
pub fn node(pins: &Pins) -> Result<Array<MapData, Node>, Error> {
    open(pins, "NODE")
}

/// Opens the map of parties, by the index of their link.
pub fn endpoints(pins: &Pins) -> Result<HashMap<MapData, u32, Party>, Error> {
    open(pins, "ENDPOINTS")
}

/// Opens the map from IPv4 addresses to link indices.
pub fn local4(pins: &Pins) -> Result<HashMap<MapData, Addr4, u32>, Error> {
    open(pins, "LOCAL4")
}

/// Opens the map from IPv6 addresses to link indices.
pub fn local6(pins: &Pins) -> Result<HashMap<MapData, Addr6, u32>, Error> {
    open(pins, "LOCAL6")
}

/// Opens the table of IPv4 flows.
pub fn flows4(pins: &Pins) -> Result<HashMap<MapData, FlowKey<Addr4>, Flow<Addr4>>, Error> {
    open(pins, "FLOWS4")
}

/// Opens the table of IPv6 flows.
pub fn flows6(pins: &Pins) -> Result<HashMap<MapData, FlowKey<Addr6>, Flow<Addr6>>, Error> {
    open(pins, "FLOWS6")
}

/// Opens the table of pending IPv4 flows.
pub fn pending4(pins: &Pins) -> Result<Array<MapData, Pending<Addr4>>, Error> {
    open(pins, "PENDING4")
}

/// Opens the table of pending IPv6 flows.
pub fn pending6(pins: &Pins) -> Result<Array<MapData, Pending<Addr6>>, Error> {
    open(pins, "PENDING6")
}

/// Opens the notes about whom endpoints let in by IPv4.
pub fn permits4(pins: &Pins) -> Result<Array<MapData, Line>, Error> {
    open(pins, "PERMITS4")
}

/// Opens the notes about whom endpoints let in by IPv6.
pub fn permits6(pins: &Pins) -> Result<Array<MapData, Line>, Error> {
    open(pins, "PERMITS6")
}

/// Opens the notes about IPv4 packets on their way through the stack.
pub fn tickets4(pins: &Pins) -> Result<Array<MapData, Line>, Error> {
    open(pins, "TICKETS4")
}

/// Opens the notes about IPv6 packets on their way through the stack.
pub fn tickets6(pins: &Pins) -> Result<Array<MapData, Line>, Error> {
    open(pins, "TICKETS6")
}

/// Opens the table of IPv4 datagrams that are on their way in fragments.
pub fn fragments4(pins: &Pins) -> Result<HashMap<MapData, FragmentKey<Addr4>, Datagram>, Error> {
    open(pins, "FRAGMENTS4")
}

/// Opens the table of IPv6 datagrams that are on their way in fragments.
pub fn fragments6(pins: &Pins) -> Result<HashMap<MapData, FragmentKey<Addr6>, Datagram>, Error> {
    open(pins, "FRAGMENTS6")
}

/// Opens the map of devices, by the index of their link.
pub fn devices(pins: &Pins) -> Result<HashMap<MapData, u32, Device>, Error> {
    open(pins, "DEVICES")
}

/// Opens the table of IPv4 prefixes.
pub fn prefixes4(pins: &Pins) -> Result<HashMap<MapData, PrefixKey<Addr4>, Sides<Prefix>>, Error> {
    open(pins, "PREFIXES4")
}

/// Opens the table of IPv6 prefixes.
pub fn prefixes6(pins: &Pins) -> Result<HashMap<MapData, PrefixKey<Addr6>, Sides<Prefix>>, Error> {
    open(pins, "PREFIXES6")
}

/// Opens the lengths of prefixes: for IPv4 those of each side, then for IPv6.
pub fn lengths(pins: &Pins) -> Result<Array<MapData, Lengths>, Error> {
    open(pins, "LENGTHS")
}

/// Opens the table of what each party is to policy.
pub fn subjects(pins: &Pins) -> Result<HashMap<MapData, u64, Sides<Subject>>, Error> {
    open(pins, "SUBJECTS")
}

/// Opens the table of what holds between subjects and identities.
pub fn policy(pins: &Pins) -> Result<HashMap<MapData, PolicyKey, Sides<PolicyEntry>>, Error> {
    open(pins, "POLICY")
}

/// Opens the trie of ports within rows.
pub fn ranges(pins: &Pins) -> Result<LpmTrie<MapData, PolicyPort, Sides<Ruling>>, Error> {
    open(pins, "RANGES")
}

/// Opens the counters of terms of policy.
pub fn terms(pins: &Pins) -> Result<PerCpuArray<MapData, Count>, Error> {
    open(pins, "TERMS")
}

/// Opens the counters of what policy would have denied to each slot.
pub fn audits(pins: &Pins) -> Result<PerCpuArray<MapData, Count>, Error> {
    open(pins, "AUDITS")
}

/// Opens the table of IPv4 bindings.
pub fn bindings4(pins: &Pins) -> Result<HashMap<MapData, FlowKey<Addr4>, Binding<Addr4>>, Error> {
    open(pins, "BINDINGS4")
}

/// Opens the table of IPv6 bindings.
pub fn bindings6(pins: &Pins) -> Result<HashMap<MapData, FlowKey<Addr6>, Binding<Addr6>>, Error> {
    open(pins, "BINDINGS6")
}

/// Opens the numbers of bindings: for each slot one of IPv4, then one of IPv6.
pub fn bound(pins: &Pins) -> Result<Array<MapData, u32>, Error> {
    open(pins, "BOUND")
}

/// Opens the map of where the search for a free port goes on.
pub fn cursor(pins: &Pins) -> Result<Array<MapData, u32>, Error> {
    open(pins, "CURSOR")
}

/// Opens the map of when bindings may be swept again, for each family.
pub fn sweeps(pins: &Pins) -> Result<Array<MapData, u64>, Error> {
    open(pins, "SWEEPS")
}

/// Opens the counts of flows of each slot that entered the table unanswered.
pub fn shares(pins: &Pins) -> Result<Array<MapData, Overtaking>, Error> {
    open(pins, "SHARES")
}

/// Opens the counters of drops.
pub fn drops(pins: &Pins) -> Result<PerCpuArray<MapData, Count>, Error> {
    open(pins, "DROPS")
}

/// Reads the node's entry.
pub fn read_node(pins: &Pins) -> Result<Node, Error> {
    node(pins)?
        .get(&0, 0)
        .map_err(|error| Error::map("read map", "NODE", &error))
}

/// Sums up what was dropped, for each reason that occurred.
pub fn read_drops(pins: &Pins) -> Result<Vec<(DropReason, Count)>, Error> {
    let drops = drops(pins)?;
    let mut found = Vec::new();
    for reason in DropReason::ALL {
        let counts = drops
            .get(&u32::from(*reason as u8), 0)
            .map_err(|error| Error::map("read map", "DROPS", &error))?;
        let sum = sum(&counts);
        if sum.packets != 0 {
            found.push((*reason, sum));
        }
    }
    Ok(found)
}

/// Sums up the packets that policy would have denied, for each slot that had some.
pub fn read_audits(pins: &Pins) -> Result<BTreeMap<u16, u64>, Error> {
    let sums = read_counts(&audits(pins)?, "AUDITS")?;
    let packets = sums.into_iter().map(|(slot, count)| (slot, count.packets));
    Ok(packets.collect())
}

/// Sums up what terms of policy have allowed or denied, for each that had some.
pub fn read_terms(pins: &Pins) -> Result<BTreeMap<u16, Count>, Error> {
    read_counts(&terms(pins)?, "TERMS")
}

fn read_counts(
    map: &PerCpuArray<MapData, Count>,
    name: &'static str,
) -> Result<BTreeMap<u16, Count>, Error> {
    let mut found = BTreeMap::new();
    for index in 0..map.len() {
        let counts = map
            .get(&index, 0)
            .map_err(|error| Error::map("read map", name, &error))?;
        let sum = sum(&counts);
        if let (Ok(index), true) = (u16::try_from(index), sum.packets != 0) {
            found.insert(index, sum);
        }
    }
    Ok(found)
}

/// Adds up a counter over all processors.
fn sum(counts: &PerCpuValues<Count>) -> Count {
    let mut sum = Count::default();
    for count in counts.iter() {
        sum.packets += count.packets;
        sum.bytes += count.bytes;
    }
    sum
}

/// Returns how many entries a map has room for, if it can be opened.
pub fn capacity(pins: &Pins, name: &str) -> Option<u32> {
    let data = MapData::from_pin(pins.map(name)).ok()?;
    Some(data.info().ok()?.max_entries())
}

/// Describes a map for `status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MapStatus {
    pub name: &'static str,
    /// Present entries; of an array, all of them.
    pub entries: u64,
    pub max_entries: u32,
    /// What the kernel charges for the map.
    pub bytes: u64,
}

/// Describes every map; one that cannot be opened is left out.
pub fn status(pins: &Pins) -> Vec<MapStatus> {
    MAPS.iter()
        .filter_map(|name| map_status(pins, name))
        .collect()
}

fn map_status(pins: &Pins, name: &'static str) -> Option<MapStatus> {
    let data = MapData::from_pin(pins.map(name)).ok()?;
    let info = data.info().ok()?;
    let bytes = memlock(&data);
    let max_entries = info.max_entries();
    let entries = match name {
        "ENDPOINTS" => count(endpoints(pins).ok()?.keys()),
        "LOCAL4" => count(local4(pins).ok()?.keys()),
        "LOCAL6" => count(local6(pins).ok()?.keys()),
        "FLOWS4" => count(flows4(pins).ok()?.keys()),
        "FLOWS6" => count(flows6(pins).ok()?.keys()),
        "DEVICES" => count(devices(pins).ok()?.keys()),
        "PREFIXES4" => count(prefixes4(pins).ok()?.keys()),
        "PREFIXES6" => count(prefixes6(pins).ok()?.keys()),
        "SUBJECTS" => count(subjects(pins).ok()?.keys()),
        "POLICY" => count(policy(pins).ok()?.keys()),
        "RANGES" => count(ranges(pins).ok()?.keys()),
        "BINDINGS4" => count(bindings4(pins).ok()?.keys()),
        "BINDINGS6" => count(bindings6(pins).ok()?.keys()),
        _ => u64::from(max_entries),
    };
    Some(MapStatus {
        name,
        entries,
        max_entries,
        bytes,
    })
}

fn count<K>(keys: impl Iterator<Item = K>) -> u64 {
    u64::try_from(keys.count()).unwrap_or(u64::MAX)
}

/// Reads the memory that the kernel charges, from the descriptor's entry in `/proc`.
fn memlock(data: &MapData) -> u64 {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

trait Typed: Sized {
    fn of(map: Map) -> Result<Self, MapError>;
}

impl<V: Pod> Typed for Array<MapData, V> {
    fn of(map: Map) -> Result<Self, MapError> {
        Self::try_from(map)
    }
}

impl<V: Pod> Typed for PerCpuArray<MapData, V> {
    fn of(map: Map) -> Result<Self, MapError> {
        Self::try_from(map)
    }
}

impl<K: Pod, V: Pod> Typed for HashMap<MapData, K, V> {
    fn of(map: Map) -> Result<Self, MapError> {
        Self::try_from(map)
    }
}

impl<K: Pod, V: Pod> Typed for LpmTrie<MapData, K, V> {
    fn of(map: Map) -> Result<Self, MapError> {
        Self::try_from(map)
    }
}

fn open<M: Typed>(pins: &Pins, name: &str) -> Result<M, Error> {
    MapData::from_pin(pins.map(name))
        .and_then(Map::from_map_data)
        .and_then(M::of)
        .map_err(|error| Error::map("open map", name, &error))
}
