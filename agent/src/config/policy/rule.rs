//! `[[policy.rule]]`: whom a rule is about, and what it says.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::Selector;
use super::selector;
use super::term::{self, EGRESS, EGRESS_DENY, INGRESS, INGRESS_DENY, TermDraft};
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::list;
use crate::config::table::{Entry, Field, Keys, Table, wrong_type};
use crate::config::value;

pub(super) static RULE: Keys = Keys {
    table: "[[policy.rule]]",
    known: &[
        "description",
        "endpoints",
        "host",
        "default_deny",
        "reject",
        "ingress",
        "egress",
        "ingress_deny",
        "egress_deny",
    ],
    later: &[],
};

/// Keys of which a rule has at least one.
const DIRECTIONS: [&str; 4] = ["ingress", "egress", "ingress_deny", "egress_deny"];

pub(in crate::config) struct RuleDraft {
    /// The header of the table.
    pub span: Range<usize>,
    pub description: Field<String>,
    pub subject: SubjectDraft,
    pub default_deny: Field<bool>,
    pub reject: Field<bool>,
    pub ingress: Option<Vec<TermDraft>>,
    pub egress: Option<Vec<TermDraft>>,
    pub ingress_deny: Option<Vec<TermDraft>>,
    pub egress_deny: Option<Vec<TermDraft>>,
}

/// Is whom a rule is about; names are not looked up.
pub(in crate::config) enum SubjectDraft {
    Endpoints {
        selectors: Vec<Selector>,
        names: Vec<Spanned<String>>,
    },
    /// No names are all nodes.
    Host { nodes: Vec<Spanned<String>> },
    /// Neither or both: reported already.
    Refused,
}

impl RuleDraft {
    /// Lists the terms of all directions.
    pub(in crate::config) fn terms(&self) -> impl Iterator<Item = &TermDraft> {
        [
            &self.ingress,
            &self.egress,
            &self.ingress_deny,
            &self.egress_deny,
        ]
        .into_iter()
        .flatten()
        .flatten()
    }
}

pub(super) fn read(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> RuleDraft {
    let subject = subject(table, errors);
    let rule = RuleDraft {
        span: table.span.clone(),
        description: table.read("description", description, errors),
        subject,
        default_deny: table.read("default_deny", value::boolean, errors),
        reject: table.read("reject", value::boolean, errors),
        ingress: term::read(table, &INGRESS, errors),
        egress: term::read(table, &EGRESS, errors),
        ingress_deny: term::read(table, &INGRESS_DENY, errors),
        egress_deny: term::read(table, &EGRESS_DENY, errors),
    };
    check_says_something(&rule, table, errors);
    check_reject(&rule, errors);
    rule
}

/// Reads a text on one line.
fn description(entry: &Entry<'_>) -> Result<String, Diagnostic> {
    let text = value::string(entry)?;
    if text.chars().any(char::is_control) {
        let message = "description has a line break or another control character";
        return Err(Diagnostic::new(Kind::BadValue, entry.span.clone(), message));
    }
    Ok(text.to_owned())
}

fn subject(table: &mut Table<'_>, errors: &mut Vec<Diagnostic>) -> SubjectDraft {
    match (table.take("endpoints"), table.take("host")) {
        (Some(entry), None) => endpoints(&entry, errors),
        (None, Some(entry)) => host(&entry, errors),
        (Some(endpoints), Some(host)) => {
            let message = "a rule is about endpoints or about nodes, not both";
            let error = Diagnostic::new(Kind::BadSubject, host.key_span, message);
            errors.push(
                error
                    .other(endpoints.key_span, "the endpoints")
                    .help("write two rules"),
            );
            SubjectDraft::Refused
        }
        (None, None) => {
            if !table.misspells("endpoints") && !table.misspells("host") {
                let message = "[[policy.rule]] has neither `endpoints` nor `host`";
                let error = Diagnostic::new(Kind::BadSubject, table.span.clone(), message);
                errors.push(error.help(
                    "say whom it is about, as in `endpoints = { app = \"web\" }`; `{}` is all",
                ));
            }
            SubjectDraft::Refused
        }
    }
}

fn endpoints(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> SubjectDraft {
    let (mut selectors, mut names) = (Vec::new(), Vec::new());
    let items = list::items(entry);
    if items.is_empty() {
        errors.push(nobody(entry, "write `endpoints = {}` for all endpoints"));
    }
    for item in items {
        match item.value {
            DeValue::Table(_) => selectors.push(selector::read(&item, errors)),
            DeValue::String(name) => names.push(Spanned::new(item.span, name.to_string())),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => errors.push(
                wrong_type(&item, "a selector, a name or an array of them")
                    .help("write `endpoints = {}` for all endpoints"),
            ),
        }
    }
    SubjectDraft::Endpoints { selectors, names }
}

fn host(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> SubjectDraft {
    let all = "write `host = true` for all nodes";
    let mut nodes = Vec::new();
    if entry.value.as_bool() == Some(true) {
        return SubjectDraft::Host { nodes };
    }
    let items = list::items(entry);
    if items.is_empty() {
        errors.push(nobody(entry, all));
    }
    for item in items {
        if let Some(name) = item.value.as_str() {
            nodes.push(Spanned::new(item.span, name.to_owned()));
        } else {
            let expected = "`true`, the name of a node or an array of names";
            errors.push(wrong_type(&item, expected).help(all));
        }
    }
    SubjectDraft::Host { nodes }
}

fn nobody(entry: &Entry<'_>, help: &str) -> Diagnostic {
    let message = format!("{} is empty", quote(entry.key));
    Diagnostic::new(Kind::Empty, entry.span.clone(), message).help(help)
}

fn check_says_something(rule: &RuleDraft, table: &Table<'_>, errors: &mut Vec<Diagnostic>) {
    let speaks = [
        &rule.ingress,
        &rule.egress,
        &rule.ingress_deny,
        &rule.egress_deny,
    ];
    if speaks.iter().any(|terms| terms.is_some())
        || DIRECTIONS.iter().any(|key| table.misspells(key))
    {
        return;
    }
    let message = "[[policy.rule]] allows and denies nothing";
    errors.push(
        Diagnostic::new(Kind::Empty, rule.span.clone(), message)
            .help("add `ingress`, `egress`, `ingress_deny` or `egress_deny`"),
    );
}

/// A rule that keeps nobody out has nobody to tell.
fn check_reject(rule: &RuleDraft, errors: &mut Vec<Diagnostic>) {
    let (Some(reject), Some(default_deny)) = (rule.reject.given(), rule.default_deny.given())
    else {
        return;
    };
    let denies = rule.ingress_deny.is_some() || rule.egress_deny.is_some();
    if *reject.get_ref() && !*default_deny.get_ref() && !denies {
        let message = "`reject` does nothing in a rule that keeps nobody out";
        errors.push(
            Diagnostic::new(Kind::NoEffect, reject.span(), message)
                .other(default_deny.span(), "closes nothing")
                .help("leave `reject` out"),
        );
    }
}
