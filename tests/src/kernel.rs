//! The loaded programs, and packets sent through them by `BPF_PROG_TEST_RUN`.
//!
//! The object is the one inside the agent, loaded by the agent's own loader. Redirects are not
//! followed by a test run: the kernel says that a packet is redirected, not where to; the
//! rewritten Ethernet addresses tell. Drop reasons are read from the counters.
//!
//! Call this on a thread of [`isolated`](crate::isolation::isolated): the programs see only
//! links of the caller's network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Pod, TestRunAttrs};
use ciliate::datapath::load::{self, Sizes};
use ciliate::datapath::pin::Pins;
use ciliate::datapath::table;
use ciliate::host::Netlink;
use ciliate::plan::object::Program;
use datapath::abi::{
    Addr4, Addr6, Binding, Count, Datagram, Device, Flow, FlowKey, FragmentKey, Lengths, Line,
    Node, Overtaking, Party, Pending, PolicyEntry, PolicyKey, PolicyPort, Prefix, PrefixKey,
    Ruling, Side, Sides, Subject,
};
use datapath::flow::KeyHash;
use datapath::hook::Hook;
use datapath::model::{ModelNode, ModelPacket, ModelTables};
use datapath::verdict::{DropReason, Verdict};
use nix::time::{ClockId, clock_gettime};
use rtnetlink::LinkVeth;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::party::{
    DEVICE_LINK, DEVICE_MAC, EMPTY_LINK, FAR4, FAR6, FRIEND4, FRIEND6, HOST, NEXT_HOP_MAC,
    NEXT_HOP4, NEXT_HOP6, OUTER4, OUTER6, SLOTS,
};
use crate::snapshot::{Neutral, Snapshot, Tables, any, names};

/// Names the loaded object; any word will do.
const VERSION: &str = "test";

/// Capacities: many more flows than any test makes, so that nothing is evicted.
const SIZES: Sizes = Sizes {
    flows: 16_384,
    flows_given: true,
    endpoint_slots: SLOTS,
    bindings: 4_096,
    prefixes: 4_096,
};

/// Room for the longest packet of a test, in bytes.
const PACKET_MAX: usize = 4_096;

/// Length of `struct __sk_buff`, and where the fields that we set stand.
const CONTEXT_LEN: usize = 192;
const INGRESS_IFINDEX_AT: usize = 36;
const IFINDEX_AT: usize = 40;
const GSO_SEGS_AT: usize = 164;
const GSO_SIZE_AT: usize = 176;

/// Is what tc is told to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// `TC_ACT_UNSPEC`: others decide.
    Pass,
    /// `TC_ACT_REDIRECT`.
    Redirect,
    /// `TC_ACT_SHOT`: dropped, or consumed.
    Shot,
}

impl Fate {
    /// Returns what tc must be told for a verdict.
    pub const fn of(verdict: Result<Verdict, DropReason>) -> Self {
        match verdict {
            Ok(Verdict::Pass) => Self::Pass,
            Ok(
                Verdict::Peer(_) | Verdict::Egress(_) | Verdict::Host(_) | Verdict::Neighbour(..),
            ) => Self::Redirect,
            Ok(Verdict::Consumed) | Err(_) => Self::Shot,
        }
    }

    fn from_action(action: u32) -> Self {
        match action.cast_signed() {
            -1 => Self::Pass,
            2 => Self::Shot,
            7 => Self::Redirect,
            other => panic!("tc was told {other}, which no verdict means"),
        }
    }
}

/// Holds the loaded programs and their maps.
pub struct Kernel {
    pins: Pins,
    programs: [SchedClassifier; 6],
    node: Array<MapData, Node>,
    parties: HashMap<MapData, u32, Party>,
    pub tables4: KernelTables<Addr4>,
    pub tables6: KernelTables<Addr6>,
    drops: PerCpuArray<MapData, Count>,
    prefixes4: HashMap<MapData, PrefixKey<Addr4>, Sides<Prefix>>,
    prefixes6: HashMap<MapData, PrefixKey<Addr6>, Sides<Prefix>>,
    lengths: Array<MapData, Lengths>,
    shares: Array<MapData, Overtaking>,
    subjects: HashMap<MapData, u64, Sides<Subject>>,
    policies: HashMap<MapData, PolicyKey, Sides<PolicyEntry>>,
    ranges: LpmTrie<MapData, PolicyPort, Sides<Ruling>>,
    devices: HashMap<MapData, u32, Device>,
    bound: Array<MapData, u32>,
    cursor: Array<MapData, u32>,
    sweeps: Array<MapData, u64>,
    out: Vec<u8>,
}

/// Holds what is counted for policy: by terms, and by slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub terms: BTreeMap<u16, Count>,
    pub audits: BTreeMap<u16, Count>,
}

/// Holds the maps of one address family.
pub struct KernelTables<A>
where
    Flow<A>: Pod,
    Pending<A>: Pod,
    Binding<A>: Pod,
{
    local: HashMap<MapData, A, u32>,
    flows: HashMap<MapData, FlowKey<A>, Flow<A>>,
    pending: Array<MapData, Pending<A>>,
    /// Entries of pending flows that may be other than empty; `None` if that is not known.
    waiting: Option<BTreeSet<u32>>,
    pub permits: Lines,
    pub tickets: Lines,
    fragments: HashMap<MapData, FragmentKey<A>, Datagram>,
    bindings: HashMap<MapData, FlowKey<A>, Binding<A>>,
}

impl Kernel {
    /// Makes the links of the tests' node and loads the programs, with pins in `bpffs`.
    pub fn load(bpffs: &Path) -> Self {
        make_links();
        let pins = Pins::new(bpffs, "packets");
        load::load(&pins, &SIZES, VERSION).expect("load the datapath");
        Self {
            programs: Hook::ALL.map(|hook| program(&pins, name(hook))),
            node: table::node(&pins).expect("open NODE"),
            parties: table::endpoints(&pins).expect("open ENDPOINTS"),
            tables4: KernelTables {
                local: table::local4(&pins).expect("open LOCAL4"),
                flows: table::flows4(&pins).expect("open FLOWS4"),
                pending: table::pending4(&pins).expect("open PENDING4"),
                waiting: None,
                permits: Lines::new(table::permits4(&pins).expect("open PERMITS4")),
                tickets: Lines::new(table::tickets4(&pins).expect("open TICKETS4")),
                fragments: table::fragments4(&pins).expect("open FRAGMENTS4"),
                bindings: table::bindings4(&pins).expect("open BINDINGS4"),
            },
            tables6: KernelTables {
                local: table::local6(&pins).expect("open LOCAL6"),
                flows: table::flows6(&pins).expect("open FLOWS6"),
                pending: table::pending6(&pins).expect("open PENDING6"),
                waiting: None,
                permits: Lines::new(table::permits6(&pins).expect("open PERMITS6")),
                tickets: Lines::new(table::tickets6(&pins).expect("open TICKETS6")),
                fragments: table::fragments6(&pins).expect("open FRAGMENTS6"),
                bindings: table::bindings6(&pins).expect("open BINDINGS6"),
            },
            drops: table::drops(&pins).expect("open DROPS"),
            prefixes4: table::prefixes4(&pins).expect("open PREFIXES4"),
            prefixes6: table::prefixes6(&pins).expect("open PREFIXES6"),
            lengths: table::lengths(&pins).expect("open LENGTHS"),
            shares: table::shares(&pins).expect("open SHARES"),
            subjects: table::subjects(&pins).expect("open SUBJECTS"),
            policies: table::policy(&pins).expect("open POLICY"),
            ranges: table::ranges(&pins).expect("open RANGES"),
            devices: table::devices(&pins).expect("open DEVICES"),
            bound: table::bound(&pins).expect("open BOUND"),
            cursor: table::cursor(&pins).expect("open CURSOR"),
            sweeps: table::sweeps(&pins).expect("open SWEEPS"),
            out: vec![0; PACKET_MAX],
            pins,
        }
    }

    /// Makes the maps hold what a node in memory holds, and nothing else.
    pub fn fill(&mut self, model: &ModelNode) {
        self.set_node(model.tables4.node.unwrap_or_default());
        replace(&mut self.parties, &model.tables4.parties);
        replace(&mut self.devices, &model.tables4.devices);
        self.fill_policy(&model.tables4);
        for slot in 0..self.shares.len() {
            self.shares
                .set(slot, Overtaking::default(), 0)
                .expect("write SHARES");
        }
        replace(&mut self.prefixes4, &model.tables4.prefixes);
        replace(&mut self.prefixes6, &model.tables6.prefixes);
        let lengths = [&model.tables4.lengths, &model.tables6.lengths];
        for (index, lengths) in (0..).step_by(2).zip(lengths) {
            for side in [Side::of(0), Side::of(1)] {
                let place = index + side.number();
                self.lengths
                    .set(place, lengths.get(side), 0)
                    .expect("write LENGTHS");
            }
        }
        for index in 0..self.bound.len() {
            let bound = if index % 2 == 0 {
                &model.tables4.bound
            } else {
                &model.tables6.bound
            };
            let slot = u16::try_from(index / 2).expect("few slots");
            let count = bound.get(&slot).copied().unwrap_or(0);
            self.bound.set(index, count, 0).expect("write BOUND");
        }
        for (family, bound) in [&model.tables4.bound, &model.tables6.bound]
            .into_iter()
            .enumerate()
        {
            for (slot, count) in bound {
                let index = u32::from(*slot) * 2 + u32::from(family == 1);
                self.bound.set(index, *count, 0).expect("write BOUND");
            }
        }
        for family in 0..self.cursor.len() {
            self.cursor.set(family, 0, 0).expect("write CURSOR");
            self.sweeps.set(family, 0, 0).expect("write SWEEPS");
        }
        self.tables4.fill(&model.tables4);
        self.tables6.fill(&model.tables6);
    }

    fn fill_policy(&mut self, model: &ModelTables<Addr4>) {
        replace(&mut self.subjects, &model.subjects);
        replace(&mut self.policies, &model.policies);
        refill(&mut self.ranges, &model.ranges);
    }

    /// Reads what each term of policy has counted, and what each slot's policy would have denied.
    pub fn counts(&self) -> Counts {
        let read = |map: Result<PerCpuArray<MapData, Count>, _>| sums(&map.expect("open counters"));
        Counts {
            terms: read(table::terms(&self.pins)),
            audits: read(table::audits(&self.pins)),
        }
    }

    /// Writes the node's entry.
    pub fn set_node(&mut self, node: Node) {
        self.node.set(0, node, 0).expect("write NODE");
    }

    /// Removes the program of this index from the table of tail calls, for good.
    pub fn forget_call(&mut self, index: u32) {
        let path = self.pins.object(VERSION).join("CALL");
        let map = MapData::from_pin(path)
            .and_then(Map::from_map_data)
            .expect("open CALL");
        let mut calls = ProgramArray::try_from(map).expect("CALL holds programs");
        calls.clear_index(&index).expect("clear CALL");
    }

    /// Sends a packet through the program of a hook, and leaves the packet as the program did.
    pub fn run(&mut self, hook: Hook, packet: &mut ModelPacket) -> Fate {
        assert!(
            packet.vlan_tag == 0,
            "a test run cannot put a tag beside a packet"
        );
        let mut context = [0; CONTEXT_LEN];
        let mut set = |at: usize, value: u32| {
            context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        set(INGRESS_IFINDEX_AT, packet.ingress_ifindex);
        set(IFINDEX_AT, packet.ifindex);
        if packet.gso_size != 0 {
            let len = u32::try_from(packet.bytes.len()).expect("fits");
            set(GSO_SIZE_AT, packet.gso_size);
            set(GSO_SEGS_AT, len.div_ceil(packet.gso_size));
        }
        let options = TestRunOptions {
            data_in: Some(&packet.bytes),
            data_out: Some(&mut self.out),
            ctx_in: Some(&context),
            ctx_out: None,
            repeat: 1,
            attrs: TestRunAttrs::new(),
        };
        (self.tables4.waiting, self.tables6.waiting) = (None, None);
        let result = self.programs[index(hook)]
            .test_run(options)
            .unwrap_or_else(|error| {
                panic!(
                    "run {} on {} bytes: {error:?}",
                    name(hook),
                    packet.bytes.len()
                )
            });
        let len = usize::try_from(result.data_size_out).expect("fits");
        packet.bytes.clear();
        packet.bytes.extend_from_slice(&self.out[..len]);
        Fate::from_action(result.return_value)
    }

    /// Reads flows, pending flows and fragments, and of the notes those that a node in memory looked
    /// at.
    pub fn snapshot(&mut self, model: &ModelNode) -> Snapshot {
        Snapshot {
            v4: self.tables4.snapshot(&model.tables4),
            v6: self.tables6.snapshot(&model.tables6),
        }
    }

    /// Reads how many packets were dropped, for every reason that occurred, since the load.
    pub fn drops(&self) -> BTreeMap<DropReason, u64> {
        let drops = table::read_drops(&self.pins).expect("read DROPS");
        drops
            .into_iter()
            .map(|(reason, count)| (reason, count.packets))
            .collect()
    }

    /// Reads how many packets were dropped for one reason since the load.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let counts = self
            .drops
            .get(&u32::from(reason as u8), 0)
            .expect("read DROPS");
        counts.iter().map(|count| count.packets).sum()
    }

    /// Returns what the verifier says that each program costs it.
    pub fn statistics(&self) -> BTreeMap<String, String> {
        load::statistics(&self.pins, &SIZES).expect("verify the datapath")
    }

    /// Returns how many instructions the verifier looked at, for every program.
    pub fn verified_instructions(&self) -> BTreeMap<&'static str, u32> {
        let called = ["slow4", "slow6", "arp"].into_iter();
        let names = called.chain(Program::ALL.iter().map(|program| program.name()));
        let count = |name| {
            let info = program(&self.pins, name).info().expect("inspect program");
            info.verified_instruction_count()
                .expect("the kernel counts instructions (5.16)")
        };
        names.map(|name| (name, count(name))).collect()
    }
}

impl<A: Pod + Ord + KeyHash + Neutral> KernelTables<A>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
    FragmentKey<A>: Pod,
    Pending<A>: Pod + Default,
    Binding<A>: Pod,
{
    fn fill(&mut self, model: &ModelTables<A>) {
        replace(&mut self.local, &model.local);
        replace(&mut self.flows, &model.flows);
        replace(&mut self.fragments, &model.fragments);
        replace(&mut self.bindings, &model.bindings);
        self.permits.fill(&model.permits);
        self.tickets.fill(&model.tickets);
        let waiting = self.waiting.take();
        let waiting = waiting.unwrap_or_else(|| (0..self.pending.len()).collect());
        let wanted: BTreeSet<u32> = model.pending.keys().copied().collect();
        for index in waiting.union(&wanted) {
            let entry = model.pending.get(index).copied().unwrap_or_default();
            self.set_pending(*index, entry);
        }
        self.waiting = Some(wanted);
    }

    /// Makes an address lead to a link, or nowhere.
    pub fn set_local(&mut self, address: &A, ifindex: Option<u32>) {
        match ifindex {
            Some(ifindex) => self.local.insert(address, ifindex, 0).expect("write local"),
            None => self.local.remove(address).expect("remove local"),
        }
    }

    /// Reads a flow, if it is there.
    pub fn flow(&self, key: &FlowKey<A>) -> Option<Flow<A>> {
        found(self.flows.get(key, 0))
    }

    /// Writes a flow.
    pub fn set_flow(&mut self, key: &FlowKey<A>, flow: &Flow<A>) {
        self.flows.insert(key, flow, 0).expect("write flow");
    }

    /// Removes a flow that is there.
    pub fn remove_flow(&mut self, key: &FlowKey<A>) {
        self.flows.remove(key).expect("remove flow");
    }

    /// Reads an entry of the table of pending flows.
    pub fn pending(&self, index: u32) -> Pending<A> {
        self.pending.get(&index, 0).expect("read pending flow")
    }

    /// Writes an entry of the table of pending flows.
    pub fn set_pending(&mut self, index: u32, pending: Pending<A>) {
        self.waiting = None;
        self.pending
            .set(index, pending, 0)
            .expect("write pending flow");
    }

    /// Reads half of a binding, if it is there.
    pub fn binding(&self, key: &FlowKey<A>) -> Option<Binding<A>> {
        found(self.bindings.get(key, 0))
    }

    /// Writes half of a binding.
    pub fn set_binding(&mut self, key: &FlowKey<A>, half: &Binding<A>) {
        self.bindings.insert(key, half, 0).expect("write binding");
    }

    /// Reads what the first fragment of a datagram said, if it was seen.
    pub fn fragment(&self, key: &FragmentKey<A>) -> Option<Datagram> {
        found(self.fragments.get(key, 0))
    }

    fn snapshot(&mut self, model: &ModelTables<A>) -> Tables<A> {
        let pending: Vec<_> = (0..self.pending.len())
            .map(|index| (index, self.pending(index)))
            .filter(|(_, entry)| entry.version != 0 || entry.packets != 0)
            .collect();
        self.waiting = Some(pending.iter().map(|(index, _)| *index).collect());
        let flows = dump(&self.flows).map(|(key, flow)| (key, any(&flow)));
        let mut tables = Tables::new(
            flows,
            pending.into_iter(),
            dump(&self.fragments),
            dump(&self.bindings),
        );
        tables.permits = names(self.permits.read(model.permits.keys()));
        tables.tickets = names(self.tickets.read(model.tickets.keys()));
        tables
    }
}

/// Is an array of notes.
pub struct Lines {
    map: Array<MapData, Line>,
    /// Lines that may be other than empty.
    used: BTreeSet<u32>,
}

impl Lines {
    fn new(map: Array<MapData, Line>) -> Self {
        let used = BTreeSet::new();
        Self { map, used }
    }

    fn fill(&mut self, wanted: &BTreeMap<u32, Line>) {
        for index in std::mem::take(&mut self.used) {
            self.set(index, Line::default());
        }
        for (index, line) in wanted {
            self.set(*index, *line);
        }
        self.used = wanted.keys().copied().collect();
    }

    /// Reads a line.
    pub fn get(&mut self, index: u32) -> Line {
        self.used.insert(index);
        self.map.get(&index, 0).expect("read notes")
    }

    /// Writes a line.
    pub fn set(&mut self, index: u32, line: Line) {
        self.used.insert(index);
        self.map.set(index, line, 0).expect("write notes");
    }

    /// Reads these lines, and those that were used before.
    fn read<'a>(&mut self, indices: impl Iterator<Item = &'a u32>) -> Vec<(u32, Line)> {
        self.used.extend(indices);
        let used = self.used.clone();
        used.into_iter()
            .map(|index| (index, self.get(index)))
            .collect()
    }
}

/// Reads the clock that the programs read, in nanoseconds.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("read the clock");
    let seconds = u64::try_from(time.tv_sec()).expect("time since boot");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).expect("below a second")
}

fn found<V>(result: Result<V, MapError>) -> Option<V> {
    match result {
        Ok(value) => Some(value),
        Err(MapError::KeyNotFound) => None,
        Err(error) => panic!("read map: {error}"),
    }
}

fn dump<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>) -> impl Iterator<Item = (K, V)> {
    map.iter().map(|entry| entry.expect("read map"))
}

fn replace<K: Pod + Ord, V: Pod>(map: &mut HashMap<MapData, K, V>, wanted: &BTreeMap<K, V>) {
    let found: Vec<K> = map.keys().map(|key| key.expect("read map")).collect();
    for key in found.iter().filter(|key| !wanted.contains_key(key)) {
        map.remove(key).expect("remove from map");
    }
    for (key, value) in wanted {
        map.insert(key, value, 0).expect("write map");
    }
}

/// Makes a trie hold these keys of these lengths in bits, and nothing else.
fn refill<K: Pod, V: Pod>(trie: &mut LpmTrie<MapData, K, V>, wanted: &[(K, u32, V)]) {
    let found = trie.keys().collect::<Result<Vec<_>, _>>();
    for key in found.expect("read trie") {
        trie.remove(&key).expect("remove from trie");
    }
    for (key, len, value) in wanted {
        trie.insert(&Key::new(*len, *key), value, 0)
            .expect("write trie");
    }
}

/// Adds up counters over all processors; those that count nothing are left out.
fn sums(map: &PerCpuArray<MapData, Count>) -> BTreeMap<u16, Count> {
    let mut found = BTreeMap::new();
    for index in 0..map.len() {
        let mut sum = Count::default();
        for count in map.get(&index, 0).expect("read counters").iter() {
            sum.packets += count.packets;
            sum.bytes += count.bytes;
        }
        if sum != Count::default() {
            found.insert(u16::try_from(index).expect("fits"), sum);
        }
    }
    found
}

fn program(pins: &Pins, name: &str) -> SchedClassifier {
    SchedClassifier::from_pin(pins.object(VERSION).join(name)).expect("open program")
}

const fn index(hook: Hook) -> usize {
    match hook {
        Hook::FromContainer => 0,
        Hook::ToContainer => 1,
        Hook::FromHost => 2,
        Hook::ToHost => 3,
        Hook::FromNetdev => 4,
        Hook::ToNetdev => 5,
    }
}

/// Returns the name of the program of a hook.
pub const fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::FromContainer => "from_container",
        Hook::ToContainer => "to_container",
        Hook::FromHost => "from_host",
        Hook::ToHost => "to_host",
        Hook::FromNetdev => "from_netdev",
        Hook::ToNetdev => "to_netdev",
    }
}

/// Makes a link for every index that packets of tests come from: a test run refuses others. The
/// device has routes, for the kernel is asked about them.
fn make_links() {
    let mut netlink = Netlink::open().expect("open a netlink socket");
    let parties = crate::party::ALL.iter().map(|who| who.link);
    for ifindex in parties.chain([EMPTY_LINK, DEVICE_LINK]) {
        let (name, peer) = (format!("link{ifindex}"), format!("peer{ifindex}"));
        let mut message = LinkVeth::new(&name, &peer).build();
        message.header.index = ifindex;
        let request = RouteNetlinkMessage::NewLink(message);
        netlink
            .execute(
                request,
                NLM_F_CREATE | NLM_F_EXCL,
                format_args!("add link {name}"),
            )
            .expect("make a link");
    }
    let (host, device) = (HOST.link, DEVICE_LINK);
    for setting in [
        format!("net/ipv4/conf/link{host}/forwarding"),
        format!("net/ipv4/conf/link{device}/forwarding"),
        "net/ipv6/conf/all/forwarding".to_owned(),
    ] {
        std::fs::write(format!("/proc/sys/{setting}"), "1").expect("switch forwarding on");
    }
    // Else the address could not be used at once.
    let probes = format!("/proc/sys/net/ipv6/conf/link{device}/accept_dad");
    std::fs::write(probes, "0").expect("switch probes off");
    let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let own = text(DEVICE_MAC);
    for line in [
        format!("link set link{device} address {own}"),
        format!("link set link{host} up"),
        format!("link set peer{device} up"),
        format!("link set link{device} up"),
        format!("address add {OUTER4}/24 dev link{device}"),
        format!("address add {OUTER6}/64 dev link{device}"),
        format!("route add {FAR4} via {NEXT_HOP4} dev link{device}"),
        format!("route add {FRIEND4} via {NEXT_HOP4} dev link{device}"),
        format!("route add {FAR6} via {NEXT_HOP6} dev link{device}"),
        format!("route add {FRIEND6} via {NEXT_HOP6} dev link{device}"),
    ] {
        let status = Command::new("ip").args(line.split(' ')).status();
        assert!(status.is_ok_and(|status| status.success()), "ip {line}");
    }
    for next_hop in [IpAddr::from(NEXT_HOP4), IpAddr::from(NEXT_HOP6)] {
        add_neighbour(&mut netlink, next_hop);
    }
}

/// Makes the next hop known for good; not every `ip` can.
fn add_neighbour(netlink: &mut Netlink, address: IpAddr) {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = DEVICE_LINK;
    message.header.state = NeighbourState::Permanent;
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    message.header.family = family;
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(NEXT_HOP_MAC.to_vec()),
    ];
    netlink
        .execute(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_EXCL,
            format_args!("add neighbour {address}"),
        )
        .expect("add a neighbour");
}
