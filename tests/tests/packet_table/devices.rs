//! The hooks of devices: what is none of ours passes, what is ours is found again.

use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, Transport};
use tests::party::{A, DEVICE_MAC, Family, HOST, NEXT_HOP_MAC};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::talk::{Talk, endpoint_independent};

const VLAN: [u8; 4] = [0x81, 0x00, 0x00, 0x05];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = arp();
    rows.extend(discovery());
    for family in Family::BOTH {
        rows.extend(of_others(family));
        rows.extend(given_back(family));
        rows.extend(on_its_way(family));
        rows.extend(without_way(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} device: {text}")
}

fn arp() -> Vec<Row> {
    let mut request = [&[0xff; 6][..], &NEXT_HOP_MAC, &[8, 6]].concat();
    request.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend(NEXT_HOP_MAC);
    request.extend([203, 0, 113, 1, 0, 0, 0, 0, 0, 0, 203, 0, 113, 2]);
    vec![
        Row::from_netdev("device: ARP comes in", request.clone()),
        Row::to_netdev("device: ARP goes out", request),
    ]
}

/// The node's own neighbour messages.
fn discovery() -> Vec<Row> {
    let family = Family::V6;
    let to_all = |last| std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, last);
    let link_local = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let own = |to: std::net::Ipv6Addr, kind, body: &[u8]| {
        Frame::to_address(&HOST, to.into(), Transport::icmp(family, kind, 0, body))
            .source(link_local)
            .hop_limit(255)
            .from_mac(DEVICE_MAC)
            .bytes()
    };
    vec![
        Row::to_netdev(
            "device: node asks for routers",
            own(to_all(2), 133, &[0; 4]),
        ),
        Row::to_netdev("device: node is a router", own(to_all(1), 134, &[0; 12])),
        Row::to_netdev(
            "device: node asks for a neighbour",
            own(to_all(1), 135, &[0; 20]),
        ),
        Row::to_netdev("device: node redirects", own(to_all(1), 137, &[0; 36])),
        Row::to_netdev(
            "device: node reports a group",
            own(to_all(0x16), 131, &[0; 20]),
        ),
    ]
}

fn of_others(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let known = |row: Row| row.given(|state| talk.connect(state));
    let tagged = |frame: &Frame| {
        let mut bytes = frame.bytes();
        bytes.splice(12..12, VLAN);
        bytes
    };
    vec![
        known(Row::from_netdev(
            name(family, "tagged packet comes in"),
            tagged(&talk.answer),
        )),
        known(Row::to_netdev(
            name(family, "tagged packet goes out"),
            tagged(&talk.sent),
        )),
        known(Row::from_netdev(
            name(family, "packet with a tag beside it comes in"),
            talk.answer.bytes(),
        ))
        .vlan_beside(),
        known(Row::to_netdev(
            name(family, "packet with a tag beside it goes out"),
            talk.sent.bytes(),
        ))
        .vlan_beside(),
        known(Row::from_netdev(
            name(family, "packet for somebody else"),
            talk.answer.bytes(),
        ))
        .for_somebody_else(),
    ]
}

/// The node speaks from a port of the range.
fn given_back(family: Family) -> Vec<Row> {
    let ends = [
        Transport::tcp(50_000, 80, ACK),
        Transport::tcp(80, 50_000, ACK),
    ];
    let talk = Talk::kept(family, &A, ends);
    let datagrams = Talk::udp(family, &A, 50_000);
    let own = |transport| Frame::to_address(&HOST, family.far(), transport).source(family.outer());
    let same = own(Transport::tcp(50_000, 80, ACK));
    let elsewhere = same.clone().to(family.next_hop());
    let datagram = own(Transport::udp(50_000, 53, 20));
    let row = |text: &str, frame: &Frame| Row::to_netdev(name(family, text), frame.bytes());
    let known = |row: Row| row.given(|state| talk.connect(state));
    vec![
        known(row("node takes its port back", &same)).then(|state| *state = Snapshot::default()),
        known(row(
            "node speaks from the port to another party",
            &elsewhere,
        )),
        known(row(
            "node speaks from the port with another protocol",
            &datagram,
        )),
        row("node takes a shared port back", &elsewhere)
            .node(endpoint_independent)
            .given(|state| talk.bind_shared(state, (1, 0)))
            .then(|state| *state = Snapshot::default()),
        row("tunnel of the node takes nothing", &datagram).given(|state| datagrams.connect(state)),
    ]
}

/// What `from_container` sent past the stack.
fn on_its_way(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let friend = Frame::to_address(&A, family.friend(), Transport::udp(50_000, 53, 20));
    let passes = |text: &str, frame: &Frame| {
        Row::to_netdev(name(family, text), frame.bytes()).came_by(A.link)
    };
    vec![
        passes("masqueraded packet", &talk.left).given(|state| talk.connect(state)),
        passes("packet of a known flow that is not masqueraded", &friend).given(|state| {
            let mut flow = A.flow_out(family);
            flow.target_identity = tests::party::FRIENDS;
            state.flow(friend.tuple(), flow);
        }),
        passes("first packet that is not masqueraded", &friend).given(|state| {
            let waiting = Waiting::of(&A, 1, friend.bytes().len());
            state.pending(friend.tuple(), waiting);
        }),
        passes("packet by another endpoint's link", &friend)
            .came_by(tests::party::B.link)
            .dropped(DropReason::InvalidSourceIp),
    ]
}

/// What the device's next hop cannot be found for.
fn without_way(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let silent = match family {
        Family::V4 => [203, 0, 113, 77].into(),
        Family::V6 => std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x77).into(),
    };
    let unresolved = talk.clone().toward(silent);
    let unrouted = talk.toward(family.world());
    let sends = |text: &str, talk: &Talk| {
        Row::from_container(name(family, text), &A, talk.sent.bytes()).to_stack()
    };
    vec![
        sends("next hop that has not been heard of", &unresolved).then(|state| {
            unresolved.wait(state);
            unresolved.bind(state, (0, 0));
        }),
        Row::to_netdev(
            name(family, "stack has found the next hop"),
            unresolved.sent.bytes(),
        )
        .given(|state| {
            unresolved.wait(state);
            unresolved.bind(state, (0, 0));
        })
        .leaves(|_| unresolved.left.bytes()),
        sends("destination without a route", &unrouted).then(|state| {
            let waiting = Waiting::of(&A, 1, unrouted.sent.bytes().len());
            state.pending(unrouted.sent.tuple(), waiting);
        }),
        sends("route that is gone", &unrouted)
            .given(|state| {
                unrouted.connect(state);
                unrouted.forget_decisions(state);
            })
            .then(|state| {
                let [sent, answer] = [unrouted.sent.tuple(), unrouted.answer.tuple()];
                state.known(answer).generation = 7;
                let flow = state.known(sent);
                let (out, sums) = (flow.out, flow.sums);
                *flow = A.flow_to(&HOST);
                flow.begin(datapath::abi::Action::Stack);
                flow.set_stage(datapath::abi::Stage::Established);
                flow.set_translation(out, sums);
                (flow.receiver, flow.target_identity) = (datapath::abi::OUTSIDE, 2);
                (flow.leaves, flow.mtu) = (datapath::packet::MacPair::default(), u16::MAX);
                let len = u64::try_from(unrouted.sent.bytes().len()).expect("fits");
                (flow.packets, flow.bytes) = (11, 1_000 + len);
            }),
    ]
}
