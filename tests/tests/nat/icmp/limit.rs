//! Errors of the gateway's own.

use tests::lab::compliance::Row;
use tests::lab::gateway::Options;
use tests::lab::site::{C1, ROUTER, S1};
use tests::lab::world::World;
use tests::packet::Packet;
use tests::party::Family;

/// Flows beyond the range.
const TOO_MANY: u16 = 500;
/// Most errors that they may bring: a burst, and some for the time that they take.
const MOST: usize = 50;

/// Switches errors off, as an administrator would.
const POLICY: &str = "table inet switch {
 chain output {
  type filter hook output priority 0
  icmp type destination-unreachable drop
  icmpv6 type destination-unreachable drop
 }
}
";

/// Communication administratively prohibited.
fn prohibited(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 13),
        Family::V6 => (1, 1),
    }
}

#[test]
fn exhaustion_is_answered_at_a_limited_rate() {
    let row = Row::new(
        "I8",
        "RFC 5508 REQ-8 (SHOULD): no session for lack of resources",
        "the endpoint gets \"administratively prohibited\" from its gateway, not for each packet of many",
    );

    row.check(&Options::default().ports(61_000, 61_063), |world| {
        for family in Family::BOTH {
            exhaust(world, family);
            let token = world.udp(C1.at(family, 30_000), S1.at(family, 7_000));
            let error = world.c1.catch_error(token);
            assert_eq!(error.icmp(), Some(prohibited(family)));
            assert_eq!(error.source, ROUTER.ip(family), "of {}", error.brief());
            for port in 0..TOO_MANY {
                world.udp(C1.at(family, 40_000 + port), S1.at(family, 7_000));
            }
            world.fence(family);
            let errors = world.c1.arrived(Packet::is_error).len();
            assert!(errors <= MOST, "{errors} errors for {TOO_MANY} packets");
        }
    });

    row.pass("3/13 and 1/1 from the gateway about the packet; at most 50 for 500 packets");
}

/// Takes all 64 ports.
fn exhaust(world: &World, family: Family) {
    world.fence(family);
    for port in 20_000..20_063 {
        world.out(C1.at(family, port), S1.at(family, 7_000));
    }
}

#[test]
fn errors_can_be_switched_off() {
    let row = Row::new(
        "I9",
        "RFC 5508 REQ-9 (MAY): policy that suppresses errors",
        "a rule of the node's own firewall for its output suppresses errors",
    );

    row.check(&Options::default().ports(61_000, 61_063), |world| {
        for family in Family::BOTH {
            exhaust(world, family);
            // So that silence behind the rule means something.
            let token = world.udp(C1.at(family, 30_001), S1.at(family, 7_000));
            world.c1.catch_error(token);
        }
        let file = world.machine.write("policy.nft", POLICY);
        world.gw.run(&format!("nft -f {}", file.display()));
        for family in Family::BOTH {
            let token = world.udp(C1.at(family, 30_000), S1.at(family, 7_000));
            world.expect_none("a flow beyond the range", token, family);
            let errors = world.c1.arrived(Packet::is_error).len();
            assert_eq!(errors, 0, "none should be sent");
        }
    });

    row.pass("errors are the kernel's: one nftables rule on the node suppresses them");
}
