//! Legacy routing: the node's stack forwards everything, the hooks translate.

use datapath::abi::{Action, OUTSIDE, Stage};
use datapath::packet::MacPair;
use datapath::verdict::DropReason;
use tests::frame::Frame;
use tests::party::{A, AnyFlow, B, DEVICE_LINK, Family, HOST};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::talk::{SECOND_NS, Talk};
use super::{connect, count, segment};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(outward(family));
        rows.extend(inward(family));
        rows.extend(between(family));
    }
    rows.into_iter()
        .map(|row| row.node(|node| node.legacy_routing = 1))
        .collect()
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} legacy: {text}")
}

/// The decision about what `a` sends outside.
fn flow_out() -> AnyFlow {
    let mut flow = A.flow_to(&HOST);
    flow.begin(Action::Stack);
    flow.set_stage(Stage::Established);
    (flow.receiver, flow.target_identity) = (OUTSIDE, 2);
    (flow.leaves, flow.mtu) = (MacPair::default(), tests::party::MTU);
    (flow.packets, flow.bytes) = (10, 1_000);
    flow
}

/// The decision about what `a` gets from outside.
fn flow_in() -> AnyFlow {
    let mut flow = A.flow_in();
    flow.set_through_stack();
    (flow.packets, flow.bytes) = (10, 1_000);
    flow
}

fn known(talk: &Talk, state: &mut Snapshot) {
    let (sent, answer) = (talk.sent.tuple(), talk.answer.tuple());
    state
        .translated(sent, talk.left.tuple(), flow_out())
        .translated(answer, talk.returned.tuple(), flow_in());
    talk.bind(state, (1, 0));
}

/// The half that the stack's packets to the endpoint are known by.
fn inside(talk: &Talk, state: &mut Snapshot) {
    let mut flow = flow_in();
    (flow.packets, flow.bytes) = (0, 0);
    state.flow(talk.returned.tuple(), flow);
}

fn outward(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let enters = |text: &str| Row::from_container(name(family, text), &A, talk.sent.bytes());
    let leaves = |text: &str| {
        Row::to_netdev(name(family, text), talk.sent.bytes()).leaves(|_| talk.left.bytes())
    };
    let refused = |text: &str| {
        Row::to_netdev(name(family, text), talk.sent.bytes())
            .given(|state| talk.bind(state, (0, 0)))
            .dropped(DropReason::InvalidSourceIp)
    };
    vec![
        enters("first packet enters the stack as it came")
            .to_stack()
            .then(|state| {
                talk.wait(state);
                talk.bind(state, (0, 0));
            }),
        enters("first packet gets a ticket")
            .with_tickets()
            .to_stack()
            .then(|state| {
                talk.wait(state);
                talk.bind(state, (0, 0));
                state.ticket(talk.sent.tuple(), &A, 0);
            }),
        enters("known packet needs no ticket")
            .with_tickets()
            .given(|state| known(&talk, state))
            .to_stack()
            .then(|state| count(state, &talk.sent)),
        enters("known packet enters the stack as it came")
            .given(|state| known(&talk, state))
            .to_stack()
            .then(|state| count(state, &talk.sent)),
        leaves("first packet leaves translated").given(|state| {
            talk.wait(state);
            talk.bind(state, (0, 0));
        }),
        leaves("packet of a flow that was pushed out leaves by its ticket").given(|state| {
            talk.bind(state, (0, 0));
            state.ticket(talk.sent.tuple(), &A, SECOND_NS);
        }),
        refused("packet that nobody checked is dropped"),
        refused("packet whose ticket has ended is dropped").given(|state| {
            state.ticket(talk.sent.tuple(), &A, -SECOND_NS);
        }),
        refused("packet with the ticket of somebody else is dropped").given(|state| {
            state.ticket(talk.sent.tuple(), &B, SECOND_NS);
        }),
        leaves("known packet leaves translated").given(|state| known(&talk, state)),
        leaves("known packet under an old decision").given(|state| {
            known(&talk, state);
            state.known(talk.sent.tuple()).generation = 6;
        }),
    ]
}

fn inward(family: Family) -> Vec<Row> {
    let talk = Talk::udp(family, &A, 50_000);
    let comes = |text: &str| {
        Row::from_netdev(name(family, text), talk.answer.bytes()).leaves(|_| talk.returned.bytes())
    };
    let routed = |text: &str| {
        Row::from_host(name(family, text), talk.returned.bytes())
            .came_by(DEVICE_LINK)
            .delivered_to(&A)
    };
    let len = |frame: &Frame| u64::try_from(frame.bytes().len()).expect("fits");
    vec![
        comes("first answer is translated back")
            .given(|state| {
                talk.wait(state);
                talk.bind(state, (0, 0));
            })
            .then(|state| {
                known(&talk, state);
                for frame in [&talk.sent, &talk.answer] {
                    let flow = state.known(frame.tuple());
                    (flow.packets, flow.bytes) = (1, len(frame));
                }
                // Its way is found by the next packet that goes there.
                state.known(talk.sent.tuple()).mtu = u16::MAX;
            }),
        comes("known answer is translated back")
            .given(|state| known(&talk, state))
            .then(|state| count(state, &talk.answer)),
        routed("answer is delivered, and known inside")
            .given(|state| known(&talk, state))
            .then(|state| inside(&talk, state)),
        routed("second answer is delivered").given(|state| {
            known(&talk, state);
            inside(&talk, state);
        }),
        routed("packet that nobody asked for is delivered, and not remembered"),
    ]
}

fn between(family: Family) -> Vec<Row> {
    let frame = segment(&A, &B, family);
    let enters = |text: &str| Row::from_container(name(family, text), &A, frame.bytes()).to_stack();
    let routed = |text: &str| Row::from_host(name(family, text), frame.bytes()).delivered_to(&B);
    let through = |state: &mut Snapshot| {
        connect(state, &frame, &A, &B);
        state.known(frame.tuple()).set_through_stack();
        state.known(frame.tuple().reversed()).set_through_stack();
    };
    let waits = |state: &mut Snapshot| {
        state.pending(frame.tuple(), Waiting::of(&A, 1, frame.bytes().len()));
    };
    vec![
        enters("first packet between endpoints enters the stack").then(waits),
        enters("known packet between endpoints enters the stack")
            .given(through)
            .then(|state| count(state, &frame)),
        routed("first packet between endpoints is delivered").given(waits),
        routed("known packet between endpoints is delivered").given(through),
        routed("packet of a flow that was pushed out is delivered by its ticket").given(|state| {
            state.ticket(frame.tuple(), &A, SECOND_NS);
        }),
        Row::from_host(
            name(
                family,
                "packet between endpoints that nobody checked is dropped",
            ),
            frame.bytes(),
        )
        .dropped(DropReason::InvalidSourceIp),
    ]
}
