//! ICMP errors on their way out, by endpoints and by the node, about what came from outside
//! (RFC 5508 REQ-5).

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport};
use tests::party::{A, B, Family, HOST};
use tests::row::Row;

use super::talk::{Talk, endpoint_independent};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(of_endpoints(family));
        rows.extend(of_the_node(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} outward error: {text}")
}

/// A conversation whose port is translated.
fn talk(family: Family) -> Talk {
    let udp = |from, to| Transport::udp(from, to, 20);
    Talk::new(
        family,
        &A,
        [
            udp(5_000, 53),
            udp(50_001, 53),
            udp(53, 50_001),
            udp(53, 5_000),
        ],
    )
}

fn unreachable(family: Family, quoted: &Frame) -> Transport {
    let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
    Transport::error(family, kind, code, &quoted.quote())
}

fn of_endpoints(family: Family) -> Vec<Row> {
    let talk = talk(family);
    let sent = Frame::to_address(&A, family.far(), unreachable(family, &talk.returned));
    let left = Frame {
        source: family.outer(),
        transport: unreachable(family, &talk.answer),
        ..sent.clone()
    };
    let theirs = Frame::to_address(&B, family.far(), unreachable(family, &talk.returned));
    let enters = |text: &str| Row::from_container(name(family, text), &A, sent.bytes());
    let leaves = |text: &str| Row::to_netdev(name(family, text), sent.bytes());
    vec![
        enters("endpoint's enters the stack as it came")
            .given(|state| talk.connect(state))
            .to_stack(),
        enters("endpoint's about nothing known").dropped(DropReason::UnrelatedIcmpError),
        Row::from_container(
            name(family, "endpoint's about a packet to somebody else"),
            &B,
            theirs.bytes(),
        )
        .given(|state| talk.connect(state))
        .dropped(DropReason::UnrelatedIcmpError),
        Row::to_netdev(
            name(
                family,
                "endpoint's about a packet to somebody else does not leave",
            ),
            theirs.bytes(),
        )
        .given(|state| talk.connect(state))
        .dropped(DropReason::UnrelatedIcmpError),
        leaves("endpoint's leaves translated")
            .given(|state| talk.connect(state))
            .leaves(|_| left.bytes()),
        leaves("endpoint's about a flow with a binding only")
            .given(|state| talk.bind(state, (1, 0)))
            .leaves(|_| left.bytes()),
        leaves("endpoint's about a shared binding")
            .node(endpoint_independent)
            .given(|state| talk.bind_shared(state, (1, 0)))
            .leaves(|_| left.bytes()),
        leaves("endpoint's about nothing known does not leave")
            .dropped(DropReason::UnrelatedIcmpError),
    ]
}

fn of_the_node(family: Family) -> Vec<Row> {
    let talk = talk(family);
    let error = |quoted: &Frame| {
        Frame::to_address(&HOST, family.far(), unreachable(family, quoted)).source(family.outer())
    };
    let leaves = |text: &str, frame: &Frame| Row::to_netdev(name(family, text), frame.bytes());
    let own = Frame {
        transport: Transport::udp(53, 40_000, 20),
        ..talk.answer.clone()
    };
    vec![
        leaves("node's shows no inside address", &error(&talk.returned))
            .given(|state| talk.connect(state))
            .leaves(|_| error(&talk.answer).bytes()),
        leaves(
            "node's about a flow with a binding only",
            &error(&talk.returned),
        )
        .given(|state| talk.bind(state, (1, 0)))
        .leaves(|_| error(&talk.answer).bytes()),
        leaves("node's about its own packets", &error(&own)),
        leaves("node's about nothing known", &error(&talk.answer)),
    ]
}
