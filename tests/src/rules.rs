//! Random policies, for the differential run.

use datapath::abi::{
    Decision, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPort, Prefix, Ruling, Side, Sides,
    Subject,
};
use datapath::model::ModelNode;

use crate::party::{A, ALL, B, FAR, FRIEND, HOST};
use crate::random::Random;

/// Identity of the addresses that rules name.
const CIDR: u32 = 0x0100_0007;

/// Gives some parties policies of which most connections pass one way or the other, and which say
/// something else on the other side.
pub fn give(model: &mut ModelNode, seed: u64) {
    let mut random = Random::new(seed ^ 0x0070_6f6c_6963_7900);
    let prefix = Prefix::new(CIDR, false);
    model.add_prefixes((FAR.addr4(), 24), (FAR.addr6(), 48), prefix);
    for who in ALL {
        if random.one_in(2) {
            continue;
        }
        if who == HOST {
            for node in [&mut model.tables4.node, &mut model.tables6.node] {
                node.as_mut().expect("is described").guards = 3;
            }
        }
        let policy = u32::from(who.slot) + 50;
        let subject = Subject {
            policy,
            audit: u16::from(random.one_in(4)),
            ..who.subject()
        };
        model.add_subject(&who.party(), subject);
        for direction in [INGRESS, EGRESS] {
            for identity in [
                0,
                HOST.identity,
                A.identity,
                B.identity,
                FRIEND.identity,
                CIDR,
            ] {
                if random.one_in(3) {
                    let key = PolicyKey {
                        policy,
                        direction,
                        identity,
                    };
                    let entry = entry(&mut random, model);
                    model.add_entry(key, entry);
                }
            }
        }
    }
}

fn entry(random: &mut Random, model: &mut ModelNode) -> Sides<PolicyEntry> {
    let mut entry = || {
        let row =
            u32::from(random.one_in(2)) * (u32::try_from(random.below(1 << 20)).expect("fits") + 1);
        if row != 0 {
            for (protocol, port, bits) in [(6, 80, 24), (17, 0, 8), (1, 0x0800, 16), (58, 0, 8)] {
                let port = PolicyPort::new(row, protocol, port);
                let ruling = Sides::both(ruling(random));
                model.add_range(port, PolicyPort::ROW_BITS + bits, ruling);
            }
        }
        PolicyEntry {
            row,
            ruling: ruling(random),
        }
    };
    let mut sides = Sides::both(entry());
    sides.set(Side::of(0), entry());
    sides
}

/// Returns a ruling; one in three denies.
fn ruling(random: &mut Random) -> Ruling {
    let term = u16::try_from(random.below(4)).expect("fits");
    match random.below(6) {
        0 => Ruling::new(Decision::Deny, term),
        1 => Ruling::new(Decision::Reject, term),
        _ => Ruling::new(Decision::Allow, term),
    }
}
