//! A node that was not set up, or lacks a program.

use datapath::abi::{CALL_ARP, CALL_SLOW4, CALL_SLOW6, Node};
use datapath::hook::Hook;
use datapath::model::ModelPacket;
use datapath::verdict::DropReason;
use tests::isolation::isolated;
use tests::kernel::{Fate, Kernel};
use tests::party::{A, B, Family, HOST, model};
use tests::row::Row;

use super::segment;

pub(crate) fn rows() -> Vec<Row> {
    Family::BOTH.into_iter().flat_map(of_family).collect()
}

fn of_family(family: Family) -> Vec<Row> {
    let frames = [
        (
            "from an endpoint",
            Hook::FromContainer,
            segment(&A, &B, family),
            A.link,
        ),
        (
            "from the stack",
            Hook::FromHost,
            segment(&HOST, &A, family),
            HOST.link,
        ),
        (
            "to the stack",
            Hook::ToHost,
            segment(&A, &HOST, family),
            HOST.link,
        ),
        (
            "to an endpoint",
            Hook::ToContainer,
            segment(&HOST, &A, family),
            A.link,
        ),
    ];
    frames
        .map(|(name, hook, frame, link)| {
            Row::new(
                format!("{family:?}: not ready {name}"),
                hook,
                link,
                frame.bytes(),
            )
            .node(|node| *node = Node::default())
            .dropped(DropReason::NotReady)
        })
        .into()
}

#[test]
fn packets_that_miss_their_slow_path_are_dropped_and_counted() {
    let [v4, v6] = Family::BOTH.map(|family| segment(&A, &B, family).bytes());
    let arp = [&A.gateway_mac[..], &A.mac, &[8, 6], &[0; 28]].concat();
    isolated(|bpffs| {
        let mut kernel = Kernel::load(bpffs);
        kernel.fill(&model());
        for (call, bytes) in [(CALL_SLOW4, v4), (CALL_SLOW6, v6), (CALL_ARP, arp)] {
            let before = kernel.dropped(DropReason::MissedTailCall);
            let mut packet = ModelPacket {
                bytes,
                ifindex: A.link,
                ..ModelPacket::default()
            };

            kernel.forget_call(call);
            let fate = kernel.run(Hook::FromContainer, &mut packet);

            assert_eq!(fate, Fate::Shot, "call {call} is missed");
            let counted = kernel.dropped(DropReason::MissedTailCall) - before;
            assert_eq!(counted, 1, "the packet that missed call {call} is counted");
        }
    });
}
