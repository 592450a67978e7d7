//! `ciliate policy test`: may one party connect to another, and why.
//!
//! Up to two policies are asked, like in the kernel: that of the sender at its node, and that of
//! the receiver at its. Who is not of the file has none.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::super::args::Common;
use super::super::exit;
use super::super::failure::Failure;
use super::cast::{Cast, Party, obstacle};
use super::line::{RuleLine, TermLine, direction};
use super::probe::Probe;
use crate::config::diagnostic::quote;
use crate::config::policy::Enforcement;
use crate::plan::policy::{Decision, Direction, Verdict};
use crate::topology::Topology;
use crate::topology::policy::near::{Miss, near};

/// How many rules that close a direction are named.
const CLOSING_MAX: usize = 3;

/// Is a connection that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    pub from: &'q str,
    pub to: &'q str,
    pub port: &'q str,
}

/// Is what becomes of it.
#[derive(Debug, Serialize)]
struct Answer {
    verdict: &'static str,
    /// Whether it goes through all the same, for all who deny it only watch.
    audited: bool,
    /// What keeps it from getting through whatever policy says.
    obstacle: Option<&'static str>,
    from: String,
    to: String,
    port: String,
    steps: Vec<Step>,
}

/// Is what the policy of one end says.
#[derive(Debug, Serialize)]
struct Step {
    node: String,
    subject: String,
    direction: Direction,
    /// What the node takes the other end for.
    identity: u32,
    identity_name: Option<String>,
    verdict: &'static str,
    audited: bool,
    reason: &'static str,
    /// The term that says so.
    term: Option<TermLine>,
    /// The rules that close this direction.
    closed_by: Vec<RuleLine>,
    nearest: Option<Nearest>,
}

/// Is a term that almost allows it.
#[derive(Debug, Serialize)]
struct Nearest {
    miss: &'static str,
    #[serde(flatten)]
    term: TermLine,
}

/// Tells what becomes of a connection. Returns the exit code: 1 if it is denied.
///
/// # Errors
/// If the file is wrong, or a name or the port means nothing.
pub fn test(
    common: &Common,
    file: &Path,
    question: Question<'_>,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let probe = Probe::parse(question.port)?;
    let cast = Cast::load(file)?;
    let answer = answer(&cast, common, question, &probe)?;
    if common.json {
        let json = serde_json::to_string_pretty(&answer).map_err(std::io::Error::other)?;
        writeln!(out, "{json}")?;
    } else {
        print(&answer, out)?;
    }
    let is_allowed = answer.verdict == word(Decision::Allow);
    Ok(if is_allowed { exit::OK } else { exit::DENIED })
}

fn answer(
    cast: &Cast,
    common: &Common,
    question: Question<'_>,
    probe: &Probe,
) -> Result<Answer, Failure> {
    if common.node.is_some() {
        // It must be one of the file, also where nothing depends on it.
        cast.played(common)?;
    }
    let from = cast.find(question.from, common)?;
    let to = cast.find(question.to, common)?;
    check(cast, from, to)?;
    let port = number(cast, to, probe)?;
    let steps: Vec<_> = [
        (from, Direction::Egress, to),
        (to, Direction::Ingress, from),
    ]
    .into_iter()
    .filter_map(|(subject, direction, other)| step(cast, subject, direction, other, port))
    .collect();
    let denied = || {
        steps
            .iter()
            .filter(|step| step.verdict != word(Decision::Allow))
    };
    let enforced = denied().find(|step| !step.audited);
    let decisive = enforced.or_else(|| denied().next());
    let obstacle = obstacle(from, to);
    let verdict = match obstacle {
        Some(_) => word(Decision::Deny),
        None => decisive.map_or(word(Decision::Allow), |step| step.verdict),
    };
    Ok(Answer {
        verdict,
        audited: obstacle.is_none() && decisive.is_some_and(|step| step.audited),
        obstacle,
        from: cast.name(from),
        to: cast.name(to),
        port: question.port.to_owned(),
        steps,
    })
}

/// Refuses questions that no policy is ever asked.
fn check(cast: &Cast, from: Party, to: Party) -> Result<(), Failure> {
    let is_subject = |party| matches!(party, Party::Subject { .. });
    let (one, other) = (cast.name(from), cast.name(to));
    let text = if from == to {
        format!("{one} and {other} are the same: what somebody sends to itself meets no policy")
    } else if !is_subject(from) && !is_subject(to) {
        format!("neither {one} nor {other} is of this file: no policy of it is asked")
    } else if cast.are_apart(from, to) {
        format!("{one} and {other} have no family of addresses in common")
    } else {
        return Ok(());
    };
    Err(Failure::Usage(text))
}

fn number(cast: &Cast, to: Party, probe: &Probe) -> Result<(u8, u16), Failure> {
    match probe {
        Probe::Port { protocol, port } => Ok((*protocol, *port)),
        Probe::Named { protocol, name } => match cast.port(to, name) {
            Some(port) => Ok((*protocol, port)),
            None => Err(Failure::Usage(format!(
                "{} calls no port {}, and nobody else does; give its number",
                cast.name(to),
                quote(name)
            ))),
        },
    }
}

/// Asks the policy of one end, if it has one.
fn step(
    cast: &Cast,
    subject: Party,
    direction: Direction,
    other: Party,
    port: (u8, u16),
) -> Option<Step> {
    let Party::Subject { node, slot } = subject else {
        return None;
    };
    let topology = &cast.nodes[node];
    let policy = &topology.policy;
    let identity = cast.identity(node, subject, other);
    let verdict = policy.tables.verdict(slot, direction, identity, port);
    let is_denied = verdict.decision != Decision::Allow;
    let side = policy.side(slot, direction)?;
    let closing = side.closed_by.iter();
    let nearest = || {
        let near = near(&cast.config, topology, slot, direction, identity, port)?;
        Some(Nearest {
            miss: miss(near.miss),
            term: TermLine::new(near.term, &policy.terms[&near.term]),
        })
    };
    Some(Step {
        node: topology.node.clone(),
        subject: cast.name(subject),
        direction,
        identity,
        identity_name: policy.names.get(&identity).cloned(),
        verdict: word(verdict.decision),
        audited: is_denied && policy.tables.subjects[&slot].audit,
        reason: reason(cast, topology, (slot, direction), verdict),
        term: policy
            .terms
            .get(&verdict.term)
            .map(|term| TermLine::new(verdict.term, term)),
        closed_by: closing
            .filter_map(|idx| RuleLine::at(&cast.config, *idx))
            .collect(),
        nearest: is_denied.then(nearest).flatten(),
    })
}

fn reason(
    cast: &Cast,
    topology: &Topology,
    (slot, direction): (u16, Direction),
    verdict: Verdict,
) -> &'static str {
    let side = topology.policy.side(slot, direction);
    let is_open = side.is_none_or(|side| side.default.decision == Decision::Allow);
    match (verdict.decision, verdict.term) {
        _ if cast.config.policy.enforcement == Enforcement::Never => "enforcement is `never`",
        (Decision::Allow, 0) if is_open => "no rule closes it",
        (Decision::Allow, 0) => "a node may always reach its own endpoints",
        (Decision::Allow, _) => "a rule allows it",
        (_, 0) => "no rule allows it",
        (_, _) => "a rule denies it, and that goes before all that allow",
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allowed",
        Decision::Deny => "denied",
        Decision::Reject => "rejected",
    }
}

fn miss(miss: Miss) -> &'static str {
    match miss {
        Miss::Overruled => "would allow it, were it not denied",
        Miss::Port => "the same peer, but other ports",
        Miss::Peer => "the same port, but other peers",
    }
}

fn print(answer: &Answer, out: &mut dyn Write) -> Result<(), Failure> {
    let Answer { from, to, port, .. } = answer;
    let audited = audited(answer.audited);
    writeln!(out, "{}{audited}: {from} → {to}, {port}", answer.verdict)?;
    if answer.audited {
        writeln!(
            out,
            "it goes through: what is denied is only reported (audit)"
        )?;
    }
    if let Some(obstacle) = answer.obstacle {
        writeln!(out, "whatever policy says: {obstacle}")?;
    }
    for step in &answer.steps {
        print_step(step, out)?;
    }
    Ok(())
}

fn print_step(step: &Step, out: &mut dyn Write) -> Result<(), Failure> {
    let (way, audited) = (direction(step.direction), audited(step.audited));
    let Step {
        subject,
        node,
        verdict,
        reason,
        ..
    } = step;
    writeln!(out)?;
    let at = if subject == node {
        format!("node {node}")
    } else {
        format!("{subject} on {node}")
    };
    writeln!(out, "{way} of {at}: {verdict}{audited}: {reason}")?;
    if let Some(name) = &step.identity_name {
        writeln!(out, "  other side  {name} (identity {})", step.identity)?;
    }
    match &step.term {
        Some(term) => print_term("decided by", term, out)?,
        None if step.verdict != word(Decision::Allow) => print_closing(step, out)?,
        None => {}
    }
    match &step.nearest {
        Some(nearest) => {
            print_term("nearest", &nearest.term, out)?;
            writeln!(out, "              {}", nearest.miss)?;
        }
        None if step.verdict != word(Decision::Allow) => {
            writeln!(out, "  nearest     nothing allows this peer, or this port")?;
        }
        None => {}
    }
    Ok(())
}

fn print_term(what: &str, term: &TermLine, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "  {what:<11} {}", term.rule.text())?;
    writeln!(out, "              {}", term.says())?;
    Ok(())
}

fn print_closing(step: &Step, out: &mut dyn Write) -> Result<(), Failure> {
    if step.closed_by.is_empty() {
        writeln!(out, "  closed by   enforcement, which is `always`")?;
    }
    for rule in step.closed_by.iter().take(CLOSING_MAX) {
        writeln!(out, "  closed by   {}", rule.text())?;
    }
    let more = step.closed_by.len().saturating_sub(CLOSING_MAX);
    if more > 0 {
        writeln!(out, "              and {more} more rules")?;
    }
    Ok(())
}

fn audited(is_audited: bool) -> &'static str {
    if is_audited { " (audited)" } else { "" }
}
