//! Translations: every protocol and shape of packet, out and back, with checksums computed anew.

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport, UDP, patched};
use tests::party::{A, B, FAR, Family};
use tests::row::Row;

use super::count;
use super::talk::{Talk, arrives_as, leaves_as};

const SCTP: u8 = 132;
const GRE: u8 = 47;
const ESP: u8 = 50;
const DCCP: u8 = 33;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// Record route, padded to eight bytes.
const OPTIONS: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
/// One unit of padding options.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        for (text, talk) in talks(family) {
            rows.extend(out_and_back(family, text, &talk));
        }
        rows.extend(moved(family));
        rows.extend(taken(family));
        rows.extend(refused(family));
    }
    rows
}

/// Conversations that keep their ports, if they have any.
fn talks(family: Family) -> Vec<(&'static str, Talk)> {
    let tcp = Talk::tcp(family, &A, 50_000, tests::frame::ACK);
    let behind_options = tcp.clone().with(|frame| match family {
        Family::V4 => frame.options(&OPTIONS),
        Family::V6 => frame.extension(DESTINATION_OPTIONS, &PADDING),
    });
    let plain = |protocol| {
        let header = Transport::other(protocol, [0, 0], &[7; 30]);
        Talk::kept(family, &A, [header.clone(), header])
    };
    let both = |make: fn([u16; 2]) -> Transport| {
        Talk::kept(family, &A, [make([50_000, 9]), make([9, 50_000])])
    };
    let mut talks = vec![
        ("UDP", Talk::udp(family, &A, 50_000)),
        ("echo", Talk::echo(family, &A, 50_000)),
        ("UDP-Lite", both(lite)),
        ("SCTP", both(sctp)),
        ("GRE", plain(GRE)),
        ("ESP", plain(ESP)),
        ("behind options", behind_options),
    ];
    if family == Family::V4 {
        talks.push(("UDP without checksum", both(unchecked)));
    }
    talks
}

/// A packet with a verification tag, a checksum that nobody looks at here, and a chunk.
fn sctp([from, to]: [u16; 2]) -> Transport {
    let mut bytes = [from, to].map(u16::to_be_bytes).concat();
    bytes.extend([1, 2, 3, 4, 0xaa, 0xbb, 0xcc, 0xdd, 11, 0, 0, 4]);
    Transport::other(SCTP, [from, to], &bytes)
}

fn lite([from, to]: [u16; 2]) -> Transport {
    Transport::udp_lite(from, to, b"covered")
}

fn unchecked([from, to]: [u16; 2]) -> Transport {
    Transport {
        checksum_at: None,
        ..Transport::datagram(from, to, b"unchecked")
    }
}

fn name(family: Family, text: &str, what: &str) -> String {
    format!("{family:?} translation, {text}: {what}")
}

fn out_and_back(family: Family, text: &str, talk: &Talk) -> Vec<Row> {
    let Talk { sent, left, .. } = talk;
    let out = |what: &str| Row::from_container(name(family, text, what), &A, sent.bytes());
    let back = |what: &str| Row::from_netdev(name(family, text, what), talk.answer.bytes());
    let old = |state: &mut tests::snapshot::Snapshot| {
        talk.connect(state);
        talk.forget_decisions(state);
    };
    vec![
        leaves_as(out("first packet"), left, family).then(|state| {
            talk.wait(state);
            talk.bind(state, (0, 0));
        }),
        leaves_as(out("known flow"), left, family)
            .given(|state| talk.connect(state))
            .then(|state| count(state, sent)),
        leaves_as(out("known flow under an old decision"), left, family)
            .given(old)
            .then(|state| {
                let [out, back] = [talk.sent.tuple(), talk.answer.tuple()];
                (state.known(out).generation, state.known(back).generation) = (7, 7);
                count(state, sent);
            }),
        arrives_as(back("answer"), &talk.returned, &A)
            .given(|state| talk.connect(state))
            .then(|state| count(state, &talk.answer)),
        arrives_as(back("answer under an old decision"), &talk.returned, &A)
            .given(old)
            .then(|state| {
                state.known(talk.answer.tuple()).generation = 7;
                count(state, &talk.answer);
            }),
        Row::to_netdev(name(family, text, "what the stack sends on"), sent.bytes())
            .given(|state| talk.connect(state))
            .leaves(|_| left.bytes()),
    ]
}

/// Ports and identifiers outside the range.
fn moved(family: Family) -> Vec<Row> {
    let echo = |id, is_reply| Transport::echo(family, is_reply, id);
    let udp = |from, to| Transport::udp(from, to, 21);
    let lite = |from, to| lite([from, to]);
    let talks = [
        (
            "identifier of an echo",
            [
                echo(7, false),
                echo(49_152, false),
                echo(49_152, true),
                echo(7, true),
            ],
        ),
        (
            "port of UDP",
            [
                udp(5_000, 53),
                udp(49_152, 53),
                udp(53, 49_152),
                udp(53, 5_000),
            ],
        ),
        (
            "port of UDP-Lite",
            [
                lite(5_000, 9),
                lite(49_152, 9),
                lite(9, 49_152),
                lite(9, 5_000),
            ],
        ),
    ];
    talks
        .into_iter()
        .flat_map(|(text, headers)| {
            let text = format!("{text} outside the range");
            out_and_back(family, &text, &Talk::new(family, &A, headers))
        })
        .collect()
}

/// What has no port to choose has one binding for each remote party.
fn taken(family: Family) -> Vec<Row> {
    let gre = |who| {
        let header = Transport::other(GRE, [0, 0], &[7; 30]);
        Talk::kept(family, who, [header.clone(), header])
    };
    let sctp = |who| Talk::kept(family, who, [sctp([5_000, 9]), sctp([9, 5_000])]);
    let row = |text: &str, theirs: &Talk, mine: &Talk| {
        Row::from_container(name(family, text, "taken"), &B, mine.sent.bytes())
            .given(|state| theirs.bind(state, (1, 0)))
    };
    let elsewhere = gre(&A).toward(family.next_hop());
    vec![
        row("GRE", &gre(&A), &gre(&B)).dropped(DropReason::NatExhausted),
        row("SCTP", &sctp(&A), &sctp(&B)).dropped(DropReason::NatExhausted),
        leaves_as(
            row("GRE to another party", &elsewhere, &gre(&B)),
            &gre(&B).left,
            family,
        )
        .then(|state| {
            gre(&B).wait(state);
            gre(&B).bind(state, (0, 0));
        }),
    ]
}

fn refused(family: Family) -> Vec<Row> {
    let send = |text: &str, header: Transport| {
        let frame = Frame::to_address(&A, family.far(), header);
        Row::from_container(name(family, text, "refused"), &A, frame.bytes())
    };
    let dccp = Transport::other(DCCP, [0, 0], &[7; 24]);
    let mut rows = vec![send("DCCP", dccp).dropped(DropReason::NatUnsupported)];
    if family == Family::V4 {
        let header = Transport::other(AUTHENTICATION, [0, 0], &[7; 24]);
        rows.push(send("AH", header).dropped(DropReason::NatUnsupported));
        return rows;
    }
    let unchecked = |frame: Frame| patched(frame.bytes(), 46, &[0, 0]);
    let talk = Talk::udp(family, &A, 50_000);
    assert_eq!(talk.sent.transport.protocol, UDP, "has its checksum there");
    rows.extend([
        Row::from_container(
            name(family, "UDP without checksum", "refused"),
            &A,
            unchecked(talk.sent.clone()),
        )
        .given(|state| talk.connect(state))
        .dropped(DropReason::InvalidPacket),
        Row::from_netdev(
            name(family, "UDP without checksum", "refused from outside"),
            unchecked(Frame::new(
                &FAR,
                &A,
                family,
                talk.returned.transport.clone(),
            )),
        )
        .dropped(DropReason::InvalidPacket),
        Row::from_netdev(
            name(family, "UDP without checksum", "answer refused"),
            unchecked(talk.answer.clone()),
        )
        .given(|state| talk.connect(state))
        .dropped(DropReason::InvalidPacket),
    ]);
    rows
}
