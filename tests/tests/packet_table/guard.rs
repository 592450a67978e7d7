//! Policy about the node itself: what it sends and gets by a device.

use datapath::abi::{
    Action, Decision, EGRESS, INGRESS, OUTSIDE, PolicyEntry, PolicyKey, Ruling, Sides, Stage,
    Subject,
};
use datapath::packet::MacPair;
use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, SYN, Transport};
use tests::party::{AnyFlow, DEVICE_LINK, DEVICE_MAC, FAR, Family, HOST, NEXT_HOP_MAC};
use tests::row::Row;
use tests::snapshot::Waiting;

const POLICY: u32 = 1;
const ALLOWS: u16 = 5;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(inward(family));
        rows.extend(outward(family));
        rows.extend(spared(family));
        rows.extend(hidden(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} guarded node: {text}")
}

const ALLOWED: Ruling = Ruling::new(Decision::Allow, ALLOWS);
const DENIED: Ruling = Ruling::new(Decision::Deny, 0);
const REJECTED: Ruling = Ruling::new(Decision::Reject, 0);

/// Gives the node a policy, which lets in and out what these rulings say.
fn guard(row: Row, ingress: Ruling, egress: Ruling) -> Row {
    row.node(|node| node.guards = 2).rule(move |model| {
        model.add_subject(
            &HOST.party(),
            Subject {
                policy: POLICY,
                ..HOST.subject()
            },
        );
        for (direction, ruling) in [(INGRESS, ingress), (EGRESS, egress)] {
            let key = PolicyKey {
                policy: POLICY,
                direction,
                identity: 0,
            };
            model.add_entry(key, Sides::both(PolicyEntry { row: 0, ruling }));
        }
    })
}

/// A segment from the world to the node.
fn comes(family: Family, flags: u8) -> Frame {
    let transport = Transport::tcp(40_000, 22, flags);
    let frame = Frame::new(&FAR, &FAR, family, transport).to(family.outer());
    frame.to_mac(DEVICE_MAC).from_mac(NEXT_HOP_MAC)
}

/// A segment of the node to the world.
fn goes(family: Family, flags: u8) -> Frame {
    let transport = Transport::tcp(22, 40_000, flags);
    Frame::new(&FAR, &FAR, family, transport).source(family.outer())
}

/// The decision about what the node sends to the world.
fn away() -> AnyFlow {
    let mut flow = HOST.flow_to(&HOST);
    flow.begin(Action::Stack);
    flow.set_stage(Stage::Established);
    (flow.receiver, flow.target_identity, flow.mtu) = (OUTSIDE, 2, u16::MAX);
    flow.leaves = MacPair::default();
    flow
}

/// The decision about what the world sends to the node.
fn home() -> AnyFlow {
    let mut flow = HOST.flow_to(&HOST);
    flow.begin(Action::Host);
    flow.set_stage(Stage::Established);
    (flow.zone, flow.source_identity) = (OUTSIDE, 2);
    flow.arrives = MacPair::default();
    flow
}

fn enters(family: Family, text: &str, frame: &Frame) -> Row {
    Row::from_netdev(name(family, text), frame.bytes())
}

fn leaves(family: Family, text: &str, frame: &Frame) -> Row {
    Row::to_netdev(name(family, text), frame.bytes()).came_by(0)
}

fn inward(family: Family) -> Vec<Row> {
    let syn = comes(family, SYN);
    let answer = goes(family, SYN | ACK);
    let waits = |row: Row| {
        row.then(|state| {
            let waiting = Waiting::outside(1, syn.bytes().len());
            state.pending(syn.tuple(), waiting);
        })
    };
    vec![
        guard(enters(family, "nobody gets in", &syn), DENIED, ALLOWED)
            .dropped(DropReason::PolicyDenied),
        guard(
            enters(family, "nobody is told either", &syn),
            REJECTED,
            ALLOWED,
        )
        .node(|node| node.net_ifindex = HOST.link + 1)
        .dropped(DropReason::PolicyDenied),
        waits(guard(
            enters(family, "who may gets in", &syn),
            ALLOWED,
            DENIED,
        ))
        .term(ALLOWS, 1),
        guard(
            leaves(family, "answers need no rule", &answer),
            ALLOWED,
            DENIED,
        )
        .given(|state| {
            state.pending(syn.tuple(), Waiting::outside(1, syn.bytes().len()));
        })
        .then(|state| {
            let (mut there, mut back) = (away(), home());
            (there.packets, there.bytes) = (1, answer.bytes().len() as u64);
            (back.packets, back.bytes) = (1, syn.bytes().len() as u64);
            state.flow(answer.tuple(), there).flow(syn.tuple(), back);
        })
        .term(ALLOWS, 1),
        enters(family, "without a policy everybody gets in", &syn),
    ]
}

fn outward(family: Family) -> Vec<Row> {
    let syn = goes(family, SYN);
    let answer = comes(family, ACK);
    vec![
        guard(leaves(family, "nothing leaves", &syn), ALLOWED, DENIED)
            .dropped(DropReason::PolicyDenied),
        guard(leaves(family, "what may leaves", &syn), DENIED, ALLOWED)
            .then(|state| {
                let mut there = away();
                there.set_stage(Stage::Opening);
                let mut back = home();
                back.set_stage(Stage::Opening);
                (there.packets, there.bytes) = (1, syn.bytes().len() as u64);
                state.flow(syn.tuple(), there).flow(answer.tuple(), back);
            })
            .term(ALLOWS, 1),
        guard(
            enters(family, "its answers come in", &answer),
            DENIED,
            ALLOWED,
        )
        .given(|state| {
            state.flow(syn.tuple(), away()).flow(answer.tuple(), home());
        })
        .then(|state| super::count(state, &answer)),
        leaves(family, "without a policy everything leaves", &syn),
        guard(
            Row::to_netdev(name(family, "what it forwards is not its own"), syn.bytes())
                .came_by(DEVICE_LINK + 1),
            DENIED,
            DENIED,
        ),
    ]
}

/// What a node cannot do without.
fn spared(family: Family) -> Vec<Row> {
    let closed = |row| guard(row, DENIED, DENIED);
    let mut rows = Vec::new();
    let (server, client) = match family {
        Family::V4 => (67, 68),
        Family::V6 => (547, 546),
    };
    let offer =
        Frame::new(&FAR, &FAR, family, Transport::udp(server, client, 300)).to(family.outer());
    rows.push(closed(enters(family, "DHCP comes in", &offer)));
    let request =
        Frame::new(&FAR, &FAR, family, Transport::udp(client, server, 300)).source(family.outer());
    rows.push(closed(leaves(family, "DHCP goes out", &request)));
    if family == Family::V6 {
        for kind in [133, 134, 135, 136] {
            let message = Transport::icmp(family, kind, 0, &[0; 20]);
            let frame = Frame::new(&FAR, &FAR, family, message).to(family.outer());
            rows.push(closed(enters(
                family,
                &format!("neighbour message {kind} comes in"),
                &frame,
            )));
        }
    }
    let unreachable = Transport::error(family, if family == Family::V4 { 3 } else { 1 }, 1, &{
        goes(family, ACK).quote()
    });
    let error = Frame::new(&FAR, &FAR, family, unreachable).to(family.outer());
    rows.push(closed(enters(family, "errors come in", &error)));
    rows
}

/// What could hide what it is.
fn hidden(family: Family) -> Vec<Row> {
    let closed = |row| guard(row, DENIED, ALLOWED);
    let syn = comes(family, SYN);
    let tiny = syn.clone().id(7).part(0..8);
    let later = syn.clone().id(7).part(32..42);
    let mut cut = syn.bytes();
    cut.truncate(cut.len() - 30);
    vec![
        closed(enters(family, "fragment that hides its ports", &tiny))
            .dropped(DropReason::TinyFragment),
        closed(enters(family, "fragment alone is nothing", &later)),
        closed(Row::from_netdev(
            name(family, "header that is cut off"),
            cut,
        ))
        .dropped(DropReason::InvalidPacket),
        closed(enters(family, "tag that names no VLAN", &syn).priority_beside())
            .dropped(DropReason::PolicyDenied),
        closed(enters(family, "frame of a VLAN is its link's", &syn).vlan_beside()),
        closed(
            Row::from_netdev(
                name(family, "tags in a tag that names no VLAN"),
                within(&syn),
            )
            .priority_beside(),
        )
        .dropped(DropReason::Vlan),
    ]
}

/// Returns a frame with another tag behind its addresses.
fn within(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes.splice(12..12, [0x81, 0x00, 0x00, 0x00]);
    bytes
}
