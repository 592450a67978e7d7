//! RFC 4787: UDP.

use std::collections::BTreeSet;

use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::world::{C1, S1, S1_TOO, S2, UPLINK};
use tests::party::Family;

#[test]
fn one_source_keeps_its_outside_tuple_towards_everybody() {
    let row = Row::new(
        "U1",
        "RFC 4787 REQ-1 (MUST)",
        "one outside tuple per inside tuple",
    );

    row.check(&Options::default(), |world| {
        for family in Family::BOTH {
            let inside = C1.at(family, 5_000);
            let mut seen = BTreeSet::new();
            for site in [S1, S1_TOO, S2] {
                for port in [7_000, 7_001] {
                    let far = site.at(family, port);
                    let outside = world.out(inside, far);
                    world.back(far, outside, inside);
                    seen.insert(outside);
                }
            }
            assert_eq!(seen.len(), 1, "one tuple should be seen: {seen:?}");
            assert!(seen.iter().all(|outside| outside.ip() == UPLINK.ip(family)));
        }
    });

    row.pass("one tuple towards 6 destinations, replies of all six arrive, in both families");
}
