//! The cold cases: one packet each of 100,000 flows in random order, so that the flow is in no
//! cache. A bare lookup in the same map, over the same flows, is beside them.

use anyhow::{Context, Result, ensure};
use ciliate::datapath::table;
use datapath::hook::Hook;
use std::os::fd::BorrowedFd;

use crate::bed::Bed;
use crate::case::{Case, Group, REDIRECT};
use crate::frame::{Family, udp};
use crate::measure::{Input, run};
use crate::part;
use crate::wrapper::{FLOWS, Vary, wrap};

/// Packets from one side that make a flow known although nobody answers.
const UNANSWERED_SHIFT: u8 = 2;

const TURNS: Vary = Vary::Turns { shift: 0 };

/// Makes the flows known and lists the cases.
///
/// # Errors
/// When the flows do not all find room.
pub(crate) fn cases(bed: &Bed, ports: BorrowedFd<'_>) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (family, name) in [(Family::V4, "v4"), (Family::V6, "v6")] {
        populate(bed, family, ports)?;
        let case = |id: &str, title: &str, program| {
            let frame = udp(family, &bed.one, &bed.two, [0; 2]);
            let (id, title) = (format!("cold/{id}/{name}"), format!("{title}, {name}"));
            let at = (frame, bed.one.ifindex);
            let mut case = Case::new((Group::Cold, &id, &title), program, at, REDIRECT);
            case.vary = TURNS;
            case.warm_runs = FLOWS;
            case
        };
        let program = || bed.program(Hook::FromContainer);
        // Rounds are further apart than a decision is fresh. This one goes first.
        let mut again = case("again", "from_container, each decided again", program()?);
        (again.warm_runs, again.runs) = (0, Some(FLOWS));
        cases.push(again);
        cases.push(case("fast", "from_container, fast path", program()?));
        cases.push(case(
            "lookup",
            "bare lookup",
            part::lookup(bed, family, part::UDP)?,
        ));
    }
    let known = [
        table::flows4(&bed.pins)?.keys().count(),
        table::flows6(&bed.pins)?.keys().count(),
    ];
    let wanted = usize::try_from(FLOWS)? * 2;
    ensure!(
        known.iter().all(|known| *known >= wanted),
        "only {known:?} flows are known"
    );
    Ok(cases)
}

/// Sends as many packets of each flow as it takes to enter the table.
fn populate(bed: &Bed, family: Family, ports: BorrowedFd<'_>) -> Result<()> {
    let frame = udp(family, &bed.one, &bed.two, [0; 2]);
    let vary = Vary::Turns {
        shift: UNANSWERED_SHIFT,
    };
    let program = bed.program(Hook::FromContainer)?;
    let wrapped = wrap(&bed.loader, &frame, vary, ports, &program)?;
    let input = Input {
        frame: &frame,
        ifindex: bed.one.ifindex,
        ingress: 0,
        count: 0,
    };
    run(&wrapped.entry, input, FLOWS << UNANSWERED_SHIFT).context("make flows known")?;
    Ok(())
}
