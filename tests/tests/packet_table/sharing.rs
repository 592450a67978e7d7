//! Endpoint-independent mapping, and who may use it from outside (RFC 4787 REQ-1, REQ-8).

use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, Transport};
use tests::party::{A, B, FAR, Family, Who};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::talk::{SECOND_NS, Talk, arrives_as, endpoint_independent, left};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(shared(family));
        rows.extend(filtered(family));
    }
    rows
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} sharing: {text}")
}

fn out(family: Family, text: &str, talk: &Talk) -> Row {
    super::talk::out(name(family, text), talk)
}

fn shared(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let elsewhere = talk.clone().toward(family.next_hop());
    let second = Talk::moved(family, &B, 49_152);
    let tcp = Talk::tcp(family, &A, 50_000, ACK);
    let given = |row: Row| {
        row.node(endpoint_independent).given(|state| {
            talk.bind_shared(state, (1, 0));
            talk.permit(state);
        })
    };
    let opens = |talk: &Talk, state: &mut Snapshot| {
        talk.wait(state);
        talk.bind_shared(state, (0, 0));
        talk.permit(state);
    };
    vec![
        left(out(family, "first packet", &talk), &talk)
            .node(endpoint_independent)
            .then(|state| opens(&talk, state)),
        given(left(
            out(family, "another destination", &elsewhere),
            &elsewhere,
        ))
        .then(|state| {
            elsewhere.wait(state);
            elsewhere.permit(state);
        }),
        given(left(
            out(family, "port of another endpoint", &second),
            &second,
        ))
        .then(|state| opens(&second, state)),
        given(left(
            out(family, "same port of another protocol", &tcp),
            &tcp,
        ))
        .then(|state| opens(&tcp, state)),
        left(
            out(
                family,
                "another destination has its own binding",
                &elsewhere,
            ),
            &elsewhere,
        )
        .given(|state| talk.bind(state, (1, 0)))
        .then(|state| {
            elsewhere.wait(state);
            elsewhere.bind(state, (0, 0));
        }),
    ]
}

fn filtered(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let stranger = talk.clone().toward(family.next_hop());
    let other_port = |to: std::net::IpAddr| {
        Frame::new(&FAR, &FAR, family, Transport::udp(99, 50_000, 20)).to(to)
    };
    let bare = |text: &str, frame: &Frame| {
        Row::from_netdev(name(family, text), frame.bytes())
            .node(endpoint_independent)
            .given(|state| talk.bind_shared(state, (1, 0)))
    };
    let came = |text: &str, frame: &Frame| bare(text, frame).given(|state| talk.permit(state));
    let waits = |state: &mut Snapshot, frame: &Frame| {
        let waiting = Waiting::outside(1, frame.bytes().len()).translated();
        state.pending(frame.tuple(), waiting);
    };
    let [outside, inside] = [family.outer(), A.ip(family)].map(other_port);
    vec![
        came("party that nobody spoke to", &stranger.answer).dropped(DropReason::NatFiltered),
        arrives_as(
            came(
                "party that nobody spoke to, without filter",
                &stranger.answer,
            ),
            &stranger.returned,
            &A,
        )
        .node(|node| {
            endpoint_independent(node);
            node.masquerade.unfiltered = 1;
        })
        .then(|state| waits(state, &stranger.answer)),
        arrives_as(came("another port of a known party", &outside), &inside, &A)
            .then(|state| waits(state, &outside)),
        came("permit that has ended", &talk.answer)
            .given(|state| talk.permit_for(state, -SECOND_NS))
            .dropped(DropReason::NatFiltered),
        arrives_as(
            bare(
                "flow that waits for its answer needs no permit",
                &talk.answer,
            ),
            &talk.returned,
            &A,
        )
        .given(|state| talk.wait(state))
        .then(|state| {
            talk.opened(state);
            talk.bind_shared(state, (1, 0));
        }),
        bare("permit of whoever had the address before", &outside)
            .given(|state| {
                let before = Who { link: B.link, ..A };
                state.permit(talk.sent.tuple(), &before, 1_000 * SECOND_NS);
            })
            .dropped(DropReason::NatFiltered),
        arrives_as(
            bare("known flow needs no permit", &talk.answer),
            &talk.returned,
            &A,
        )
        .given(|state| talk.flows(state))
        .then(|state| super::count(state, &talk.answer)),
        Row::from_netdev(
            name(family, "another port of a party with its own binding"),
            outside.bytes(),
        )
        .given(|state| talk.bind(state, (1, 0)))
        .dropped(DropReason::NatNoBinding),
    ]
}
