//! TCP flags.

use datapath::abi::Stage;
use tests::frame::{ACK, FIN, Frame, RST, SYN, Transport};
use tests::party::{A, B, Family};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

use super::{connect, count, segment};

pub(crate) fn rows() -> Vec<Row> {
    Family::BOTH.into_iter().flat_map(of_family).collect()
}

fn of_family(family: Family) -> Vec<Row> {
    use Stage::{Closing, Ended, Established, PeerEnded};
    let steps = [
        (
            "SYN on a live connection changes nothing",
            SYN,
            Established,
            Established,
        ),
        (
            "FIN ends one side of a connection",
            FIN | ACK,
            Established,
            Ended,
        ),
        (
            "second FIN of a side changes nothing",
            FIN | ACK,
            Ended,
            Ended,
        ),
        (
            "FIN of the other side closes the connection",
            FIN | ACK,
            PeerEnded,
            Closing,
        ),
        ("RST closes a connection", RST, Established, Closing),
        (
            "SYN with ACK on a closing connection changes nothing",
            SYN | ACK,
            Closing,
            Closing,
        ),
        (
            "SYN with RST on a closing connection changes nothing",
            SYN | RST,
            Closing,
            Closing,
        ),
        (
            "FIN on a closing connection changes nothing",
            FIN | ACK,
            Closing,
            Closing,
        ),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (name, flags, before, after) in steps {
        let frame = with_flags(family, flags);
        let row = Row::from_container(format!("{family:?}: {name}"), &A, frame.bytes())
            .given(|state| {
                connect(state, &frame, &A, &B);
                set_stages(state, &frame, before);
            })
            .routed_to(&B)
            .then(|state| {
                set_stages(state, &frame, after);
                count(state, &frame);
            });
        rows.push(row);
    }
    rows.extend(begun_and_ended(family));
    rows
}

fn begun_and_ended(family: Family) -> Vec<Row> {
    let (syn, ack) = (with_flags(family, SYN), segment(&A, &B, family));
    let reset = Frame::new(&B, &A, family, Transport::tcp(80, 40_000, RST | ACK));
    let len = syn.bytes().len();
    let name = |text: &str| format!("{family:?}: {text}");
    vec![
        Row::from_container(
            name("SYN on a closing connection begins anew"),
            &A,
            syn.bytes(),
        )
        .given(|state| {
            connect(state, &syn, &A, &B);
            set_stages(state, &syn, Stage::Closing);
        })
        .routed_to(&B)
        .then(|state| {
            state.no_flow(syn.tuple()).no_flow(syn.tuple().reversed());
            state.pending(syn.tuple(), Waiting::of(&A, 1, len));
        }),
        Row::from_container(name("data on a closing connection passes"), &A, ack.bytes())
            .given(|state| {
                connect(state, &ack, &A, &B);
                set_stages(state, &ack, Stage::Closing);
            })
            .routed_to(&B)
            .then(|state| count(state, &ack)),
        Row::from_container(
            name("refused connection is closing at once"),
            &B,
            reset.bytes(),
        )
        .given(|state| {
            state.pending(syn.tuple(), Waiting::of(&A, 1, len));
        })
        .routed_to(&A)
        .then(|state| {
            let mut twin = A.flow_to(&B);
            (twin.packets, twin.bytes) = (1, u64::try_from(len).expect("fits"));
            state
                .flow(reset.tuple(), B.flow_to(&A))
                .flow(syn.tuple(), twin);
            set_stages(state, &syn, Stage::Closing);
            count(state, &reset);
        }),
    ]
}

fn with_flags(family: Family, flags: u8) -> Frame {
    Frame::new(&A, &B, family, Transport::tcp(40_000, 80, flags))
}

fn set_stages(state: &mut Snapshot, frame: &Frame, stage: Stage) {
    state.known(frame.tuple()).set_stage(stage);
    state
        .known(frame.tuple().reversed())
        .set_stage(stage.mirrored());
}
