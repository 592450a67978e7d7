//! What has ended makes room for who finds none, with no agent running.

use datapath::verdict::{DropReason, Verdict};
use tests::frame::{Frame, SYN, aged};
use tests::party::{A, B, DEVICE_LINK, Family, PORTS, Who, next_hop};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::masquerade::{left, sent};

const SECOND_NS: i64 = 1_000_000_000;

/// Range of two ports.
const NARROW: [u16; 2] = [50_000, 50_001];

pub(crate) fn rows() -> Vec<Row> {
    Family::BOTH.into_iter().flat_map(of).collect()
}

fn of(family: Family) -> Vec<Row> {
    let syn = sent(family, &A, 50_000, SYN);
    let row = |text: &str| {
        let name = format!("{family:?} sweep: {text}");
        Row::from_container(name, &A, syn.bytes())
    };
    let leaves = |row: Row| {
        let (address, number) = next_hop(family);
        let bytes = left(&syn, family).bytes();
        row.gets(Verdict::Neighbour(DEVICE_LINK, address, number))
            .leaves(|_| aged(bytes))
    };
    vec![
        leaves(row(
            "endpoint at its limit gets a port for one that has ended",
        ))
        .node(|node| node.masquerade.max_ports = 2)
        .given(|state| {
            bind(state, &A, family, 50_010, SECOND_NS);
            bind(state, &A, family, 50_011, -SECOND_NS);
            bind(state, &B, family, 50_012, SECOND_NS);
            bind(state, &B, family, 50_013, -SECOND_NS);
        })
        .then(|state| {
            *state = Snapshot::default();
            bind(state, &A, family, 50_010, 0);
            bind(state, &B, family, 50_012, 0);
            opened(state, &syn, family);
        }),
        row("endpoint at its limit without one that has ended is refused")
            .node(|node| node.masquerade.max_ports = 2)
            .given(|state| {
                bind(state, &A, family, 50_010, SECOND_NS);
                bind(state, &A, family, 50_011, SECOND_NS);
                bind(state, &B, family, 50_012, -SECOND_NS);
            })
            .dropped(DropReason::NatLimit)
            .then(|state| {
                *state = Snapshot::default();
                bind(state, &A, family, 50_010, 0);
                bind(state, &A, family, 50_011, 0);
            }),
        row("range that is taken stays taken, and what ended outside it goes")
            .node(|node| node.masquerade.ports = NARROW)
            .given(|state| {
                bind(state, &B, family, 50_000, SECOND_NS);
                bind(state, &B, family, 50_001, SECOND_NS);
                bind(state, &B, family, PORTS[1], -SECOND_NS);
            })
            .dropped(DropReason::NatExhausted)
            .then(|state| {
                *state = Snapshot::default();
                bind(state, &B, family, 50_000, 0);
                bind(state, &B, family, 50_001, 0);
            }),
    ]
}

/// An endpoint's flow to the far party, with its own port outside.
fn bind(state: &mut Snapshot, who: &Who, family: Family, port: u16, left_ns: i64) {
    let frame = sent(family, who, port, SYN);
    let outer = left(&frame, family);
    state.binding((frame.tuple(), outer.tuple()), who, (1, 1), left_ns);
}

/// What the first packet of a flow leaves behind.
fn opened(state: &mut Snapshot, syn: &Frame, family: Family) {
    let waiting = Waiting::of(&A, 1, syn.bytes().len()).translated();
    state.pending(syn.tuple(), waiting);
    let outer = left(syn, family).tuple();
    state.binding((syn.tuple(), outer), &A, (0, 0), 0);
}
