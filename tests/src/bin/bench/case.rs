//! What is measured, hook by hook, and the check that each case takes the path that it names.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::SchedClassifier;
use ciliate::datapath::{pin::Pins, table};
use datapath::hook::Hook;

use crate::bed::Bed;
use crate::frame::{ESTABLISHED, Family, Frame, Place, SYN, SYN_ACK, question, tcp, udp};
use crate::masquerade;
use crate::measure::{Input, packet_after, run};
use crate::wrapper::Vary;

/// What programs return; the numbers are the kernel's.
pub(crate) const PASS: u32 = u32::MAX;
pub(crate) const DROP: u32 = 2;
pub(crate) const REDIRECT: u32 = 7;

const TCP_PORTS: [u16; 2] = [40_000, 80];
const UDP_PORTS: [u16; 2] = [40_001, 53];
const HOST_PORTS: [u16; 2] = [40_002, 22];

/// Long enough for the kernel's coarse clock to move on.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// Groups the cases in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    Reference,
    FastPath,
    Masquerade,
    SlowPath,
    Cold,
    Parts,
}

/// Tells how the datapath must treat the packets of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// By the remembered decision.
    Fast,
    /// The flow is known, and each packet has it decided again.
    Again,
    /// Anything that ends with the expected return value.
    Any,
}

/// Is one line of the report.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) group: Group,
    pub(crate) program: SchedClassifier,
    pub(crate) frame: Frame,
    pub(crate) ifindex: u32,
    /// Link that the packet came into the namespace by; 0 for none.
    pub(crate) ingress: u32,
    pub(crate) vary: Vary,
    pub(crate) returns: u32,
    pub(crate) treatment: Treatment,
    /// Takes the untimed runs in the place of the program, if that cannot decide about flows.
    pub(crate) warmed_by: Option<SchedClassifier>,
    /// Runs before the time is taken.
    pub(crate) warm_runs: u32,
    /// Timed runs, where the number is not free.
    pub(crate) runs: Option<u32>,
}

/// Untimed runs: they bring caches up and have the flow decided again.
const WARM_RUNS: u32 = 1_000;

impl Case {
    pub(crate) fn new(
        (group, id, title): (Group, &str, &str),
        program: SchedClassifier,
        (frame, ifindex): (Frame, u32),
        returns: u32,
    ) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            group,
            program,
            frame,
            ifindex,
            ingress: 0,
            vary: Vary::Same,
            returns,
            treatment: Treatment::Any,
            warmed_by: None,
            warm_runs: WARM_RUNS,
            runs: None,
        }
    }

    /// Returns what its programs run on.
    pub(crate) fn input(&self, count: u32) -> Input<'_> {
        Input {
            frame: &self.frame,
            ifindex: self.ifindex,
            ingress: self.ingress,
            count,
        }
    }
}

/// Lists the cases of the hooks, and makes the flows that they need known.
///
/// # Errors
/// When a program does not do what the case says.
pub(crate) fn hooks(bed: &Bed) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        connect(bed, family, (&bed.one, &bed.two), TCP_PORTS)?;
        connect(bed, family, (&bed.one, &bed.host), HOST_PORTS)?;
        talk(bed, family, UDP_PORTS)?;
        fast(bed, family, &mut cases)?;
        slow(bed, family, &mut cases)?;
        masquerade::add(bed, family, &mut cases)?;
    }
    Ok(cases)
}

fn fast(bed: &Bed, family: Family, cases: &mut Vec<Case>) -> Result<()> {
    let (one, two, host) = (&bed.one, &bed.two, &bed.host);
    let [ask, answer] = [TCP_PORTS, HOST_PORTS]
        .map(|ports| move |from, to| tcp(family, from, to, ports, ESTABLISHED));
    let back = |from, to, [src, dst]: [u16; 2]| tcp(family, from, to, [dst, src], ESTABLISHED);
    let rows = [
        (
            Hook::FromContainer,
            "peer/tcp",
            "to endpoint, TCP",
            ask(one, two),
            one,
            REDIRECT,
        ),
        (
            Hook::FromContainer,
            "peer/tcp-reply",
            "its reply",
            back(two, one, TCP_PORTS),
            two,
            REDIRECT,
        ),
        (
            Hook::FromContainer,
            "peer/udp",
            "to endpoint, UDP",
            udp(family, one, two, UDP_PORTS),
            one,
            REDIRECT,
        ),
        (
            Hook::FromContainer,
            "host/tcp",
            "to host, TCP",
            answer(one, host),
            one,
            REDIRECT,
        ),
        (
            Hook::FromHost,
            "endpoint/tcp",
            "to endpoint, TCP",
            back(host, one, HOST_PORTS),
            host,
            REDIRECT,
        ),
        (
            Hook::ToContainer,
            "tcp",
            "from host, TCP",
            back(host, one, HOST_PORTS),
            one,
            PASS,
        ),
        (
            Hook::ToHost,
            "tcp",
            "from endpoint, TCP",
            answer(one, host),
            host,
            PASS,
        ),
    ];
    for (hook, id, title, frame, place, returns) in rows {
        let (id, title) = names(hook, id, title, family);
        let at = (frame, place.ifindex);
        let mut case = Case::new(
            (Group::FastPath, &id, &title),
            bed.program(hook)?,
            at,
            returns,
        );
        case.treatment = Treatment::Fast;
        cases.push(case);
    }
    Ok(())
}

fn slow(bed: &Bed, family: Family, cases: &mut Vec<Case>) -> Result<()> {
    let (one, two, host) = (&bed.one, &bed.two, &bed.host);
    let stranger = Place {
        ipv4: [10, 200, 0, 99].into(),
        ipv6: host.ipv6,
        ..*one
    };
    let syn = |from, to, ports| tcp(family, from, to, ports, SYN);
    let ends = |[src, dst]: [u16; 2]| [dst, src];
    let (new, again) = ((Vary::New, Treatment::Any), (Vary::Same, Treatment::Again));
    let other = (Vary::Same, Treatment::Any);
    let asks = question(family, one, host);
    let denied = syn(&stranger, two, TCP_PORTS);
    let back = syn(host, one, ends(HOST_PORTS));
    let rows = [
        (
            Hook::FromContainer,
            "new",
            "new flow",
            syn(one, two, [0; 2]),
            one,
            REDIRECT,
            new,
        ),
        (
            Hook::FromHost,
            "new",
            "new flow",
            syn(host, one, [0; 2]),
            host,
            REDIRECT,
            new,
        ),
        (
            Hook::FromContainer,
            "again",
            "decided again",
            syn(one, two, TCP_PORTS),
            one,
            REDIRECT,
            again,
        ),
        (
            Hook::FromHost,
            "again",
            "decided again",
            back.clone(),
            host,
            REDIRECT,
            again,
        ),
        (
            Hook::ToContainer,
            "slow",
            "known flow, slow path",
            back,
            one,
            PASS,
            other,
        ),
        (
            Hook::ToHost,
            "slow",
            "known flow, slow path",
            syn(one, host, HOST_PORTS),
            host,
            PASS,
            other,
        ),
        (
            Hook::FromContainer,
            "denied",
            "denied: spoofed source",
            denied,
            one,
            DROP,
            other,
        ),
        (
            Hook::FromContainer,
            "neighbour",
            "gateway's address",
            asks,
            one,
            REDIRECT,
            other,
        ),
    ];
    for (hook, id, title, frame, place, returns, (vary, treatment)) in rows {
        let (id, title) = names(hook, id, title, family);
        let at = (frame, place.ifindex);
        let mut case = Case::new(
            (Group::SlowPath, &id, &title),
            bed.program(hook)?,
            at,
            returns,
        );
        (case.vary, case.treatment) = (vary, treatment);
        cases.push(case);
    }
    Ok(())
}

pub(crate) fn names(hook: Hook, id: &str, title: &str, family: Family) -> (String, String) {
    let hook = match hook {
        Hook::FromContainer => "from_container",
        Hook::ToContainer => "to_container",
        Hook::FromHost => "from_host",
        Hook::ToHost => "to_host",
        Hook::FromNetdev => "from_netdev",
        Hook::ToNetdev => "to_netdev",
    };
    let family = match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    };
    (
        format!("{hook}/{id}/{family}"),
        format!("{hook} {title}, {family}"),
    )
}

/// Takes a TCP connection through the programs until both sides know it.
fn connect(bed: &Bed, family: Family, ends: (&Place, &Place), ports: [u16; 2]) -> Result<()> {
    let (one, two) = ends;
    let reply = [ports[1], ports[0]];
    say(bed, one, &tcp(family, one, two, ports, SYN))?;
    say(bed, two, &tcp(family, two, one, reply, SYN_ACK))?;
    say(bed, one, &tcp(family, one, two, ports, ESTABLISHED))?;
    Ok(())
}

/// Takes a UDP question and its answer through the programs.
fn talk(bed: &Bed, family: Family, ports: [u16; 2]) -> Result<()> {
    let (one, two) = (&bed.one, &bed.two);
    say(bed, one, &udp(family, one, two, ports))?;
    say(bed, two, &udp(family, two, one, [ports[1], ports[0]]))?;
    Ok(())
}

/// Takes a packet through the program that it meets first; returns how it leaves.
pub(crate) fn say(bed: &Bed, from: &Place, frame: &Frame) -> Result<Vec<u8>> {
    let hook = if from.ifindex == bed.host.ifindex {
        Hook::FromHost
    } else if from.ifindex == bed.far.ifindex {
        Hook::FromNetdev
    } else {
        Hook::FromContainer
    };
    let input = Input {
        frame,
        ifindex: from.ifindex,
        ingress: 0,
        count: 0,
    };
    packet_after(&bed.program(hook)?, input, 1, REDIRECT).context("make flow known")
}

/// Checks that a case does what it says; `entry` is the wrapper in front of its program.
///
/// # Errors
/// When it does something else.
pub(crate) fn check(pins: &Pins, case: &Case, entry: &SchedClassifier) -> Result<()> {
    let input = case.input(0);
    let expected = case.returns;
    if let Some(program) = &case.warmed_by {
        run(program, input, 1)?;
    }
    let once = packet_after(entry, input, 1, expected).with_context(|| case.id.clone())?;
    if case.treatment == Treatment::Any {
        return Ok(());
    }
    let again = case.treatment == Treatment::Again;
    // A flow whose second is just over is decided about rightly; then it is young enough.
    let mut as_said = decides(pins, entry, input)? == again;
    if !as_said {
        as_said = decides(pins, entry, input)? == again;
    }
    let found = if again {
        "by the remembered decision"
    } else {
        "decided about each time"
    };
    ensure!(as_said, "{}: packets are {found}", case.id);
    let often = packet_after(entry, input, 10, expected)?;
    ensure!(
        once == often,
        "{}: the wrapper does not restore the packet",
        case.id
    );
    Ok(())
}

/// Tells whether a packet has its flow decided about.
fn decides(pins: &Pins, entry: &SchedClassifier, input: Input<'_>) -> Result<bool> {
    let before = latest_decision(pins)?;
    sleep(CLOCK_STEP);
    run(entry, input, 10)?;
    Ok(latest_decision(pins)? != before)
}

/// Returns when the latest decision in either table of flows was made.
fn latest_decision(pins: &Pins) -> Result<u64> {
    let mut latest = 0;
    for entry in &table::flows4(pins)? {
        latest = latest.max(entry?.1.decided_ns);
    }
    for entry in &table::flows6(pins)? {
        latest = latest.max(entry?.1.decided_ns);
    }
    Ok(latest)
}
