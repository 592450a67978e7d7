//! What the world begins: with the node itself, and with endpoints where the network routes to
//! them.

use tests::lab::conversation::{pattern, transfer, transfer_seen};
use tests::lab::node::ping;
use tests::lab::peers::address;
use tests::lab::watch::Watch;
use tests::lab::wide::{Wide, every, everywhere};
use tests::party::Family;

use super::probe::trace;

/// What a transfer consists of, in bytes.
const TRANSFER_LEN: usize = 4 << 20;

#[test]
fn world_and_node_reach_each_other() {
    everywhere(|wide, what| {
        let node = &wide.net.nodes[0];
        for family in Family::BOTH {
            let (near, far) = (Wide::near(family), Wide::far(family));
            ping(&wide.world, near);
            ping(node, far);
            let [_, router] = [0, 1].map(|hop| wide.target_outside(family).hops[hop]);
            let (hops, said) = trace(node, "-T", far);
            assert_eq!(hops, [router, far], "{what}: {said}");
            for method in ["-U", "-T", "-I"] {
                let (hops, said) = trace(&wide.world, method, near);
                assert_eq!(hops.last(), Some(&near), "{method}, {what}: {said}");
                assert_eq!(hops.len(), 2, "{method}, {what}: {said}");
            }
            let data = transfer(&wide.world, node, near, TRANSFER_LEN);
            assert!(data == pattern(TRANSFER_LEN), "inwards, {what}");
            let (data, seen) = transfer_seen(node, &wide.world, far, TRANSFER_LEN);
            assert!(data == pattern(TRANSFER_LEN), "outwards, {what}");
            assert_eq!(seen.ip(), near, "{what}");
            // So that the other far side sees something too.
            ping(wide.client(), address(1, family));
        }
    });
}

#[test]
fn world_reaches_endpoints_that_the_network_routes_to() {
    every(|wide, what| {
        let at_world = Watch::start(&wide.world, "eth0", wide.offload);
        for family in Family::BOTH {
            let inside = address(0, family);
            ping(&wide.world, inside);
            for method in ["-U", "-T", "-I"] {
                let (hops, said) = trace(&wide.world, method, inside);
                let ends = (hops.get(1).copied(), hops.last().copied());
                let expected = (Some(Wide::near(family)), Some(inside));
                assert_eq!(ends, expected, "{method}, {what}: {said}");
            }
            let data = transfer(&wide.world, wide.client(), inside, TRANSFER_LEN);
            assert!(data == pattern(TRANSFER_LEN), "{what}");
        }
        let report = at_world.end();
        assert_eq!(report.faults, [""; 0], "{what}");
        assert!(!report.inside.is_empty(), "they answer as who they are");
    });
}
