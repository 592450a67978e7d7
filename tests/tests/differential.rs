//! Random packets through the model and through the kernel: both must agree on verdict, bytes,
//! counted drops and every table, times included.
//!
//! The run is made of episodes of [`EPISODE`] packets; each begins with empty tables and has a
//! seed of its own, so that an episode can be repeated alone:
//!
//! ```text
//! CILIATE_DIFFERENTIAL=1000000 cargo test -p tests --test differential      more packets
//! CILIATE_DIFFERENTIAL_SEED=1234 CILIATE_DIFFERENTIAL=500 cargo test …       one episode
//! ```
//!
//! This proves that two builds agree; that the logic is right, the packet tables prove. Needs
//! root.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::time::Instant;

use aya::Pod;
use datapath::abi::{Binding, Flow, FlowKey, FragmentKey, Line, Node, OUTSIDE, Pending, Timeouts};
use datapath::family::Address;
use datapath::flow::KeyHash;
use datapath::hook::Hook;
use datapath::model::{ModelNode, ModelPacket, ModelTables};
use datapath::verdict::{DropReason, Verdict};
use tests::isolation::isolated;
use tests::kernel::{Fate, Kernel, KernelTables, Lines, name, now_ns};
use tests::party::{self, A, B, C, HOST};
use tests::random::Random;
use tests::row::{self, hex};
use tests::rules;
use tests::snapshot::{Neutral, Snapshot};
use tests::traffic::Traffic;

const PACKETS: u64 = 100_000;
const EPISODE: u64 = 500;
const SEED: u64 = 1;
const SECOND_NS: u64 = 1_000_000_000;

/// Longest step of the clock: kernels tick 100 times a second at least.
const STEP_NS: u64 = 10_000_000;

/// Is one packet, and what the kernel did with it.
struct Shot {
    hook: Hook,
    packet: ModelPacket,
    fate: Fate,
    leaves: Vec<u8>,
    /// Time before and after.
    between_ns: (u64, u64),
}

#[test]
fn model_and_kernel_agree_on_random_packets() {
    let packets = number("CILIATE_DIFFERENTIAL", PACKETS);
    let seed = number("CILIATE_DIFFERENTIAL_SEED", SEED);
    isolated(|bpffs| {
        let mut kernel = Kernel::load(bpffs);
        let mut seen = BTreeMap::new();
        let start = Instant::now();
        for episode in 0..packets.div_ceil(EPISODE) {
            run_episode(&mut kernel, seed + episode, &mut seen);
        }
        eprintln!(
            "{packets} packets from seed {seed} on, 0 differences, {:.1?}",
            start.elapsed()
        );
        for (result, count) in &seen {
            eprintln!("{count:>8}  {result}");
        }
        if packets >= PACKETS {
            assert_everything_occurred(&seen);
        }
    });
}

/// A run that never reaches some verdict proves nothing about it.
fn assert_everything_occurred(seen: &BTreeMap<String, u64>) {
    let unreachable = [DropReason::MissedTailCall, DropReason::WriteError];
    let reasons = DropReason::ALL
        .iter()
        .filter(|reason| !unreachable.contains(reason));
    let missing: Vec<String> = reasons
        .map(|reason| format!("{reason:?}"))
        .chain(["Pass", "Peer", "Egress", "Host", "Neighbour", "Consumed"].map(str::to_owned))
        .filter(|result| !seen.contains_key(result))
        .collect();
    assert!(
        missing.is_empty(),
        "the random packets never gave {missing:?}"
    );
}

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |text| {
        text.parse().expect("the variable holds a number")
    })
}

fn run_episode(kernel: &mut Kernel, seed: u64, seen: &mut BTreeMap<String, u64>) {
    let mut traffic = Traffic::new(Random::new(seed));
    let mut model = party::model();
    let node = node_of(seed);
    (model.tables4.node, model.tables6.node) = (Some(node), Some(node));
    if !seed.is_multiple_of(4) {
        rules::give(&mut model, seed);
    }
    kernel.fill(&model);
    let mut drops = kernel.drops();
    let before = kernel.counts();
    for index in 0..EPISODE {
        disturb(traffic.random(), &mut model, kernel);
        let (hook, packet) = traffic.packet();
        let shot = shoot(kernel, hook, packet);
        let result = settle(&mut model, kernel, &shot).unwrap_or_else(|complaint| {
            let Shot { packet, .. } = &shot;
            panic!(
                "seed {seed}, packet {index}: {} of link {}, gso {}: {}\n{complaint}",
                name(hook),
                packet.ifindex,
                packet.gso_size,
                hex(&packet.bytes)
            )
        });
        if let Err(reason) = result {
            let count = drops.entry(reason).or_default();
            *count += 1;
            assert_eq!(
                kernel.dropped(reason),
                *count,
                "seed {seed}, packet {index}: {reason:?}"
            );
        }
        *seen.entry(label(result)).or_default() += 1;
    }
    let differences = kernel.snapshot(&model).differences(&Snapshot::of(&model));
    assert_eq!(differences, "", "tables after the episode of seed {seed}");
    let counts = row::more(&kernel.counts(), &before);
    assert_eq!(
        counts,
        row::counted(&model),
        "terms and audits after the episode of seed {seed}"
    );
    assert_eq!(
        kernel.drops(),
        drops,
        "drops after the episode of seed {seed}"
    );
}

/// Returns the node of an episode: every setting has its turn.
fn node_of(seed: u64) -> Node {
    let mut node = party::model().tables4.node.expect("is described");
    let masquerade = &mut node.masquerade;
    masquerade.endpoint_independent = u8::from(seed.is_multiple_of(2));
    masquerade.unfiltered = u8::from(seed.is_multiple_of(3));
    if seed.is_multiple_of(7) {
        masquerade.max_ports = 4;
    }
    if seed.is_multiple_of(5) {
        masquerade.ports = [50_000, 50_001];
    }
    node.legacy_routing = u8::from(seed.is_multiple_of(11));
    node
}

fn label(result: Result<Verdict, DropReason>) -> String {
    match result {
        Ok(Verdict::Pass) => "Pass".into(),
        Ok(Verdict::Peer(_)) => "Peer".into(),
        Ok(Verdict::Egress(_)) => "Egress".into(),
        Ok(Verdict::Host(_)) => "Host".into(),
        Ok(Verdict::Neighbour(..)) => "Neighbour".into(),
        Ok(Verdict::Consumed) => "Consumed".into(),
        Err(reason) => format!("{reason:?}"),
    }
}

fn shoot(kernel: &mut Kernel, hook: Hook, packet: ModelPacket) -> Shot {
    let mut out = packet.clone();
    let before = now_ns();
    let fate = kernel.run(hook, &mut out);
    Shot {
        hook,
        packet,
        fate,
        leaves: out.bytes,
        between_ns: (before, now_ns()),
    }
}

/// Takes the packet through the model, at the moment at which the kernel saw it.
///
/// The clock goes on in steps of milliseconds. Nearly always there is one moment to try; around a
/// step the kernel's programs may be a step behind what the caller reads, and what they wrote
/// tells their time.
fn settle(
    model: &mut ModelNode,
    kernel: &mut Kernel,
    shot: &Shot,
) -> Result<Result<Verdict, DropReason>, String> {
    let (first, last) = shot.between_ns;
    let mut complaint = String::new();
    let mut moments = vec![last, first];
    let mut stamps = BTreeSet::new();
    let mut tried = BTreeSet::new();
    while let Some(now_ns) = moments.pop() {
        if !tried.insert(now_ns) {
            continue;
        }
        let mut after = model.clone();
        (after.tables4.now_ns, after.tables6.now_ns) = (now_ns, now_ns);
        let mut packet = shot.packet.clone();
        let result = after.run(shot.hook, &mut packet);
        complaint.clear();
        differ(&mut complaint, "fate", &shot.fate, &Fate::of(result));
        differ(
            &mut complaint,
            "packet",
            &hex(&shot.leaves),
            &hex(&packet.bytes),
        );
        compare(
            &mut complaint,
            &mut stamps,
            &mut kernel.tables4,
            &model.tables4,
            &after.tables4,
        );
        compare(
            &mut complaint,
            &mut stamps,
            &mut kernel.tables6,
            &model.tables6,
            &after.tables6,
        );
        if complaint.is_empty() {
            *model = after;
            return Ok(result);
        }
        complaint = format!("model: {result:?}\n{complaint}");
        if moments.is_empty() {
            let near = first.saturating_sub(STEP_NS)..last;
            moments.extend(
                stamps
                    .iter()
                    .filter(|stamp| near.contains(stamp) && !tried.contains(stamp)),
            );
        }
    }
    Err(complaint)
}

fn differ<T: PartialEq + Debug>(to: &mut String, what: &str, kernel: &T, model: &T) {
    if kernel != model {
        let _ = writeln!(to, "{what}: kernel {kernel:?}\n{what}: model  {model:?}");
    }
}

/// Returns how long bindings may be idle.
fn timeouts_ns() -> [u64; 5] {
    let Timeouts {
        tcp_established,
        tcp_transitory,
        udp,
        icmp,
        other,
    } = Timeouts::default();
    [tcp_established, tcp_transitory, udp, icmp, other]
        .map(|seconds| u64::from(seconds) * SECOND_NS)
}

/// Compares the entries that the packet changed in the model, and collects the kernel's times.
fn compare<A: Pod + Ord + KeyHash + Neutral + Debug>(
    to: &mut String,
    stamps: &mut BTreeSet<u64>,
    kernel: &mut KernelTables<A>,
    before: &ModelTables<A>,
    after: &ModelTables<A>,
) where
    FlowKey<A>: Pod,
    FragmentKey<A>: Pod,
    Pending<A>: Pod + Default,
    Flow<A>: Pod,
    Binding<A>: Pod,
{
    for key in changed(&before.flows, &after.flows) {
        let flow = kernel.flow(&key);
        stamps.extend(flow.map(|flow| flow.decided_ns));
        differ(to, "flow", &flow, &after.flows.get(&key).copied());
    }
    for index in changed(&before.pending, &after.pending) {
        let pending = kernel.pending(index);
        stamps.insert(pending.seen_ns);
        differ(to, "pending", &pending, &after.pending[&index]);
    }
    for key in changed(&before.bindings, &after.bindings) {
        let binding = kernel.binding(&key);
        // A binding tells when it was written by when it ends.
        let timeouts = timeouts_ns();
        let ends = binding.map(|binding| binding.expires_ns);
        stamps.extend(
            ends.iter()
                .flat_map(|end| timeouts.map(|idle| end.saturating_sub(idle))),
        );
        differ(to, "binding", &binding, &after.bindings.get(&key).copied());
    }
    for index in changed(&before.permits, &after.permits) {
        differ(
            to,
            "permits",
            &kernel.permits.get(index),
            &after.permits[&index],
        );
    }
    for index in changed(&before.tickets, &after.tickets) {
        differ(
            to,
            "tickets",
            &kernel.tickets.get(index),
            &after.tickets[&index],
        );
    }
    for key in changed(&before.fragments, &after.fragments) {
        differ(
            to,
            "fragment",
            &kernel.fragment(&key),
            &after.fragments.get(&key).copied(),
        );
    }
}

fn changed<K: Ord + Copy, V: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> BTreeSet<K> {
    let new = after
        .iter()
        .filter(|(key, value)| before.get(key) != Some(value));
    let gone = before.keys().filter(|key| !after.contains_key(key));
    new.map(|(key, _)| *key).chain(gone.copied()).collect()
}

/// Changes what the node knows, sometimes, as time and agents do.
fn disturb(random: &mut Random, model: &mut ModelNode, kernel: &mut Kernel) {
    if random.one_in(100) {
        change_node(random, model, kernel);
    }
    if random.one_in(15) {
        change_flow(random, &mut model.tables4, &mut kernel.tables4);
    }
    if random.one_in(15) {
        change_flow(random, &mut model.tables6, &mut kernel.tables6);
    }
    if random.one_in(20) {
        change_address(random, &mut model.tables4, &mut kernel.tables4);
        change_address(random, &mut model.tables6, &mut kernel.tables6);
    }
    if random.one_in(30) {
        age_pending(random, &mut model.tables4, &mut kernel.tables4);
        age_pending(random, &mut model.tables6, &mut kernel.tables6);
        end_notes(&mut model.tables4.permits, &mut kernel.tables4.permits);
        end_notes(&mut model.tables6.permits, &mut kernel.tables6.permits);
        end_notes(&mut model.tables4.tickets, &mut kernel.tables4.tickets);
        end_notes(&mut model.tables6.tickets, &mut kernel.tables6.tickets);
    }
}

fn change_node(random: &mut Random, model: &mut ModelNode, kernel: &mut Kernel) {
    let mut node = model.tables4.node.unwrap_or_else(party::node);
    if node.host_ifindex == 0 {
        node.host_ifindex = HOST.link;
    } else if random.one_in(20) {
        node.host_ifindex = 0;
    }
    node.generation += 1;
    (model.tables4.node, model.tables6.node) = (Some(node), Some(node));
    kernel.set_node(node);
}

/// Takes the masquerade address away, or brings it back, or ends bindings.
fn change_address<A: Pod + Ord + KeyHash + Neutral + Address>(
    random: &mut Random,
    model: &mut ModelTables<A>,
    kernel: &mut KernelTables<A>,
) where
    FlowKey<A>: Pod,
    FragmentKey<A>: Pod,
    Pending<A>: Pod + Default,
    Flow<A>: Pod,
    Binding<A>: Pod,
{
    let device = model.devices.values().next().expect("there is a device");
    let address = A::masquerade(device).expect("it masquerades");
    if model.local.remove(&address).is_some() && random.one_in(4) {
        kernel.set_local(&address, None);
        return;
    }
    model.local.insert(address, OUTSIDE);
    kernel.set_local(&address, Some(OUTSIDE));
    if model.bindings.is_empty() {
        return;
    }
    let nth = random.below(model.bindings.len());
    let (key, half) = model
        .bindings
        .iter_mut()
        .nth(nth)
        .expect("below the length");
    half.expires_ns = half.expires_ns.saturating_sub(241 * SECOND_NS);
    kernel.set_binding(key, half);
}

fn change_flow<A: Pod + Ord + KeyHash + Neutral>(
    random: &mut Random,
    model: &mut ModelTables<A>,
    kernel: &mut KernelTables<A>,
) where
    FlowKey<A>: Pod,
    FragmentKey<A>: Pod,
    Pending<A>: Pod + Default,
    Flow<A>: Pod,
    Binding<A>: Pod,
{
    if model.flows.is_empty() {
        return;
    }
    let nth = random.below(model.flows.len());
    let key = *model.flows.keys().nth(nth).expect("below the length");
    if random.one_in(5) {
        model.flows.remove(&key);
        kernel.remove_flow(&key);
        return;
    }
    let flow = model.flows.get_mut(&key).expect("just found");
    change(random, flow);
    kernel.set_flow(&key, flow);
}

fn change<A>(random: &mut Random, flow: &mut Flow<A>) {
    match random.below(6) {
        0 => flow.decided_ns = flow.decided_ns.saturating_sub(2 * SECOND_NS),
        1 => flow.decided_ns = flow.decided_ns.saturating_sub(61 * SECOND_NS),
        2 => flow.decided_ns = flow.decided_ns.saturating_sub(241 * SECOND_NS),
        3 => flow.zone = random.pick(&[A, B, C, HOST]).link,
        4 => flow.target = random.pick(&[A, B, C, HOST]).link,
        _ => flow.mtu = random.pick(&[68, 576, 1_500, u16::MAX]),
    }
}

fn age_pending<A: Pod + Ord + KeyHash + Neutral>(
    random: &mut Random,
    model: &mut ModelTables<A>,
    kernel: &mut KernelTables<A>,
) where
    FlowKey<A>: Pod,
    FragmentKey<A>: Pod,
    Pending<A>: Pod + Default,
    Flow<A>: Pod,
    Binding<A>: Pod,
{
    if model.pending.is_empty() {
        return;
    }
    let nth = random.below(model.pending.len());
    let (index, pending) = model.pending.iter_mut().nth(nth).expect("below the length");
    pending.seen_ns = pending.seen_ns.saturating_sub(61 * SECOND_NS);
    kernel.set_pending(*index, *pending);
}

/// Ends the notes of the first line that has some.
fn end_notes(model: &mut BTreeMap<u32, Line>, kernel: &mut Lines) {
    let used = |(_, line): &(&u32, &mut Line)| *line != &Line::default();
    let Some((index, line)) = model.iter_mut().find(used) else {
        return;
    };
    for note in line.notes.iter_mut().filter(|note| **note != 0) {
        *note = *note >> 32 << 32 | 1;
    }
    kernel.set(*index, *line);
}
