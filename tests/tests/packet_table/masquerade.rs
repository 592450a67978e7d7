//! Masquerade: what leaves for the world, what comes back, and what nobody asked for.

use std::net::{IpAddr, Ipv6Addr};

use datapath::abi::Stage;
use datapath::verdict::{DropReason, Verdict};
use tests::frame::{ACK, FIN, Frame, PSH, RST, SYN, Transport, Tuple, aged};
use tests::party::{A, B, DEVICE_LINK, FAR, FRIEND, Family, HOST, Who, next_hop};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::count;

const SECOND_NS: i64 = 1_000_000_000;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(outbound(family));
        rows.extend(carried_on(family));
        rows.extend(inbound(family));
        rows.extend(unasked(family));
        rows.extend(untranslated(family));
        rows.extend(through_stack(family));
        rows.extend(without_address(family));
    }
    rows
}

/// An endpoint's packet to somebody far away, from a port of the range.
pub(crate) fn sent(family: Family, from: &Who, port: u16, flags: u8) -> Frame {
    let transport = Transport::tcp(port, 80, flags);
    Frame::to_address(from, family.far(), transport)
}

/// The same as it leaves.
pub(crate) fn left(frame: &Frame, family: Family) -> Frame {
    Frame {
        source: family.outer(),
        ..frame.clone()
    }
}

/// Its answer, as it comes to the device.
fn answer(family: Family, port: u16, flags: u8) -> Frame {
    let transport = Transport::tcp(80, port, flags);
    Frame::new(&FAR, &FAR, family, transport).to(family.outer())
}

/// The answer as the endpoint gets it.
fn returned(frame: &Frame, to: IpAddr) -> Frame {
    Frame {
        destination: to,
        ..frame.clone()
    }
}

/// Both halves of a connection with the far party, `10` packets counted in each.
fn connect(state: &mut Snapshot, who: &Who, family: Family, port: u16) {
    let out = sent(family, who, port, ACK).tuple();
    let outer = left(&sent(family, who, port, ACK), family).tuple();
    let (mut there, mut back) = (who.flow_out(family), who.flow_in());
    for flow in [&mut there, &mut back] {
        (flow.packets, flow.bytes) = (10, 1_000);
    }
    state
        .translated(out, outer, there)
        .translated(outer.reversed(), out.reversed(), back)
        .binding((out, outer), who, (1, 1), 1_000 * SECOND_NS);
}

fn neighbour(family: Family) -> Verdict {
    let (address, number) = next_hop(family);
    Verdict::Neighbour(DEVICE_LINK, address, number)
}

/// The packet leaves by the device as this frame, routed.
pub(crate) fn leaves_as(row: Row, frame: &Frame, family: Family) -> Row {
    let bytes = frame.bytes();
    row.gets(neighbour(family)).leaves(|_| aged(bytes))
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} masquerade: {text}")
}

fn outbound(family: Family) -> Vec<Row> {
    let syn = sent(family, &A, 50_000, SYN);
    let outside = left(&syn, family);
    let taken = sent(family, &B, 50_000, SYN);
    let first = sent(family, &A, 40_000, SYN);
    let mut moved = left(&first, family);
    moved.transport = Transport::tcp(49_152, 80, SYN);
    let mut second = left(&taken, family);
    second.transport = Transport::tcp(49_152, 80, SYN);
    let row = |text: &str, from: &Who, frame: &Frame| {
        Row::from_container(name(family, text), from, frame.bytes())
    };
    let waits = |state: &mut Snapshot, who: &Who, frame: &Frame| {
        state.pending(
            frame.tuple(),
            Waiting::of(who, 1, frame.bytes().len()).translated(),
        );
    };
    vec![
        leaves_as(row("port of the range is kept", &A, &syn), &outside, family).then(|state| {
            waits(state, &A, &syn);
            state.binding((syn.tuple(), outside.tuple()), &A, (0, 0), 0);
        }),
        leaves_as(
            row("binding of whoever had the address before", &A, &syn),
            &outside,
            family,
        )
        .given(|state| {
            let before = Who { link: B.link, ..A };
            state.binding((syn.tuple(), outside.tuple()), &before, (1, 1), SECOND_NS);
        })
        .then(|state| {
            waits(state, &A, &syn);
            state.binding((syn.tuple(), outside.tuple()), &A, (0, 0), 0);
        }),
        leaves_as(
            row("port outside the range is not", &A, &first),
            &moved,
            family,
        )
        .then(|state| {
            waits(state, &A, &first);
            state.binding((first.tuple(), moved.tuple()), &A, (0, 0), 0);
        }),
        leaves_as(
            row("port of another endpoint is not taken", &B, &taken),
            &second,
            family,
        )
        .given(|state| {
            state.binding((syn.tuple(), outside.tuple()), &A, (1, 1), SECOND_NS);
        })
        .then(|state| {
            waits(state, &B, &taken);
            state.binding((taken.tuple(), second.tuple()), &B, (0, 0), 0);
        }),
        leaves_as(
            row("port of an ended binding is taken over", &B, &taken),
            &left(&taken, family),
            family,
        )
        .given(|state| {
            state.binding((syn.tuple(), outside.tuple()), &A, (1, 1), -SECOND_NS);
        })
        .then(|state| {
            *state = Snapshot::default();
            waits(state, &B, &taken);
            let outer = left(&taken, family).tuple();
            state.binding((taken.tuple(), outer), &B, (0, 0), 0);
        }),
    ]
}

fn carried_on(family: Family) -> Vec<Row> {
    let segment = sent(family, &A, 50_000, ACK | PSH);
    let outside = left(&segment, family);
    let row = |text: &str| Row::from_container(name(family, text), &A, segment.bytes());
    vec![
        leaves_as(row("known flow"), &left(&segment, family), family)
            .given(|state| connect(state, &A, family, 50_000))
            .then(|state| count(state, &segment)),
        leaves_as(
            row("flow that was evicted keeps its port"),
            &left(&segment, family),
            family,
        )
        .given(|state| {
            connect(state, &A, family, 50_000);
            state
                .no_flow(segment.tuple())
                .no_flow(outside.tuple().reversed());
        })
        .then(|state| {
            let waiting = Waiting::of(&A, 1, segment.bytes().len());
            state.pending(segment.tuple(), waiting.translated());
        }),
        row("flow whose address is gone is dropped once")
            .given(|state| {
                let gone = Tuple {
                    source: family.world(),
                    ..outside.tuple()
                };
                let mut flow = A.flow_out(family);
                flow.generation = 6;
                state.translated(segment.tuple(), gone, flow).translated(
                    gone.reversed(),
                    segment.tuple().reversed(),
                    A.flow_in(),
                );
                state.binding((segment.tuple(), gone), &A, (1, 1), SECOND_NS);
            })
            .dropped(DropReason::NatAddressGone)
            .then(|state| *state = Snapshot::default()),
    ]
}

fn inbound(family: Family) -> Vec<Row> {
    let back = answer(family, 50_000, ACK | PSH);
    let inside = returned(&back, A.ip(family));
    let syn = sent(family, &A, 50_000, SYN);
    let outside = left(&syn, family);
    let synack = answer(family, 50_000, SYN | ACK);
    let reset = answer(family, 50_000, RST);
    let fin = answer(family, 50_000, FIN | ACK);
    let row = |text: &str, frame: &Frame| Row::from_netdev(name(family, text), frame.bytes());
    let delivered = |row: Row, frame: &Frame| {
        row.leaves(|_| returned(frame, A.ip(family)).bytes())
            .routed_to(&A)
    };
    vec![
        row("answer of a known flow", &back)
            .given(|state| connect(state, &A, family, 50_000))
            .leaves(|_| inside.bytes())
            .routed_to(&A)
            .then(|state| count(state, &back)),
        delivered(
            row("first answer establishes the connection", &synack),
            &synack,
        )
        .given(|state| {
            state.pending(
                syn.tuple(),
                Waiting::of(&A, 1, syn.bytes().len()).translated(),
            );
            state.binding((syn.tuple(), outside.tuple()), &A, (0, 0), SECOND_NS);
        })
        .then(|state| {
            let len = u64::try_from(syn.bytes().len()).expect("fits");
            let mut there = A.flow_to(&HOST);
            there.begin(datapath::abi::Action::Stack);
            (there.receiver, there.target_identity) = (datapath::abi::OUTSIDE, 2);
            there.leaves = datapath::packet::MacPair::default();
            there.mtu = u16::MAX;
            there.set_stage(Stage::Established);
            (there.packets, there.bytes) = (1, len);
            let mut flow = A.flow_in();
            let synack_len = u64::try_from(synack.bytes().len()).expect("fits");
            (flow.packets, flow.bytes) = (1, synack_len);
            state
                .translated(outside.tuple().reversed(), syn.tuple().reversed(), flow)
                .translated(syn.tuple(), outside.tuple(), there)
                .binding((syn.tuple(), outside.tuple()), &A, (1, 1), 0);
        }),
        delivered(
            row(
                "reset refuses a connection, and does not establish it",
                &reset,
            ),
            &reset,
        )
        .given(|state| {
            state.pending(
                syn.tuple(),
                Waiting::of(&A, 1, syn.bytes().len()).translated(),
            );
            state.binding((syn.tuple(), outside.tuple()), &A, (0, 0), SECOND_NS);
        })
        .then(|state| {
            let len = |frame: &Frame| u64::try_from(frame.bytes().len()).expect("fits");
            let mut there = A.flow_to(&HOST);
            there.begin(datapath::abi::Action::Stack);
            (there.receiver, there.target_identity) = (datapath::abi::OUTSIDE, 2);
            there.leaves = datapath::packet::MacPair::default();
            there.mtu = u16::MAX;
            (there.packets, there.bytes) = (1, len(&syn));
            let mut flow = A.flow_in();
            flow.set_stage(Stage::Opening);
            (flow.packets, flow.bytes) = (1, len(&reset));
            state
                .translated(outside.tuple().reversed(), syn.tuple().reversed(), flow)
                .translated(syn.tuple(), outside.tuple(), there)
                .binding((syn.tuple(), outside.tuple()), &A, (1, 0), 0);
        }),
        delivered(row("reset from outside changes nothing", &reset), &reset)
            .given(|state| connect(state, &A, family, 50_000))
            .then(|state| count(state, &reset)),
        delivered(row("end from outside ends one side", &fin), &fin)
            .given(|state| connect(state, &A, family, 50_000))
            .then(|state| {
                count(state, &fin);
                state.known(fin.tuple()).set_stage(Stage::Ended);
                state.known(syn.tuple()).set_stage(Stage::PeerEnded);
            }),
    ]
}

fn unasked(family: Family) -> Vec<Row> {
    let back = answer(family, 50_000, ACK | PSH);
    let row = |text: &str, frame: &Frame| Row::from_netdev(name(family, text), frame.bytes());
    let mut spoofed = back.clone();
    spoofed.source = B.ip(family);
    let own = answer(family, 40_000, ACK | PSH);
    let from = |source| Frame {
        source,
        ..own.clone()
    };
    let loopback = match family {
        Family::V4 => IpAddr::from([127, 0, 0, 1]),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    vec![
        row("port of the range that nobody has", &back).dropped(DropReason::NatNoBinding),
        row(
            "SYN to a port that nobody has",
            &answer(family, 50_000, SYN),
        )
        .dropped(DropReason::NatNoBinding),
        row(
            "port that the range leaves to the node",
            &answer(family, 40_000, SYN),
        ),
        row("segment of a connection of the node's own", &own),
        row("inside source speaks with the node", &from(B.ip(family)))
            .dropped(DropReason::InvalidSourceIp),
        row(
            "source that is not routed speaks with the node",
            &from(loopback),
        ),
        row(
            "the node's own address speaks with the node",
            &from(family.outer()),
        )
        .dropped(DropReason::InvalidSourceIp),
        row("binding that has ended", &back)
            .given(|state| {
                let syn = sent(family, &A, 50_000, SYN);
                let outside = left(&syn, family);
                state.binding((syn.tuple(), outside.tuple()), &A, (1, 1), -SECOND_NS);
            })
            .dropped(DropReason::NatNoBinding),
        row("inside source from outside", &spoofed).dropped(DropReason::InvalidSourceIp),
        row(
            "packet to an endpoint's own address",
            &Frame::new(&FAR, &A, family, Transport::tcp(80, 22, SYN)),
        )
        .routed_to(&A)
        .then(|state| {
            let frame = Frame::new(&FAR, &A, family, Transport::tcp(80, 22, SYN));
            state.pending(frame.tuple(), Waiting::outside(1, frame.bytes().len()));
        }),
        row(
            "packet to an address of somebody else",
            &back.clone().to(family.friend()),
        ),
    ]
}

fn untranslated(family: Family) -> Vec<Row> {
    let syn = Frame::to_address(&A, family.friend(), Transport::tcp(50_000, 80, SYN));
    let row = Row::from_container(name(family, "excluded destination"), &A, syn.bytes());
    let back = Frame::new(&FRIEND, &A, family, Transport::tcp(80, 50_000, SYN | ACK));
    vec![
        leaves_as(row, &syn, family).then(|state| {
            state.pending(syn.tuple(), Waiting::of(&A, 1, syn.bytes().len()));
        }),
        Row::from_netdev(
            name(family, "answer of an excluded destination"),
            back.bytes(),
        )
        .given(|state| {
            let mut there = A.flow_out(family);
            there.target_identity = tests::party::FRIENDS;
            let mut here = A.flow_in();
            here.source_identity = tests::party::FRIENDS;
            state.flow(syn.tuple(), there).flow(back.tuple(), here);
        })
        .routed_to(&A)
        .then(|state| count(state, &back)),
    ]
}

fn through_stack(family: Family) -> Vec<Row> {
    let segment = sent(family, &A, 50_000, ACK | PSH);
    let last = segment.clone().hop_limit(1);
    let own = Frame::to_address(&HOST, family.far(), Transport::tcp(50_000, 80, ACK));
    let own = Frame {
        source: family.outer(),
        ..own
    };
    let leaving = |text: &str, frame: &Frame| Row::to_netdev(name(family, text), frame.bytes());
    vec![
        Row::from_container(
            name(family, "last hop goes to the stack as it came"),
            &A,
            last.bytes(),
        )
        .given(|state| connect(state, &A, family, 50_000))
        .to_stack()
        .then(|state| count(state, &last)),
        leaving("what the stack sends on is translated", &segment)
            .given(|state| connect(state, &A, family, 50_000))
            .leaves(|_| left(&segment, family).bytes()),
        leaving("node's own packets are left alone", &own),
        leaving(
            "endpoint's address that the pipeline did not hand over",
            &segment,
        )
        .came_by(tests::party::EMPTY_LINK)
        .dropped(DropReason::InvalidSourceIp),
    ]
}

/// A device that masquerades and has lost its address lets nobody out under his own.
fn without_address(family: Family) -> Vec<Row> {
    let syn = sent(family, &A, 50_000, SYN);
    let friend = Frame::to_address(&A, family.friend(), Transport::tcp(50_000, 80, SYN));
    let row = |text: &str, frame: &Frame| {
        Row::from_container(name(family, text), &A, frame.bytes()).without_masquerade_address()
    };
    vec![
        row("device without an address", &syn).dropped(DropReason::NatAddressGone),
        leaves_as(
            row("excluded destination needs no address", &friend),
            &friend,
            family,
        )
        .then(|state| {
            state.pending(friend.tuple(), Waiting::of(&A, 1, friend.bytes().len()));
        }),
    ]
}
