//! The fast path: one look-up, nothing else. Rows have no twin, which the slow path would make.

use datapath::hook::Hook;
use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, Transport, sent};
use tests::party::{A, B, EMPTY_LINK, Family, HOST};
use tests::row::Row;

use super::{count, segment};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        let transports = [
            ("TCP segment", Transport::tcp(40_000, 80, ACK)),
            ("UDP datagram", Transport::udp(40_000, 53, 100)),
            ("echo request", Transport::echo(family, false, 7)),
            ("echo reply", Transport::echo(family, true, 7)),
        ];
        for (name, transport) in transports {
            rows.push(between(
                family,
                name,
                &Frame::new(&A, &B, family, transport),
            ));
        }
        rows.extend(with_the_stack(family));
        rows.extend(refused(family));
    }
    rows
}

fn between(family: Family, name: &str, frame: &Frame) -> Row {
    Row::from_container(
        format!("{family:?}: {name} of a known flow"),
        &A,
        frame.bytes(),
    )
    .given(|state| {
        state.flow(frame.tuple(), A.flow_to(&B));
    })
    .routed_to(&B)
    .then(|state| count(state, frame))
}

fn with_the_stack(family: Family) -> Vec<Row> {
    let [out, back] = [(&A, &HOST), (&HOST, &A)].map(|(from, to)| segment(from, to, family));
    let far = Frame::to_address(&A, family.world(), Transport::tcp(40_000, 443, ACK)).hop_limit(1);
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::from_container(name("known flow to the stack"), &A, out.bytes())
            .given(|state| {
                state.flow(out.tuple(), A.flow_to(&HOST));
            })
            .to_stack()
            .then(|state| count(state, &out)),
        Row::from_container(
            name("known flow to the world is aged by the stack"),
            &A,
            far.bytes(),
        )
        .given(|state| {
            state.flow(far.tuple(), A.flow_to(&HOST));
        })
        .to_stack()
        .then(|state| count(state, &far)),
        Row::to_host(
            name("known flow arrives at the stack and is not counted twice"),
            out.bytes(),
        )
        .given(|state| {
            state.flow(out.tuple(), A.flow_to(&HOST));
        }),
        Row::from_host(name("known flow from the stack"), back.bytes())
            .given(|state| {
                state.flow(back.tuple(), HOST.flow_to(&A));
            })
            .delivered_to(&A)
            .then(|state| count(state, &back)),
        Row::to_container(
            name("known flow arrives at an endpoint and is not counted twice"),
            &A,
            sent(back.bytes(), A.mac, A.gateway_mac),
        )
        .given(|state| {
            state.flow(back.tuple(), HOST.flow_to(&A));
        }),
    ]
}

fn refused(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family);
    let known = |state: &mut tests::snapshot::Snapshot| {
        state.flow(frame.tuple(), A.flow_to(&B));
    };
    let row = |text: &str, link, frame: &Frame| {
        Row::new(
            format!("{family:?}: {text}"),
            Hook::FromContainer,
            link,
            frame.bytes(),
        )
    };
    vec![
        row(
            "known flow from a wrong address",
            A.link,
            &frame.clone().from_mac(B.mac),
        )
        .given(known)
        .dropped(DropReason::InvalidSourceMac),
        row(
            "known flow to a wrong address",
            A.link,
            &frame.clone().to_mac(B.mac),
        )
        .given(known)
        .dropped(DropReason::InvalidDestinationMac),
        row(
            "known flow to everybody",
            A.link,
            &frame.clone().to_mac([0xff; 6]),
        )
        .given(known)
        .dropped(DropReason::InvalidDestinationMac),
        row(
            "tuple of another's flow",
            B.link,
            &frame.clone().from_mac(B.mac).to_mac(B.gateway_mac),
        )
        .given(known)
        .dropped(DropReason::InvalidSourceIp),
        row("tuple of a flow from an empty link", EMPTY_LINK, &frame)
            .given(known)
            .dropped(DropReason::InvalidSourceIp),
    ]
}
