//! What masquerade costs: packets of established connections between an endpoint and the outside,
//! and packets of the node itself, which pass the same programs untouched.
//!
//! ```text
//!   endpoint ──► from_container: translated, redirect_neigh ──► to_netdev: passes ──► outside
//!   endpoint ◄── redirect_peer, translated back: from_netdev ◄─────────────────────── outside
//!   node     ──► to_netdev: passes              node ◄── from_netdev: passes
//! ```
//!
//! The endpoint's ports lie outside the range, so that addresses and ports are translated.

use anyhow::Result;
use datapath::hook::Hook;

use crate::bed::Bed;
use crate::case::{Case, Group, PASS, REDIRECT, Treatment, names, say};
use crate::frame::{ESTABLISHED, Family, Frame, SYN, SYN_ACK, tcp, udp};
use crate::report::Sum;

const TCP_PORTS: [u16; 2] = [40_010, 443];
const UDP_PORTS: [u16; 2] = [40_011, 53];
const HOST_PORTS: [u16; 2] = [22, 40_012];

/// Is a connection that both sides know, as packets at the hooks.
struct Connection {
    /// As the endpoint sends it.
    sent: Frame,
    /// The same packet on its way out.
    leaving: Frame,
    /// As the outside answers it.
    reply: Frame,
}

/// Adds the cases of a family, and makes the flows that they need known.
///
/// # Errors
/// When a program does not do what a case says.
pub(crate) fn add(bed: &Bed, family: Family, cases: &mut Vec<Case>) -> Result<()> {
    for (protocol, connection) in [("tcp", connect(bed, family)?), ("udp", talk(bed, family)?)] {
        let Connection {
            sent,
            leaving,
            reply,
        } = connection;
        let protocol_title = protocol.to_uppercase();
        let id = format!("world/{protocol}");
        let out = format!("endpoint to world, {protocol_title}");
        let back = format!("its reply, {protocol_title}");
        let hook = Hook::FromContainer;
        let frame = (sent.translated(family), bed.one.ifindex);
        cases.push(fast(bed, family, (hook, &id, &out), frame, REDIRECT)?);
        let frame = (leaving, bed.far.ifindex);
        let mut case = case(bed, family, (Hook::ToNetdev, &id, &out), frame, PASS)?;
        case.ingress = bed.one.ifindex;
        cases.push(case);
        let frame = (reply.translated(family), bed.far.ifindex);
        let hook = Hook::FromNetdev;
        cases.push(fast(bed, family, (hook, &id, &back), frame, REDIRECT)?);
    }
    let answer = tcp(family, &bed.outer, &bed.far, HOST_PORTS, ESTABLISHED);
    let [own, other] = HOST_PORTS;
    let question = tcp(family, &bed.far, &bed.outer, [other, own], ESTABLISHED);
    for (hook, title, frame) in [
        (Hook::ToNetdev, "node to world, TCP", answer),
        (Hook::FromNetdev, "world to node, TCP", question),
    ] {
        let frame = (frame, bed.far.ifindex);
        cases.push(case(bed, family, (hook, "node/tcp", title), frame, PASS)?);
    }
    Ok(())
}

/// Lists the sums of what one packet passes.
pub(crate) fn sums() -> Vec<Sum> {
    let mut sums = Vec::new();
    for family in ["v4", "v6"] {
        for protocol in ["tcp", "udp"] {
            let id = format!("world/{protocol}/{family}");
            sums.push(Sum {
                title: format!(
                    "whole node: endpoint to world, {}, {family}",
                    protocol.to_uppercase()
                ),
                parts: ["from_container", "to_netdev"].map(|hook| format!("{hook}/{id}")),
                id: format!("node/{id}"),
                group: Group::Masquerade,
            });
        }
    }
    sums
}

fn fast(
    bed: &Bed,
    family: Family,
    name: (Hook, &str, &str),
    frame: (Frame, u32),
    returns: u32,
) -> Result<Case> {
    let mut case = case(bed, family, name, frame, returns)?;
    case.treatment = Treatment::Fast;
    Ok(case)
}

fn case(
    bed: &Bed,
    family: Family,
    (hook, id, title): (Hook, &str, &str),
    frame: (Frame, u32),
    returns: u32,
) -> Result<Case> {
    let (id, title) = names(hook, id, title, family);
    let name = (Group::Masquerade, id.as_str(), title.as_str());
    Ok(Case::new(name, bed.program(hook)?, frame, returns))
}

/// Takes a TCP connection through the programs until both sides know it.
fn connect(bed: &Bed, family: Family) -> Result<Connection> {
    let (one, far) = (&bed.one, &bed.far);
    let opening = tcp(family, one, far, TCP_PORTS, SYN);
    let opening = opening.passing(say(bed, one, &opening)?);
    let ports = reversed(opening.ports());
    say(bed, far, &tcp(family, far, &bed.outer, ports, SYN_ACK))?;
    let sent = tcp(family, one, far, TCP_PORTS, ESTABLISHED);
    Ok(Connection {
        leaving: sent.passing(say(bed, one, &sent)?),
        reply: tcp(family, far, &bed.outer, ports, ESTABLISHED),
        sent,
    })
}

/// Takes UDP questions and an answer through the programs.
fn talk(bed: &Bed, family: Family) -> Result<Connection> {
    let (one, far) = (&bed.one, &bed.far);
    let sent = udp(family, one, far, UDP_PORTS);
    let leaving = sent.passing(say(bed, one, &sent)?);
    let reply = udp(family, far, &bed.outer, reversed(leaving.ports()));
    say(bed, far, &reply)?;
    say(bed, one, &sent)?;
    Ok(Connection {
        sent,
        leaving,
        reply,
    })
}

fn reversed([src, dst]: [u16; 2]) -> [u16; 2] {
    [dst, src]
}
