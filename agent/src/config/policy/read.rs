//! `[policy]`: from the document to a draft, and from a draft without errors to a [`Policy`].

use std::collections::BTreeSet;
use std::fmt;

use toml::Spanned;

use super::peer::PeerDraft;
use super::rule::{self, RULE, RuleDraft, SubjectDraft};
use super::term::TermDraft;
use super::{Enforcement, Peer, Policy, Rule, Subject, Term};
use crate::config::diagnostic::Diagnostic;
use crate::config::draft;
use crate::config::source::Source;
use crate::config::table::{Entry, Field, Keys, inner};
use crate::config::value;

static POLICY: Keys = Keys {
    table: "[policy]",
    known: &["enforcement", "audit", "host", "rule"],
    later: &[],
};

/// Tells what rules about nodes do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum HostMode {
    Audit,
    Enforce,
}

impl fmt::Display for HostMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        })
    }
}

#[derive(Default)]
pub(in crate::config) struct PolicyDraft {
    pub enforcement: Field<Enforcement>,
    pub audit: Field<bool>,
    pub host: Field<HostMode>,
    pub rules: Vec<RuleDraft>,
}

pub(in crate::config) fn read(entry: &Entry<'_>, errors: &mut Vec<Diagnostic>) -> PolicyDraft {
    let Some(mut table) = inner(entry, &POLICY, errors) else {
        return PolicyDraft::default();
    };
    let draft = PolicyDraft {
        enforcement: table.read("enforcement", enforcement, errors),
        audit: table.read("audit", value::boolean, errors),
        host: table.read("host", host_mode, errors),
        rules: draft::tables(table.take("rule"), &RULE, errors, rule::read),
    };
    table.finish(errors);
    draft
}

fn enforcement(entry: &Entry<'_>) -> Result<Enforcement, Diagnostic> {
    let choices = [
        Enforcement::Default,
        Enforcement::Always,
        Enforcement::Never,
    ];
    value::choice(entry, "enforcement", &choices)
}

fn host_mode(entry: &Entry<'_>) -> Result<HostMode, Diagnostic> {
    let choices = [HostMode::Audit, HostMode::Enforce];
    value::choice(entry, "host policy", &choices)
}

/// Is what rules need to know of the rest of the file.
struct File<'a> {
    nodes: &'a BTreeSet<&'a str>,
    source: &'a Source,
}

impl PolicyDraft {
    /// Completes a draft without errors; every name that is not one of `nodes` is an endpoint's.
    pub(in crate::config) fn complete(self, nodes: &BTreeSet<&str>, source: &Source) -> Policy {
        let file = File { nodes, source };
        Policy {
            enforcement: self.enforcement.into_value().unwrap_or_default(),
            audit: self.audit.into_value().unwrap_or_default(),
            enforces_host: self.host.into_value() == Some(HostMode::Enforce),
            rules: self
                .rules
                .into_iter()
                .filter_map(|rule| rule.complete(&file))
                .collect(),
        }
    }
}

impl RuleDraft {
    fn complete(self, file: &File<'_>) -> Option<Rule> {
        let terms = |drafts: Option<Vec<TermDraft>>| {
            let complete = |drafts: Vec<_>| drafts.into_iter().map(|t: TermDraft| t.complete(file));
            drafts.map(|drafts| complete(drafts).collect())
        };
        Some(Rule {
            place: file.source.place(self.span.start),
            description: self.description.into_value(),
            subject: self.subject.complete()?,
            default_deny: self.default_deny.into_value().unwrap_or(true),
            reject: self.reject.into_value().unwrap_or_default(),
            ingress: terms(self.ingress),
            egress: terms(self.egress),
            ingress_deny: terms(self.ingress_deny),
            egress_deny: terms(self.egress_deny),
        })
    }
}

impl SubjectDraft {
    fn complete(self) -> Option<Subject> {
        let set = |names: Vec<_>| names.into_iter().map(Spanned::into_inner).collect();
        match self {
            Self::Endpoints { selectors, names } => Some(Subject::Endpoints {
                selectors,
                names: set(names),
            }),
            Self::Host { nodes } => Some(Subject::Host { nodes: set(nodes) }),
            Self::Refused => None,
        }
    }
}

impl TermDraft {
    fn complete(self, file: &File<'_>) -> Term {
        let peers = self.peers.into_iter().map(Spanned::into_inner);
        Term {
            place: file.source.place(self.span.start),
            peers: peers
                .map(|peer| match peer {
                    PeerDraft::Known(peer) => peer,
                    PeerDraft::Name(name) if file.nodes.contains(name.as_str()) => Peer::Node(name),
                    PeerDraft::Name(name) => Peer::Endpoint(name),
                })
                .collect(),
            ports: self
                .ports
                .into_iter()
                .flat_map(Spanned::into_inner)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::policy::{Entity, Ports, Requirement, Selector};
    use crate::config::{Config, Kind};

    use super::*;

    /// Two nodes with an endpoint each.
    const FILE: &str = r#"
[[node]]
name = "edge-1"
ipv4 = "10.0.1.0/24"
audit = true

[[node]]
name = "edge-2"
ipv4 = "10.0.2.0/24"

[[endpoint]]
node = "edge-1"
name = "web"
ports = { http = 8080 }

[[endpoint]]
node = "edge-2"
name = "db"
audit = true
"#;

    fn config(policy: &str) -> Config {
        let text = format!("{FILE}{policy}");
        Config::parse("a.toml", &text).unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    fn rule(rule: &str) -> Rule {
        let policy = config(&format!("[[policy.rule]]\n{rule}")).policy;
        policy.rules.into_iter().next().expect("one rule")
    }

    fn kinds(rule: &str) -> Vec<Kind> {
        let text = format!("{FILE}[[policy.rule]]\n{rule}");
        let errors = Config::parse("a.toml", &text).expect_err(rule);
        errors.into_iter().map(|error| error.kind).collect()
    }

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn peers(from: &str) -> Vec<Peer> {
        let rule = rule(&format!(
            "endpoints = {{}}\ningress = [{{ from = {from} }}]"
        ));
        let mut terms = rule.ingress.expect("ingress");
        terms.remove(0).peers
    }

    #[test]
    fn a_file_without_policy_has_the_default_one() {
        assert_eq!(config("").policy, Policy::default());
        assert_eq!(
            config("[policy]\nhost = \"audit\"").policy,
            Policy::default()
        );
    }

    #[test]
    fn settings_of_policy_nodes_and_endpoints_are_read() {
        let config = config("[policy]\nenforcement = \"always\"\naudit = true\nhost = \"enforce\"");

        assert_eq!(config.policy.enforcement, Enforcement::Always);
        assert!(config.policy.audit && config.policy.enforces_host);
        assert!(config.nodes[0].audit && !config.nodes[1].audit);
        assert!(!config.endpoints[0].audit && config.endpoints[1].audit);
        let ports = BTreeMap::from([("http".to_owned(), 8080)]);
        assert_eq!(config.endpoints[0].ports, ports);
    }

    #[test]
    fn a_rule_has_defaults_and_says_nothing_of_other_directions() {
        let rule = rule("endpoints = \"web\"\ningress = []");

        assert!(rule.default_deny && !rule.reject);
        assert_eq!(rule.place, "a.toml:20:1");
        assert_eq!(rule.ingress, Some(Vec::new()));
        assert_eq!(rule.egress, None);
        assert_eq!((rule.ingress_deny, rule.egress_deny), (None, None));
    }

    #[test]
    fn subjects_are_selectors_and_names_or_nodes() {
        let subject = |text: &str| rule(&format!("{text}\negress = []")).subject;
        let selected = |selectors: Vec<Selector>, names: &[&str]| Subject::Endpoints {
            selectors,
            names: set(names),
        };
        let host = |nodes: &[&str]| Subject::Host { nodes: set(nodes) };

        let all = Selector::default();
        assert_eq!(subject("endpoints = {}"), selected(vec![all.clone()], &[]));
        assert_eq!(
            subject("endpoints = [\"web\", {}]"),
            selected(vec![all], &["web"])
        );
        assert_eq!(subject("host = true"), host(&[]));
        assert_eq!(subject("host = \"edge-1\""), host(&["edge-1"]));
        assert_eq!(
            subject("host = [\"edge-2\", \"edge-1\"]"),
            host(&["edge-1", "edge-2"])
        );
    }

    #[test]
    fn a_string_is_an_entity_an_address_or_a_name() {
        let cidr = |prefix: &str| Peer::Cidr {
            prefix: prefix.parse().expect("a prefix"),
            except: Vec::new(),
        };

        assert_eq!(peers("\"world\""), [Peer::Entity(Entity::World)]);
        assert_eq!(
            peers("[\"203.0.113.7\", \"2001:db8::1\", \"10.0.0.0/8\"]"),
            ["203.0.113.7/32", "2001:db8::1/128", "10.0.0.0/8"].map(cidr)
        );
        assert_eq!(
            peers("[\"db\", \"edge-2\"]"),
            [
                Peer::Endpoint("db".to_owned()),
                Peer::Node("edge-2".to_owned())
            ]
        );
    }

    #[test]
    fn a_table_is_a_prefix_or_a_selector() {
        let found = peers(
            "[{ cidr = \"10.0.0.0/8\", except = \"10.1.0.0/16\" },
              { app = [\"a\", \"b\"], new = true, old = false, not = { tier = \"x\" } }]",
        );

        let requirement = |key: &str, what| (key.to_owned(), what);
        let selector = Selector {
            requirements: BTreeMap::from([
                requirement("app", Requirement::In(set(&["a", "b"]))),
                requirement("new", Requirement::Exists),
                requirement("old", Requirement::Absent),
            ]),
            not: Some(BTreeMap::from([requirement(
                "tier",
                Requirement::In(set(&["x"])),
            )])),
        };
        let cidr = Peer::Cidr {
            prefix: "10.0.0.0/8".parse().expect("a prefix"),
            except: vec!["10.1.0.0/16".parse().expect("a prefix")],
        };
        assert_eq!(found, [cidr, Peer::Selector(selector)]);
    }

    #[test]
    fn a_term_knows_its_place_and_all_its_ports() {
        let rule = rule(
            "endpoints = {}\negress = [\n  { to = \"all\" },\n  { ports = [\"any/53\", \"tcp\"] },\n]",
        );

        let terms = rule.egress.expect("egress");
        assert_eq!(terms[1].place, "a.toml:24:3");
        assert_eq!(terms[1].peers, []);
        assert_eq!(terms[1].ports.len(), 4);
        assert_eq!(terms[1].ports[3], Ports::Protocol(6));
    }

    #[test]
    fn everybody_has_to_be_written() {
        assert_eq!(kinds("endpoints = {}\ningress = [{}]"), [Kind::Empty]);
        assert_eq!(
            kinds("endpoints = {}\ningress = [{ from = [] }]"),
            [Kind::Empty]
        );
        assert_eq!(kinds("endpoints = []\ningress = []"), [Kind::Empty]);
        assert_eq!(kinds("endpoints = {}"), [Kind::Empty]);
        assert_eq!(kinds("ingress = []"), [Kind::BadSubject]);
    }

    #[test]
    fn a_name_of_a_node_and_an_endpoint_is_reported_where_it_is_given() {
        let text = "[[node]]\nname = \"a\"\nipv4 = \"10.0.1.0/24\"\n[[endpoint]]\nname = \"a\"\n\
                    [[policy.rule]]\nendpoints = {}\ningress = [{ from = \"a\" }]";

        let errors = Config::parse("a.toml", text).expect_err("two of one name");

        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].kind, Kind::DuplicateName);
    }
}
