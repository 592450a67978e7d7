//! What the node's stack sends and receives through `cilium_host`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::OUTSIDE;
use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, SYN, Transport, sent};
use tests::party::{A, B, DEVICE_LINK, EMPTY_LINK, FAR, Family, HOST};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{connect, count, segment};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(from_stack(family));
        rows.extend(not_for_endpoints(family));
        rows.extend(handed_over(family));
        rows.extend(to_stack(family));
        rows.extend(to_endpoint(family));
        rows.extend(routed_to_the_link(family));
    }
    rows
}

fn from_stack(family: Family) -> Vec<Row> {
    let syn = Frame::new(&HOST, &A, family, Transport::tcp(40_000, 80, SYN));
    let last = syn.clone().hop_limit(1);
    let from_world = segment(&HOST, &A, family).source(family.world());
    let answer = Frame::new(&HOST, &A, family, Transport::tcp(80, 40_000, SYN | ACK));
    let pending = |name: &str, frame: &Frame| {
        Row::from_host(format!("{family:?}: {name}"), frame.bytes())
            .delivered_to(&A)
            .then(|state| {
                state.pending(frame.tuple(), Waiting::of(&HOST, 1, frame.bytes().len()));
            })
    };
    vec![
        pending("first packet of the stack waits", &syn),
        pending("stack has taken the hop already", &last),
        pending(
            "packet of the world waits with those of the stack",
            &from_world,
        ),
        Row::from_host(
            format!("{family:?}: stack's answer enters both halves"),
            answer.bytes(),
        )
        .given(|state| {
            state.pending(answer.tuple().reversed(), Waiting::of(&A, 1, 86));
        })
        .delivered_to(&A)
        .then(|state| {
            let mut twin = A.flow_to(&HOST);
            (twin.packets, twin.bytes) = (1, 86);
            state.flow(answer.tuple().reversed(), twin);
            state.flow(answer.tuple(), HOST.flow_to(&A));
            count(state, &answer);
        }),
    ]
}

fn not_for_endpoints(family: Family) -> Vec<Row> {
    let group: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(224, 0, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
    };
    let row = |text: &str, to: IpAddr| {
        let frame = Frame::to_address(&HOST, to, Transport::tcp(40_000, 80, ACK));
        Row::from_host(format!("{family:?}: {text}"), frame.bytes())
    };
    vec![
        row(
            "stack sends to an unused address of the node",
            family.unused(),
        )
        .dropped(DropReason::StaleOrUnroutable),
        row("stack sends elsewhere through cilium_host", family.world()),
        row("stack sends to the router's address", family.router()),
        row("stack sends to a group", group),
    ]
}

/// Packets of an endpoint that the stack forwards: they were handed to it as exceptions.
fn handed_over(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family)
        .from_mac(HOST.mac)
        .to_mac(HOST.gateway_mac);
    let itself = segment(&A, &A, family);
    let bytes = frame.bytes();
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::from_host(
            name("endpoint's packet without a flow from the stack"),
            bytes.clone(),
        )
        .dropped(DropReason::InvalidSourceIp),
        Row::from_host(
            name("endpoint's packet with a flow from the stack"),
            bytes.clone(),
        )
        .given(|state| connect(state, &frame, &A, &B))
        .delivered_to(&B),
        Row::from_host(
            name("packet from outside in the name of an endpoint with a flow"),
            bytes.clone(),
        )
        .came_by(EMPTY_LINK)
        .given(|state| connect(state, &frame, &A, &B))
        .dropped(DropReason::InvalidSourceIp),
        Row::from_host(
            name("packet of the host's own in the name of an endpoint with a flow"),
            bytes.clone(),
        )
        .came_by(0)
        .given(|state| connect(state, &frame, &A, &B))
        .dropped(DropReason::InvalidSourceIp),
        Row::from_host(
            name("endpoint's packet with a pending flow from the stack"),
            bytes.clone(),
        )
        .given(|state| {
            state.pending(frame.tuple(), Waiting::of(&A, 3, 300));
        })
        .delivered_to(&B),
        Row::from_host(
            name("endpoint's packet to itself from the stack"),
            itself.bytes(),
        )
        .dropped(DropReason::InvalidPacket),
        Row::to_container(
            name("endpoint's packet without a flow at a link"),
            &B,
            bytes.clone(),
        )
        .dropped(DropReason::InvalidSourceIp),
        Row::to_container(
            name("endpoint's packet with a flow at a link"),
            &B,
            bytes.clone(),
        )
        .given(|state| {
            connect(state, &frame, &A, &B);
            state.known(frame.tuple()).generation = 6;
        })
        .addressed_to(&B),
        Row::to_host(
            name("exception reaches the stack and its flow stays"),
            bytes.clone(),
        )
        .given(|state| connect(state, &frame, &A, &B)),
        Row::to_host(
            name("exception reaches the stack and its pending flow stays"),
            bytes,
        )
        .given(|state| {
            state.pending(frame.tuple(), Waiting::of(&A, 3, 300));
        }),
    ]
}

fn to_stack(family: Family) -> Vec<Row> {
    let frame = segment(&A, &HOST, family);
    let syn = Frame::new(&A, &HOST, family, Transport::tcp(40_000, 80, SYN));
    let [from_world, from_unused] =
        [family.world(), family.unused()].map(|source| frame.clone().source(source).bytes());
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::to_host(
            name("packet without a flow reaches the stack"),
            frame.bytes(),
        ),
        Row::to_host(
            name("pending flow reaches the stack and is not counted twice"),
            frame.bytes(),
        )
        .given(|state| {
            state.pending(frame.tuple(), Waiting::of(&A, 3, 300));
        }),
        Row::to_host(
            name("SYN of a flow reaches the stack and is not counted twice"),
            syn.bytes(),
        )
        .given(|state| connect(state, &syn, &A, &HOST)),
        Row::to_host(
            name("world's address does not come from an endpoint"),
            from_world,
        )
        .dropped(DropReason::InvalidSourceIp),
        Row::to_host(
            name("unused address does not come from an endpoint"),
            from_unused,
        )
        .dropped(DropReason::InvalidSourceIp),
    ]
}

fn to_endpoint(family: Family) -> Vec<Row> {
    let frame = segment(&HOST, &A, family);
    let handed = || sent(frame.bytes(), A.mac, A.gateway_mac);
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::to_container(
            name("packet without a flow reaches an endpoint"),
            &A,
            handed(),
        ),
        Row::to_container(
            name("pending flow reaches an endpoint and is not counted twice"),
            &A,
            handed(),
        )
        .given(|state| {
            state.pending(frame.tuple(), Waiting::of(&HOST, 3, 300));
        }),
        Row::to_container(
            name("packet at the link of another endpoint"),
            &B,
            frame.bytes(),
        )
        .given(|state| connect(state, &frame, &HOST, &A))
        .dropped(DropReason::StaleOrUnroutable),
        Row::to_container(
            name("packet for an address that left its link"),
            &A,
            Frame {
                destination: family.unused(),
                ..frame.clone()
            }
            .bytes(),
        )
        .dropped(DropReason::StaleOrUnroutable),
    ]
}

/// What the stack sends along the route of a single endpoint.
fn routed_to_the_link(family: Family) -> Vec<Row> {
    let frame = segment(&HOST, &A, family);
    // The link asks for no neighbours: it takes its own address for everybody's.
    let bytes = || sent(frame.bytes(), A.gateway_mac, A.gateway_mac);
    let stranger = segment(&HOST, &A, family).source(family.world());
    let neighbour = segment(&B, &A, family);
    let row = |text: &str, bytes: Vec<u8>| {
        Row::to_container(format!("{family:?}: directly: {text}"), &A, bytes)
    };
    vec![
        row("first packet waits and is addressed", bytes())
            .addressed_to(&A)
            .then(|state| {
                state.pending(frame.tuple(), Waiting::of(&HOST, 1, frame.bytes().len()));
            }),
        row("packet of a known flow is counted", bytes())
            .given(|state| connect(state, &frame, &HOST, &A))
            .addressed_to(&A)
            .then(|state| count(state, &frame)),
        row(
            "others may not use a flow",
            sent(neighbour.bytes(), A.gateway_mac, A.gateway_mac),
        )
        .came_by(DEVICE_LINK)
        .given(|state| connect(state, &neighbour, &B, &A))
        .dropped(DropReason::InvalidSourceIp),
        row(
            "packet of another link of the node",
            sent(stranger.bytes(), A.gateway_mac, A.gateway_mac),
        )
        .came_by(EMPTY_LINK)
        .addressed_to(&A)
        .then(|state| {
            let mut waiting = Waiting::of(&FAR, 1, stranger.bytes().len());
            waiting.zone = OUTSIDE;
            state.pending(stranger.tuple(), waiting);
        }),
    ]
}
