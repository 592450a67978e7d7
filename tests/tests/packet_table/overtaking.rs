//! Fragments that overtake the first of their datagram, on a node whose stack puts them in order.

use std::net::IpAddr;

use datapath::abi::Order;
use datapath::hook::Hook;
use datapath::model::ModelPacket;
use datapath::verdict::{DropReason, Verdict};
use tests::frame::{Frame, Transport, sent};
use tests::isolation::isolated;
use tests::kernel::{Fate, Kernel};
use tests::party::{A, B, DEVICE_LINK, DEVICE_MAC, FAR, Family, HOST, model};
use tests::row::Row;
use tests::snapshot::Waiting;

use super::count;
use super::talk::{SECOND_NS, Talk, arrives_as};

/// Where a datagram of the tests begins its second fragment.
const HALF: usize = 80;

/// Datagrams of one sender that may be overtaken in a few seconds.
const SHARE: u16 = 256;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        rows.extend(sent_by_endpoints(family));
        rows.extend(on_the_way_to_the_stack(family));
        rows.extend(behind_the_stack(family));
        rows.extend(from_outside(family));
        rows.extend(once_more(family));
    }
    rows.into_iter()
        .map(|row| row.node(|node| node.reassembles = 1))
        .collect()
}

fn name(family: Family, text: &str) -> String {
    format!("{family:?} overtaking: {text}")
}

/// The first and the second half of a datagram.
fn halves(whole: &Frame) -> [Frame; 2] {
    [0..HALF, HALF..2 * HALF].map(|part| whole.clone().part(part))
}

fn talk(family: Family) -> Talk {
    let udp = |from, to| Transport::udp(from, to, 200);
    Talk::kept(family, &A, [udp(50_000, 53), udp(53, 50_000)])
}

/// The first address of the node's prefix.
fn prefix(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 0, 1, 0].into(),
        Family::V6 => [0xfd00, 1, 0, 0, 0, 0, 0, 0].into(),
    }
}

/// The frame as it is sent to the first address of the prefix; its transport header knows nothing of
/// it.
fn turned(family: Family, frame: &Frame) -> Vec<u8> {
    let whole = frame.transport.bytes.len();
    let part_len = frame.part.clone().map_or(whole, |part| part.len());
    let original = frame.bytes();
    let mut bytes = frame.clone().to(prefix(family)).bytes();
    let headers_len = bytes.len() - part_len;
    bytes.splice(headers_len.., original[headers_len..].iter().copied());
    bytes
}

fn sent_by_endpoints(family: Family) -> Vec<Row> {
    let local = Frame::new(&A, &B, family, Transport::udp(40_000, 53, 200));
    let world = talk(family).sent;
    let hairpin = world.clone().to(family.outer());
    let [first, later] = halves(&world);
    let row =
        |text: &str, frame: &Frame| Row::from_container(name(family, text), &A, frame.bytes());
    let overtakes = |text: &str, frame: &Frame| {
        row(text, frame).to_stack().then(|state| {
            state.sorted(frame.tuple(), frame.id, Order::Overtaken);
        })
    };
    let overtaken = |text: &str, frame: &Frame| {
        row(text, frame)
            .given(|state| {
                state.sorted(frame.tuple(), frame.id, Order::Overtaken);
            })
            .to_stack()
    };
    vec![
        overtakes("fragment for the world that comes first", &later),
        overtakes(
            "fragment for a neighbour that comes first",
            &halves(&local)[1],
        ),
        overtaken("first fragment that was overtaken", &first),
        overtaken("another fragment of an overtaken datagram", &later),
        overtakes(
            "fragment of a datagram with an identification of long ago",
            &later,
        )
        .given(|state| {
            let age_ns = u64::try_from(40 * SECOND_NS).expect("positive");
            state.fragment_before(age_ns, later.tuple(), later.id);
        })
        .then(|state| {
            state.sorted(later.tuple(), later.id, Order::Overtaken);
        }),
        row(
            "first fragment that the stack has to answer",
            &first.clone().hop_limit(1),
        )
        .to_stack()
        .then(|state| {
            let waiting = Waiting::of(&A, 1, first.bytes().len()).translated();
            state
                .pending(first.tuple(), waiting)
                .sorted(first.tuple(), first.id, Order::Overtaken);
            talk(family).bind(state, (0, 0));
        }),
        row(
            "fragment that hides the ports is not for the stack",
            &world.clone().part(0..0),
        )
        .dropped(DropReason::TinyFragment),
        row("fragment of a hairpin connection", &halves(&hairpin)[1])
            .dropped(DropReason::FragmentNotFound),
        row(
            "fragment by another's address",
            &halves(&world.clone().source(B.ip(family)))[1],
        )
        .dropped(DropReason::InvalidSourceIp),
    ]
}

fn on_the_way_to_the_stack(family: Family) -> Vec<Row> {
    let whole = Frame::new(&A, &HOST, family, Transport::udp(40_000, 53, 200))
        .to_mac(HOST.mac)
        .from_mac(HOST.gateway_mac);
    let [first, later] = halves(&whole);
    let enters = |text: &str, part: &Frame| {
        Row::to_host(name(family, text), part.bytes()).given(|state| {
            state.sorted(part.tuple(), part.id, Order::Overtaken);
        })
    };
    vec![
        enters("first fragment that was overtaken enters the stack", &first),
        enters("fragment that overtook the first enters the stack", &later),
        Row::to_host(
            name(family, "fragment that nobody handed over"),
            later.bytes(),
        )
        .dropped(DropReason::FragmentNotFound),
    ]
}

fn behind_the_stack(family: Family) -> Vec<Row> {
    let talk = talk(family).with(|frame| frame.part(0..HALF));
    let (mask_of, whole) = (
        super::parts::own,
        Frame::new(&A, &B, family, Transport::udp(40_000, 53, 200)),
    );
    let local = whole.part(0..HALF);
    vec![
        Row::to_netdev(
            name(family, "flow that begins with an overtaken datagram"),
            talk.sent.bytes(),
        )
        .leaves(|_| mask_of(&talk.left, &A))
        .then(|state| {
            talk.wait(state);
            talk.bind(state, (0, 0));
            state.fragment(talk.sent.tuple(), talk.sent.id);
        }),
        Row::to_netdev(
            name(family, "overtaken datagram of a known flow"),
            talk.sent.bytes(),
        )
        .given(|state| talk.connect(state))
        .leaves(|_| mask_of(&talk.left, &A))
        .then(|state| {
            state.fragment(talk.sent.tuple(), talk.sent.id);
        }),
        Row::from_host(
            name(
                family,
                "flow to a neighbour that begins with an overtaken datagram",
            ),
            sent(local.bytes(), HOST.mac, HOST.mac),
        )
        .delivered_to(&B)
        .then(|state| {
            state
                .pending(local.tuple(), Waiting::of(&A, 1, local.bytes().len()))
                .fragment(local.tuple(), local.id);
        }),
    ]
}

fn from_outside(family: Family) -> Vec<Row> {
    let talk = talk(family);
    let [first, later] = halves(&talk.answer);
    let [back_first, _] = halves(&talk.returned);
    let native = Frame::to_address(&FAR, A.ip(family), Transport::udp(53, 40_000, 200));
    let tunnel =
        Frame::new(&FAR, &FAR, family, Transport::other(47, [0, 0], &[1; 208])).to(family.outer());
    let row = |text: &str, frame: &Frame| Row::from_netdev(name(family, text), frame.bytes());
    vec![
        row("fragment of an answer that comes first", &later)
            .given(|state| talk.connect(state))
            .leaves(|_| turned(family, &later))
            .then(|state| {
                state.sorted(later.tuple(), later.id, Order::Overtaken);
            }),
        row("first fragment of an answer that was overtaken", &first)
            .given(|state| {
                talk.connect(state);
                state.sorted(first.tuple(), first.id, Order::Overtaken);
            })
            .leaves(|_| turned(family, &first)),
        arrives_as(
            row("first fragment of an answer, in order again", &first),
            &back_first,
            &A,
        )
        .given(|state| {
            talk.connect(state);
            state.sorted(first.tuple(), first.id, Order::Restored);
        })
        .then(|state| {
            count(state, &first);
            state.fragment(first.tuple(), first.id);
        }),
        row(
            "fragment that is in order again and whose first was dropped",
            &later,
        )
        .given(|state| {
            state.sorted(later.tuple(), later.id, Order::Restored);
        }),
        row(
            "fragment for an endpoint's own address that comes first",
            &halves(&native)[1],
        )
        .then(|state| {
            state.sorted(native.tuple(), native.id, Order::Overtaken);
        }),
        row("fragment of a tunnel of the node", &halves(&tunnel)[1]),
    ]
}

fn once_more(family: Family) -> Vec<Row> {
    let whole = talk(family).answer;
    let [first, later] = halves(&whole);
    let row = |text: &str, frame: &Frame| {
        let frame = frame.clone().to_mac(HOST.mac).from_mac(HOST.gateway_mac);
        Row::from_host(name(family, text), turned(family, &frame))
    };
    let back = |row: Row, frame: &Frame| {
        row.came_by(DEVICE_LINK)
            .gets(Verdict::Host(DEVICE_LINK))
            .leaves(|_| sent(frame.bytes(), DEVICE_MAC, HOST.gateway_mac))
    };
    vec![
        back(row("first fragment gets its address back", &first), &first).then(|state| {
            state.sorted(first.tuple(), first.id, Order::Restored);
        }),
        back(row("later fragment gets its address back", &later), &later),
        back(row("whole datagram gets its address back", &whole), &whole),
        row("that address, without a device", &first)
            .came_by(0)
            .dropped(DropReason::StaleOrUnroutable),
    ]
}

#[test]
fn overtaken_datagrams_of_one_sender_are_bounded() {
    let flood = |id| halves(&talk(Family::V4).sent.id(id))[1].bytes();
    isolated(|bpffs| {
        let mut kernel = Kernel::load(bpffs);
        let mut model = model();
        for node in [&mut model.tables4.node, &mut model.tables6.node] {
            node.as_mut().expect("the node is described").reassembles = 1;
        }
        kernel.fill(&model);
        let mut send = |bytes| {
            let mut packet = ModelPacket {
                bytes,
                ifindex: A.link,
                ..ModelPacket::default()
            };
            kernel.run(Hook::FromContainer, &mut packet)
        };

        // The stretch of time that shares are counted in may change once meanwhile.
        let fates: Vec<Fate> = (0..3 * SHARE).map(|id| send(flood(id))).collect();

        let handed = fates.iter().filter(|fate| **fate == Fate::Redirect).count();
        let share = usize::from(SHARE);
        assert!(
            (share..=2 * share).contains(&handed),
            "{handed} were handed over"
        );
        assert!(fates[..share].iter().all(|fate| *fate == Fate::Redirect));
        let dropped = kernel.dropped(DropReason::FragmentNotFound);
        assert_eq!(dropped, u64::try_from(fates.len() - handed).expect("fits"));
    });
}
