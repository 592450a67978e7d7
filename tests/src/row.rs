//! One row of a packet table: what the node knows and which packet comes, what becomes of both.
//!
//! A row runs on the host, where the verdict names its target, and in the kernel. Unless a row
//! says otherwise the packet passes unchanged and nothing is remembered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use datapath::abi::{Count, Node};
use datapath::hook::Hook;
use datapath::model::{ModelNode, ModelPacket};
use datapath::packet::VLAN_TAG;
use datapath::verdict::{DropReason, Verdict};

use crate::frame::Tuple;
use crate::isolation::isolated;
use crate::kernel::{Counts, Fate, Kernel, now_ns};
use crate::party::{self, Who};
use crate::snapshot::Snapshot;

/// Where a row runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Both,
    /// What a test run cannot show.
    Host,
}

/// Adds to what policy says.
type Says = Box<dyn Fn(&mut ModelNode) + Sync>;

/// Is a row.
pub struct Row {
    name: String,
    node: Node,
    hook: Hook,
    packet: ModelPacket,
    place: Place,
    has_masquerade_address: bool,
    /// Bindings of each slot, counted.
    bound: BTreeMap<u16, u32>,
    sockets: Vec<Tuple>,
    given: Snapshot,
    counted: Option<DropReason>,
    /// What policy says, on top of what everybody is to it.
    rules: Vec<Says>,
    /// Packets counted for terms of policy.
    terms: BTreeMap<u16, u64>,
    /// Packets that the policies of slots would have denied.
    audits: BTreeMap<u16, u64>,
    /// Whether tickets are compared.
    has_tickets: bool,
    verdict: Result<Verdict, DropReason>,
    leaves: Vec<u8>,
    then: Snapshot,
}

impl Row {
    /// Begins a row: the packet comes to a hook of this link.
    pub fn new(name: impl Into<String>, hook: Hook, link: u32, bytes: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            node: party::node(),
            hook,
            packet: ModelPacket {
                bytes: bytes.clone(),
                ifindex: link,
                ingress_ifindex: usual_ingress(&bytes),
                ..ModelPacket::default()
            },
            place: Place::Both,
            has_masquerade_address: true,
            bound: BTreeMap::new(),
            sockets: Vec::new(),
            given: Snapshot::default(),
            counted: None,
            rules: Vec::new(),
            terms: BTreeMap::new(),
            audits: BTreeMap::new(),
            has_tickets: false,
            verdict: Ok(Verdict::Pass),
            leaves: bytes,
            then: Snapshot::default(),
        }
    }

    /// The packet came into the node by this link.
    #[must_use]
    pub fn came_by(mut self, link: u32) -> Self {
        self.packet.ingress_ifindex = link;
        self
    }

    /// Begins a row: an endpoint sends a packet.
    pub fn from_container(name: impl Into<String>, from: &Who, bytes: Vec<u8>) -> Self {
        Self::new(name, Hook::FromContainer, from.link, bytes)
    }

    /// Begins a row: the node's stack sends a packet to endpoints.
    pub fn from_host(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(name, Hook::FromHost, party::HOST.link, bytes)
    }

    /// Begins a row: the node's stack receives a packet from an endpoint.
    pub fn to_host(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(name, Hook::ToHost, party::HOST.link, bytes)
    }

    /// Begins a row: a packet comes to the device from outside.
    pub fn from_netdev(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(name, Hook::FromNetdev, party::DEVICE_LINK, bytes).came_by(party::DEVICE_LINK)
    }

    /// Begins a row: the node's stack sends a packet out of the device.
    pub fn to_netdev(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(name, Hook::ToNetdev, party::DEVICE_LINK, bytes)
    }

    /// Begins a row: a packet of the node's stack reaches an endpoint's link.
    pub fn to_container(name: impl Into<String>, to: &Who, bytes: Vec<u8>) -> Self {
        Self::new(name, Hook::ToContainer, to.link, bytes)
    }

    /// Says what the node knows before, and, unless said otherwise, after the packet.
    #[must_use]
    pub fn given(mut self, describe: impl FnOnce(&mut Snapshot)) -> Self {
        describe(&mut self.given);
        self.then = self.given.clone().timeless();
        self
    }

    /// Changes the node's entry.
    #[must_use]
    pub fn node(mut self, change: impl FnOnce(&mut Node)) -> Self {
        change(&mut self.node);
        self
    }

    /// Takes the masquerade addresses from the device.
    #[must_use]
    pub fn without_masquerade_address(mut self) -> Self {
        self.has_masquerade_address = false;
        self
    }

    /// Makes the packet a GSO packet with segments of this many bytes.
    #[must_use]
    pub fn gso(mut self, gso_size: u32) -> Self {
        self.packet.gso_size = gso_size;
        self
    }

    /// Puts a VLAN tag beside the packet; such a row runs on the host only.
    #[must_use]
    pub fn vlan_beside(mut self) -> Self {
        self.packet.vlan_tag = VLAN_TAG | 5;
        self.place = Place::Host;
        self
    }

    /// Puts a tag beside the packet that gives a priority and names no VLAN; such a row runs on the
    /// host only.
    #[must_use]
    pub fn priority_beside(mut self) -> Self {
        self.packet.vlan_tag = VLAN_TAG | 3 << 13;
        self.on_the_host_only()
    }

    /// Makes the row run on the host only: a test run refuses such a packet.
    #[must_use]
    pub fn on_the_host_only(mut self) -> Self {
        self.place = Place::Host;
        self
    }

    /// Says that the packet gets this verdict.
    #[must_use]
    pub fn gets(mut self, verdict: Verdict) -> Self {
        self.verdict = Ok(verdict);
        self
    }

    /// Says that the packet is dropped, and counted, for this reason.
    #[must_use]
    pub fn dropped(mut self, reason: DropReason) -> Self {
        self.verdict = Err(reason);
        self
    }

    /// Says what the packet looks like afterwards.
    #[must_use]
    pub fn leaves(mut self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        self.leaves = change(self.leaves);
        self
    }

    /// Says that the packet is routed to another endpoint, past the stack.
    #[must_use]
    pub fn routed_to(self, to: &Who) -> Self {
        self.gets(Verdict::Peer(to.link))
            .leaves(|bytes| crate::frame::aged(crate::frame::sent(bytes, to.mac, to.gateway_mac)))
    }

    /// Says that the packet enters the node's stack.
    #[must_use]
    pub fn to_stack(self) -> Self {
        let host = party::HOST;
        self.gets(Verdict::Host(host.link))
            .leaves(|bytes| crate::frame::sent(bytes, host.mac, host.gateway_mac))
    }

    /// Says that the packet goes on where it is, addressed to an endpoint.
    #[must_use]
    pub fn addressed_to(self, to: &Who) -> Self {
        self.leaves(|bytes| crate::frame::sent(bytes, to.mac, to.gateway_mac))
    }

    /// Says that the packet of the stack goes on to an endpoint.
    #[must_use]
    pub fn delivered_to(self, to: &Who) -> Self {
        self.gets(Verdict::Egress(to.link))
            .leaves(|bytes| crate::frame::sent(bytes, to.mac, to.gateway_mac))
    }

    /// Says how what the node knows changes; times are not compared.
    #[must_use]
    pub fn then(mut self, change: impl FnOnce(&mut Snapshot)) -> Self {
        change(&mut self.then);
        self.then = self.then.timeless();
        self
    }

    /// Says that a packet is counted for this reason although it is not dropped here.
    #[must_use]
    pub fn counted(mut self, reason: DropReason) -> Self {
        self.counted = Some(reason);
        self
    }

    /// Says something about policy.
    #[must_use]
    pub fn rule(mut self, rule: impl Fn(&mut ModelNode) + Sync + 'static) -> Self {
        self.rules.push(Box::new(rule));
        self
    }

    /// Says how many packets are counted for a term of policy.
    #[must_use]
    pub fn term(mut self, term: u16, packets: u64) -> Self {
        self.terms.insert(term, packets);
        self
    }

    /// Says that the policy of a party would have denied the packet.
    #[must_use]
    pub fn audited(mut self, who: &Who) -> Self {
        self.audits.insert(who.slot, 1);
        self
    }

    /// Says how many bindings of each family an endpoint has.
    #[must_use]
    pub fn bound(mut self, who: &Who, count: u32) -> Self {
        self.bound.insert(who.slot, count);
        self
    }

    /// Makes the packet one that is addressed to somebody else; such a row runs on the host only.
    #[must_use]
    pub fn for_somebody_else(mut self) -> Self {
        self.packet.is_foreign = true;
        self.on_the_host_only()
    }

    /// Says that the node has a socket at the source of this flow; such a row runs on the host
    /// only.
    #[must_use]
    pub fn socket(mut self, tuple: Tuple) -> Self {
        self.sockets.push(tuple);
        self.on_the_host_only()
    }

    /// Says that what the row says of tickets is to be compared as well.
    #[must_use]
    pub fn with_tickets(mut self) -> Self {
        self.has_tickets = true;
        self
    }

    fn run(&self, kernel: &mut Kernel) -> String {
        let mut complaints = String::new();
        let mut model = party::model();
        let pending_mask = model
            .tables4
            .node
            .expect("the node is described")
            .pending_mask;
        let mut node = self.node;
        node.pending_mask = pending_mask;
        (model.tables4.node, model.tables6.node) = (Some(node), Some(node));
        let uptime_ns = now_ns();
        // A clock that starts with the machine cannot show the kernel what is older.
        let is_too_old = self.given.oldest_ns() > uptime_ns;
        let now_ns = uptime_ns
            + if is_too_old {
                self.given.oldest_ns()
            } else {
                0
            };
        (model.tables4.now_ns, model.tables6.now_ns) = (now_ns, now_ns);
        if !self.has_masquerade_address {
            party::take_address(&mut model);
        }
        (model.tables4.bound, model.tables6.bound) = (self.bound.clone(), self.bound.clone());
        for rule in &self.rules {
            rule(&mut model);
        }
        for socket in &self.sockets {
            party::add_socket(&mut model, socket);
        }
        self.given.give(&mut model, now_ns);
        if !is_too_old {
            kernel.fill(&model);
        }

        let mut packet = self.packet.clone();
        let verdict = model.run(self.hook, &mut packet);
        compare(&mut complaints, "host: verdict", &verdict, &self.verdict);
        compare_bytes(&mut complaints, "host: packet", &packet.bytes, &self.leaves);
        compare_tables(
            &mut complaints,
            "host: tables",
            &self.seen(Snapshot::of(&model)),
            &self.then,
        );
        compare(
            &mut complaints,
            "host: terms and audits",
            &counted(&model),
            &self.counts(),
        );
        if is_too_old {
            note(&self.name);
        }
        if self.place == Place::Host || is_too_old {
            return complaints;
        }
        let mut packet = self.packet.clone();
        let (before, counts_before) = (kernel.drops(), kernel.counts());
        let fate = kernel.run(self.hook, &mut packet);
        compare(
            &mut complaints,
            "kernel: fate",
            &fate,
            &Fate::of(self.verdict),
        );
        compare_bytes(
            &mut complaints,
            "kernel: packet",
            &packet.bytes,
            &self.leaves,
        );
        compare_tables(
            &mut complaints,
            "kernel: tables",
            &self.seen(kernel.snapshot(&model)),
            &self.then,
        );
        let now = kernel.counts();
        compare(
            &mut complaints,
            "kernel: terms and audits",
            &more(&now, &counts_before),
            &self.counts(),
        );
        let counted = difference(&kernel.drops(), &before);
        let expected = self
            .verdict
            .err()
            .or(self.counted)
            .map(|reason| (reason, 1))
            .into_iter()
            .collect();
        compare(
            &mut complaints,
            "kernel: counted drops",
            &counted,
            &expected,
        );
        complaints
    }
}

impl Row {
    /// Returns the terms and slots for which packets are counted.
    fn counts(&self) -> Counted {
        let terms = self
            .terms
            .iter()
            .map(|(term, count)| (("term", *term), *count));
        let audits = self
            .audits
            .iter()
            .map(|(slot, count)| (("slot", *slot), *count));
        terms.chain(audits).collect()
    }

    /// Returns what is compared.
    fn seen(&self, mut found: Snapshot) -> Snapshot {
        if !self.has_tickets {
            found.v4.tickets.clone_from(&self.then.v4.tickets);
            found.v6.tickets.clone_from(&self.then.v6.tickets);
        }
        found
    }
}

/// Returns where the stack has a packet from: what it sends for endpoints, the pipeline handed to
/// it; everything else is its own.
fn usual_ingress(bytes: &[u8]) -> u32 {
    let source: Option<IpAddr> = match bytes.get(12..14) {
        Some([0x08, 0x00]) => bytes
            .get(26..30)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
            .map(IpAddr::from),
        Some([0x86, 0xdd]) => bytes
            .get(22..38)
            .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
            .map(IpAddr::from),
        _ => None,
    };
    let is_endpoint = |who: &&Who| match source {
        Some(IpAddr::V4(source)) => who.ipv4 == Some(source),
        Some(IpAddr::V6(source)) => who.ipv6 == Some(source),
        None => false,
    };
    let sender = party::ALL.iter().find(is_endpoint);
    match sender {
        Some(who) if *who != party::HOST => party::HOST.link,
        Some(_) | None => 0,
    }
}

fn note(name: &str) {
    eprintln!("{name}: host only: older than this machine's uptime");
}

/// Runs rows against one load of the programs, and fails with everything that is not as the rows
/// say.
pub fn run(rows: &[Row]) {
    isolated(|bpffs| {
        let mut kernel = Kernel::load(bpffs);
        let mut failures = String::new();
        for row in rows {
            let complaints = row.run(&mut kernel);
            if !complaints.is_empty() {
                let _ = writeln!(failures, "\n{}\n{complaints}", row.name);
            }
        }
        assert!(failures.is_empty(), "{failures}");
    });
}

/// Returns the names of rows.
pub fn names(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.name.as_str()).collect()
}

fn compare<T: PartialEq + std::fmt::Debug>(to: &mut String, what: &str, found: &T, wanted: &T) {
    if found != wanted {
        let _ = writeln!(
            to,
            "  {what} is\n    {found:?}\n  and should be\n    {wanted:?}"
        );
    }
}

fn compare_tables(to: &mut String, what: &str, found: &Snapshot, wanted: &Snapshot) {
    let differences = found.differences(wanted);
    if !differences.is_empty() {
        let _ = writeln!(to, "  {what} differ\n{differences}");
    }
}

fn compare_bytes(to: &mut String, what: &str, found: &[u8], wanted: &[u8]) {
    if found != wanted {
        let [found, wanted] = [found, wanted].map(hex);
        let _ = writeln!(
            to,
            "  {what} is\n    {found}\n  and should be\n    {wanted}"
        );
    }
}

/// Returns bytes as hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn difference(
    after: &BTreeMap<DropReason, u64>,
    before: &BTreeMap<DropReason, u64>,
) -> BTreeMap<DropReason, u64> {
    let grown = |(reason, count): (&DropReason, &u64)| {
        let more = count - before.get(reason).copied().unwrap_or(0);
        (more != 0).then_some((*reason, more))
    };
    after.iter().filter_map(grown).collect()
}

/// Is how many packets are counted for terms of policy and for slots.
pub type Counted = BTreeMap<(&'static str, u16), u64>;

/// Returns what a node in memory has counted for terms and slots.
pub fn counted(model: &ModelNode) -> Counted {
    let mut counted = Counted::new();
    add(&mut counted, "term", &model.tables4.terms);
    add(&mut counted, "term", &model.tables6.terms);
    add(&mut counted, "slot", &model.tables4.audits);
    add(&mut counted, "slot", &model.tables6.audits);
    counted
}

/// Returns what a kernel has counted for terms and slots since an earlier count.
pub fn more(now: &Counts, before: &Counts) -> Counted {
    let since = |now: &BTreeMap<u16, Count>, before: &BTreeMap<u16, Count>| {
        let more = now.iter().map(|(index, count)| {
            let before = before.get(index).copied().unwrap_or_default();
            (*index, count.since(&before))
        });
        more.collect::<BTreeMap<_, _>>()
    };
    let mut counted = Counted::new();
    add(&mut counted, "term", &since(&now.terms, &before.terms));
    add(&mut counted, "slot", &since(&now.audits, &before.audits));
    counted
}

fn add(counted: &mut Counted, name: &'static str, counts: &BTreeMap<u16, Count>) {
    for (index, count) in counts.iter().filter(|(_, count)| count.packets != 0) {
        *counted.entry((name, *index)).or_default() += count.packets;
    }
}
