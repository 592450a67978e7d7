//! ICMP errors: believed if they quote a packet that their sender could have received.

use datapath::verdict::DropReason;
use tests::frame::{ACK, Frame, Transport, Tuple};
use tests::party::{A, B, C, D, Family, HOST, Who};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::{connect, segment};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(related(family));
        rows.extend(by_the_stack(family));
        rows.extend(unrelated(family));
        rows.extend(incomplete(family));
    }
    rows
}

fn related(family: Family) -> Vec<Row> {
    let quoted = segment(&A, &B, family);
    let echo = Frame::new(&A, &B, family, Transport::echo(family, false, 77));
    let short = &quoted.quote()[..ip_len(family) + 8];
    let about = |name: &str, quoted: &Frame, bytes: &[u8]| {
        Row::from_container(
            format!("{family:?}: {name}"),
            &B,
            error(family, &B, &A, bytes).bytes(),
        )
        .given(|state| connect(state, quoted, &A, &B))
        .routed_to(&A)
    };
    vec![
        about(
            "error about a packet of a known flow",
            &quoted,
            &quoted.quote(),
        ),
        about("error that quotes only eight bytes", &quoted, short),
        about("error about an echo request", &echo, &echo.quote()),
        Row::from_container(
            format!("{family:?}: error about a packet of a pending flow"),
            &B,
            error(family, &B, &A, &quoted.quote()).bytes(),
        )
        .given(|state| {
            state.pending(quoted.tuple(), Waiting::of(&A, 1, 96));
        })
        .routed_to(&A),
        Row::from_container(
            format!("{family:?}: error about a packet of the world"),
            &A,
            error_to_world(family).bytes(),
        )
        .given(|state| {
            let from_world = Tuple {
                source: family.world(),
                ..to_a(family).tuple()
            };
            state.flow(from_world, HOST.flow_to(&A));
        })
        .to_stack(),
    ]
}

fn by_the_stack(family: Family) -> Vec<Row> {
    let quoted = segment(&A, &B, family);
    let far = Frame::to_address(&A, family.world(), Transport::tcp(40_000, 443, ACK));
    let [about_far, about_b] =
        [&far, &quoted].map(|quoted| error(family, &HOST, &A, &quoted.quote()));
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::from_host(
            name("stack reports about a packet to the world"),
            about_far.bytes(),
        )
        .given(|state| connect(state, &far, &A, &HOST))
        .delivered_to(&A),
        Row::from_host(
            name("stack reports about a packet that it was handed"),
            about_b.bytes(),
        )
        .given(|state| {
            state.pending(quoted.tuple(), Waiting::of(&A, 1, 96));
        })
        .delivered_to(&A),
        Row::from_host(name("router far away reports"), {
            about_far.clone().source(family.world()).bytes()
        })
        .given(|state| connect(state, &far, &A, &HOST))
        .delivered_to(&A),
        Row::to_container(
            name("stack's report reaches the endpoint"),
            &A,
            about_far.bytes(),
        )
        .given(|state| connect(state, &far, &A, &HOST))
        .addressed_to(&A),
        Row::from_host(
            name("stack reports about a packet that it was handed to refuse it"),
            about_far.bytes(),
        )
        .delivered_to(&A),
        Row::to_container(
            name("what the stack refuses reaches the endpoint"),
            &A,
            about_far.bytes(),
        )
        .addressed_to(&A),
    ]
}

fn unrelated(family: Family) -> Vec<Row> {
    let quoted = segment(&A, &B, family);
    let other = if family == Family::V4 { C } else { D };
    let own = segment(&B, &A, family);
    let nested = error(family, &A, &B, &quoted.quote());
    let drop = |name: &str, from: &Who, frame: Frame, known: &Frame| {
        Row::from_container(format!("{family:?}: {name}"), from, frame.bytes())
            .given(|state| connect(state, known, &A, &B))
            .dropped(DropReason::UnrelatedIcmpError)
    };
    let about = |from: &Who, quoted: &Frame| error(family, from, &A, &quoted.quote());
    vec![
        drop(
            "error from an endpoint that the packet was not for",
            &other,
            about(&other, &quoted),
            &quoted,
        ),
        drop(
            "error about a packet that its sender sent",
            &B,
            about(&B, &own),
            &quoted,
        ),
        drop(
            "error to somebody else than the sender",
            &B,
            error(family, &B, &other, &quoted.quote()),
            &quoted,
        ),
        drop("error about an error", &B, about(&B, &nested), &nested),
        drop(
            "error about an unknown packet",
            &B,
            about(&B, &{
                Frame::new(&A, &B, family, Transport::tcp(40_001, 80, ACK))
            }),
            &quoted,
        ),
        drop(
            "error about another protocol",
            &B,
            about(&B, &{
                Frame::new(&A, &B, family, Transport::udp(40_000, 80, 20))
            }),
            &quoted,
        ),
        Row::from_container(
            format!("{family:?}: error about a packet of an ended flow"),
            &B,
            about(&B, &echo(family)).bytes(),
        )
        .given(|state| {
            connect(state, &echo(family), &A, &B);
            let tuple = echo(family).tuple();
            for tuple in [tuple, tuple.reversed()] {
                state.known(tuple).decided_ns = 61_000_000_000;
            }
        })
        .dropped(DropReason::UnrelatedIcmpError),
    ]
}

fn incomplete(family: Family) -> Vec<Row> {
    let quoted = segment(&A, &B, family);
    let ip_len = ip_len(family);
    let first = quoted.clone().part(0..24);
    let later = quoted.clone().part(24..42);
    let drop = |name: &str, frame: Frame| {
        Row::from_container(format!("{family:?}: {name}"), &B, frame.bytes())
            .given(|state| connect(state, &quoted, &A, &B))
            .dropped(DropReason::UnrelatedIcmpError)
    };
    let about = |bytes: &[u8]| error(family, &B, &A, bytes);
    let in_parts = about(&quoted.quote()).part(0..64);
    vec![
        drop(
            "error that quotes half of the ports",
            about(&quoted.quote()[..ip_len + 2]),
        ),
        drop(
            "error that quotes no ports",
            about(&quoted.quote()[..ip_len]),
        ),
        drop(
            "error that quotes half of a header",
            about(&quoted.quote()[..ip_len / 2]),
        ),
        drop("error that quotes nothing", about(&[])),
        drop("error that quotes no IP packet", about(&[0; 64])),
        drop("error about a later fragment", about(&later.quote())),
        drop("error in a fragment", in_parts.clone()).then(|state| {
            state.fragment(in_parts.tuple(), in_parts.id);
        }),
        Row::from_container(
            format!("{family:?}: error about a first fragment"),
            &B,
            about(&first.quote()).bytes(),
        )
        .given(|state| connect(state, &quoted, &A, &B))
        .routed_to(&A),
    ]
}

fn echo(family: Family) -> Frame {
    Frame::new(&A, &B, family, Transport::echo(family, false, 77))
}

/// Returns "port unreachable" from one party to another.
fn error(family: Family, from: &Who, to: &Who, quoted: &[u8]) -> Frame {
    Frame::new(from, to, family, unreachable(family, quoted))
}

/// Returns "port unreachable" from `a` to the world.
fn error_to_world(family: Family) -> Frame {
    let quoted = to_a(family).source(family.world()).quote();
    Frame::to_address(&A, family.world(), unreachable(family, &quoted))
}

fn to_a(family: Family) -> Frame {
    Frame::new(&HOST, &A, family, Transport::udp(53, 40_000, 30))
}

fn unreachable(family: Family, quoted: &[u8]) -> Transport {
    let (kind, code) = if family == Family::V4 { (3, 3) } else { (1, 4) };
    Transport::error(family, kind, code, quoted)
}

fn ip_len(family: Family) -> usize {
    if family == Family::V4 { 20 } else { 40 }
}
