//! Frames that are no plain IP packets: none carries something past policy, and none that policy
//! does not mean is dropped for it. Numbers are those of Cilium's issues.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use datapath::verdict::DropReason;
use tests::frame::{Frame, Transport};
use tests::lab::conversation::bound;
use tests::lab::estate::Estate;
use tests::lab::wire::Wire;
use tests::lab::{uninterrupted, wait_until};
use tests::party::{Family, MTU, Who};

use super::language::RESIDENTS;

const MODES: [&str; 2] = ["bpf", "legacy"];
/// A tag that gives a priority and names no VLAN; the kernel takes such a frame for its own.
const PRIORITY: [u8; 4] = [0x81, 0, 0x60, 0];
const SERVICE_PRIORITY: [u8; 4] = [0x88, 0xa8, 0, 0];
/// A tag of VLAN 5, which nobody here has a link of.
const VLAN: [u8; 4] = [0x81, 0, 0, 5];
const TAGS: [&[[u8; 4]]; 6] = [
    &[],
    &[PRIORITY],
    &[SERVICE_PRIORITY],
    &[PRIORITY, PRIORITY],
    &[SERVICE_PRIORITY, PRIORITY],
    &[PRIORITY, PRIORITY, PRIORITY],
];
/// Shows that nothing is on its way any more.
const LAST: &[u8] = b"last";

/// Returns the sender of frames by the router's link, with the world's addresses.
pub(crate) fn sender(net: &Estate) -> Who {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (
        net.address("world", Family::V4),
        net.address("world", Family::V6),
    ) else {
        unreachable!("one of each family");
    };
    Who {
        name: "world",
        link: 0,
        mac: net.router.mac("to1"),
        gateway_mac: net.nodes[0].mac("eth0"),
        ipv4: Some(v4),
        ipv6: Some(v6),
        mtu: MTU,
        slot: 0,
        identity: 0,
    }
}

/// Puts tags in front of the protocol.
fn tagged(mut frame: Vec<u8>, tags: &[[u8; 4]]) -> Vec<u8> {
    let protocol = frame.split_off(12);
    frame.extend(tags.concat());
    frame.extend(protocol);
    frame
}

/// Sends a datagram under each combination of tags; returns which arrived.
fn arrivals(net: &Estate, receiver: &UdpSocket, tags: &[&[[u8; 4]]]) -> Vec<usize> {
    let (wire, from) = (Wire::open(&net.router, "to1"), sender(net));
    let to = receiver.local_addr().expect("bound");
    for (number, tags) in tags.iter().enumerate() {
        let number = u8::try_from(number).expect("few");
        let datagram = Transport::datagram(4_000 + u16::from(number), to.port(), &[number]);
        let frame = Frame::to_address(&from, to.ip(), datagram);
        wire.send(&tagged(frame.bytes(), tags));
    }
    receiver
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("set a timeout");
    let mut bytes = [0; 8];
    let mut arrived = Vec::new();
    while uninterrupted(|| receiver.recv(&mut bytes)).is_ok() {
        arrived.push(usize::from(bytes[0]));
    }
    arrived
}

/// 40247: rules about the host were not asked about frames with a tag.
#[test]
fn tags_carry_nothing_past_policy() {
    let open = "[policy]\nhost = \"enforce\"\n[[policy.rule]]\nhost = true\ningress = [{ from = \"all\" }]\n";
    let closed = "[policy]\nhost = \"enforce\"\n[[policy.rule]]\nhost = true\ningress = []\n\
                  [[policy.rule]]\nendpoints = \"db\"\ningress = []\n";
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        for family in Family::BOTH {
            for to in ["edge-1", "db"] {
                let receiver = bound(net.place(to), net.address(to, family));
                net.apply(0, open);
                let arrived = arrivals(&net, &receiver, &TAGS);
                assert_eq!(arrived.first(), Some(&0), "untagged ones arrive at {to}");
                assert!(
                    to == "db" || arrived.contains(&1),
                    "the kernel takes them: {arrived:?}"
                );

                net.apply(0, closed);

                let arrived = arrivals(&net, &receiver, &TAGS);
                assert_eq!(arrived, [0; 0], "to {to}, {family:?}, {mode}");
                assert_eq!(arrivals(&net, &receiver, &[&[VLAN]]), [0; 0], "to {to}");
            }
        }
    }
}

/// 30754, 36889: frames that are not IP were dropped on their way to the node, and reported.
#[test]
fn what_is_no_ip_is_nothing_to_the_policy_of_the_node() {
    let closed =
        "[policy]\nhost = \"enforce\"\n[[policy.rule]]\nhost = true\ningress = []\negress = []\n";
    let net = Estate::new("bpf", &RESIDENTS);
    net.apply(0, closed);
    let before = net.drops(0);
    let (outside, node) = (
        Wire::open(&net.router, "to1"),
        Wire::open(&net.nodes[0], "eth0"),
    );

    for frame in frames() {
        outside.send(&frame);
        node.receive("the frame", |seen| seen.bytes.starts_with(&frame));
        node.send(&frame);
        outside.receive("the frame", |seen| seen.bytes.starts_with(&frame));
    }

    assert_eq!(net.drops(0), before, "nothing should be dropped");
}

#[test]
fn endpoints_send_only_what_policy_can_judge() {
    let net = Estate::new("bpf", &RESIDENTS);
    let web = Wire::open(net.place("web"), "eth0");
    let count = |reason: DropReason| net.drops(0).get(reason.text()).copied().unwrap_or(0);
    let (unknown, vlan) = (DropReason::UnsupportedL3, DropReason::Vlan);

    for frame in frames() {
        web.send(&frame);
    }
    wait_until("they are dropped", || {
        count(unknown) == frames().len() as u64
    });

    let (mac, gateway) = (net.place("web").mac("eth0"), net.nodes[0].mac("lxcweb"));
    let who = Who {
        mac,
        gateway_mac: gateway,
        ipv4: Some([10, 0, 1, 10].into()),
        ..sender(&net)
    };
    let db = bound(net.place("db"), net.address("db", Family::V4));
    let port = db.local_addr().expect("bound").port();
    let frame = |payload: &[u8]| {
        Frame::to_address(
            &who,
            net.address("db", Family::V4),
            Transport::datagram(9, port, payload),
        )
        .bytes()
    };
    for tags in TAGS.into_iter().skip(1).chain([&[VLAN][..]]) {
        web.send(&tagged(frame(b"tag"), tags));
    }
    web.send(&frame(LAST));
    let mut bytes = [0; 8];
    let len = uninterrupted(|| db.recv(&mut bytes)).expect("the last arrives");
    assert_eq!(&bytes[..len], LAST, "no other arrives");
    wait_until("they are dropped", || count(vlan) == TAGS.len() as u64);
}

/// Returns frames of LLC (a spanning tree's), LLDP, flow control and an unknown protocol.
fn frames() -> Vec<Vec<u8>> {
    let frame = |to: [u8; 6], protocol: u16, body: &[u8]| {
        let mut frame = [&to[..], &[2, 0, 0, 0, 0, 9], &protocol.to_be_bytes(), body].concat();
        frame.resize(60, 0);
        frame
    };
    vec![
        frame([1, 0x80, 0xc2, 0, 0, 0], 38, &[0x42, 0x42, 3, 0, 0]),
        frame([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc, &[2, 7, 4]),
        frame([1, 0x80, 0xc2, 0, 0, 1], 0x8808, &[0, 1, 0xff, 0xff]),
        frame([0xff; 6], 0x88b5, b"experiment"),
    ]
}
