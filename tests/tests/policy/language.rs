//! Every row of the language, tried with real sockets in both families and both ways of host
//! routing; what is denied must also be counted, at the node that denies it.

use std::fs;

use datapath::verdict::DropReason;
use serde_json::Value;
use tests::lab::attempt::{Attempt, Fate, Means, expect_all};
use tests::lab::estate::{Estate, Resident};
use tests::lab::wait_until;
use tests::party::Family;

use super::rows::{ROWS, Row};

pub(crate) const RESIDENTS: [&[Resident]; 2] = [
    &[
        ("web", "labels = { app = \"web\", tier = \"front\" }"),
        ("api", "labels = { app = \"api\", tier = \"back\" }"),
        ("db", "labels = { app = \"db\" }\nports = { store = 5432 }"),
        ("bare", ""),
        ("lax", "audit = true"),
    ],
    &[
        ("cache", "labels = { app = \"cache\", tier = \"back\" }"),
        ("spare", ""),
    ],
];

/// What a node that is audited as a whole lets through all the same.
const CLOSED: Row = Row {
    name: "audit of one node",
    policy: r#"[[policy.rule]]
endpoints = ["db", "cache"]
ingress = []
"#,
    tries: &[
        ("web cache world > db, tcp/80 udp/53 icmp", Verdict::Audited),
        ("db > cache, tcp/80", Verdict::Passes),
    ],
};

/// Says what becomes of an attempt, and what is counted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passes,
    /// No rule allows it.
    Denied,
    /// A rule denies it.
    Listed,
    /// No rule allows it, and the sender is told.
    Told,
    /// A rule denies it, and the sender is told.
    ListedTold,
    /// It passes, and somebody would have denied it.
    Audited,
}

impl Verdict {
    fn fate(self) -> Fate {
        match self {
            Self::Passes | Self::Audited => Fate::Passes,
            Self::Denied | Self::Listed => Fate::Silence,
            Self::Told | Self::ListedTold => Fate::Told,
        }
    }

    fn reason(self) -> Option<DropReason> {
        match self {
            Self::Passes | Self::Audited => None,
            Self::Denied | Self::Told => Some(DropReason::PolicyDenied),
            Self::Listed | Self::ListedTold => Some(DropReason::PolicyDenyList),
        }
    }
}

/// Reads the attempts of a row: `web > db cache, tcp/80 udp/53`.
fn attempts(row: &Row) -> Vec<(Attempt<'static>, Verdict)> {
    let mut attempts = Vec::new();
    for (line, verdict) in row.tries {
        let (parties, means) = line.split_once(", ").expect("parties, means");
        let (from, to) = parties.split_once(" > ").expect("from > to");
        for from in from.split_whitespace() {
            for to in to.split_whitespace() {
                for means in means.split_whitespace() {
                    let (means, families) = read(means);
                    attempts.extend(families.iter().map(|family| {
                        let attempt = Attempt {
                            from,
                            to,
                            means,
                            family: *family,
                            expected: verdict.fate(),
                        };
                        (attempt, *verdict)
                    }));
                }
            }
        }
    }
    attempts
}

/// Reads means in both families, or in the one that is named as in `v4:tcp/80`.
fn read(means: &'static str) -> (Means, &'static [Family]) {
    let (families, means): (&[Family], _) = match means.split_once(':') {
        Some(("v4", means)) => (&[Family::V4], means),
        Some(("v6", means)) => (&[Family::V6], means),
        _ => (&Family::BOTH, means),
    };
    (Means::parse(means), families)
}

/// Returns how many packets an attempt may take: on one machine an error comes while TCP is still
/// within its call to send, which then learns of it from the next one only, a second later.
fn tries(attempt: &Attempt<'_>) -> u64 {
    let is_tcp = matches!(attempt.means, Means::Tcp(_));
    if is_tcp && attempt.expected == Fate::Told {
        2
    } else {
        1
    }
}

/// Returns how many packets all nodes together dropped for a reason.
fn drops(estate: &Estate, reason: DropReason) -> u64 {
    let nodes = 0..estate.nodes.len();
    let counts = nodes.map(|node| estate.drops(node).get(reason.text()).copied());
    counts.flatten().sum()
}

/// Returns how many packets the policies of the first node and its endpoints would have denied.
fn audits(estate: &Estate) -> u64 {
    let status = estate.status(0);
    let count = |guard: &Value| guard["would_deny"].as_u64().expect("a number");
    let endpoints = status["endpoints"].as_array().expect("a list");
    let endpoints = endpoints.iter().map(|endpoint| count(&endpoint["policy"]));
    endpoints.sum::<u64>() + count(&status["policy"]["host"])
}

pub(crate) fn expect_row(estate: &Estate, row: &Row) {
    let counted = [DropReason::PolicyDenied, DropReason::PolicyDenyList];
    let (attempts, verdicts): (Vec<_>, Vec<_>) = attempts(row).into_iter().unzip();
    let dropped = counted.map(|reason| drops(estate, reason));
    let audited = audits(estate);

    expect_all(estate, row.name, &attempts);

    for (reason, before) in counted.into_iter().zip(dropped) {
        let mut least = 0;
        let mut most = 0;
        for (attempt, verdict) in attempts.iter().zip(&verdicts) {
            if verdict.reason() == Some(reason) {
                least += 1;
                most += tries(attempt);
            }
        }
        let what = format!("{}: {} counts {least}", row.name, reason.text());
        wait_until(&what, || drops(estate, reason) >= before + least);
        let more = drops(estate, reason) - before;
        assert!(more <= most, "{what}, not {more}");
    }
    let watched = verdicts.iter().filter(|one| **one == Verdict::Audited);
    let (watched, seen) = (watched.count() as u64, audits(estate) - audited);
    // What waits for an answer is asked about again.
    let is_counted = seen >= watched && (watched > 0 || seen == 0);
    assert!(is_counted, "{}: {seen} of {watched} are counted", row.name);
}

fn expect_language(host_routing: &str) {
    let estate = Estate::new(host_routing, &RESIDENTS);

    for row in ROWS {
        eprintln!("{}", row.name);
        estate.apply(0, row.policy);
        expect_row(&estate, row);
    }
    estate.apply_text(
        0,
        &estate
            .text(CLOSED.policy)
            .replacen("[[node]]", "[[node]]\naudit = true", 1),
    );
    expect_row(&estate, &CLOSED);
}

#[test]
fn every_row_of_the_language_holds_past_the_stack() {
    expect_language("bpf");
}

#[test]
fn every_row_of_the_language_holds_through_the_stack() {
    expect_language("legacy");
}

/// The rows about SCTP send packets of it by hand where the kernel has none.
#[test]
fn it_is_said_whether_the_kernel_has_sctp() {
    let file = fs::read_to_string("/proc/net/protocols").expect("list the protocols");
    if !file.lines().any(|line| line.starts_with("SCTP")) {
        eprintln!(
            "*** this kernel has no SCTP: single packets of it are tried, no connections ***"
        );
    }
    let rows = ROWS.iter().flat_map(|row| row.tries);
    assert!(rows.into_iter().any(|(line, _)| line.contains("sctp/")));
}
