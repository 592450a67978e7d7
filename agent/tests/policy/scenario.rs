//! Single rules and what they come to, one case each.

use std::net::IpAddr;

use ciliate::config::Config;
use ciliate::plan::policy::{Decision, Direction, Entry, EntryKey, Subject, Verdict};
use ciliate::topology::{Topology, resolve};

use Decision::{Allow, Deny, Reject};
use Direction::{Egress, Ingress};

const NODES: &str = r#"
[[node]]
name = "n1"
address = "192.0.2.1"
ipv4 = "10.0.1.0/24"

[[node]]
name = "n2"
address = "192.0.2.2"
ipv4 = "10.0.2.0/24"

[[endpoint]]
node = "n1"
name = "a"
labels = { app = "web" }
ports = { http = 8080 }

[[endpoint]]
node = "n1"
name = "b"
labels = { app = "web" }

[[endpoint]]
node = "n2"
name = "c"
labels = { app = "db" }
"#;

const HOST: u32 = 1;
const HEALTH: u32 = 4;
const REMOTE_NODE: u32 = 6;

fn at(node: &str, policy: &str) -> Topology {
    let config = Config::parse("a.toml", &format!("{NODES}{policy}")).expect("a good file");
    resolve(&config, Some(node), None).expect("a good policy")
}

/// Asks the policy of the first endpoint of a node, or of the node itself with slot 0.
fn decide(at: &Topology, slot: u16, direction: Direction, identity: u32, port: u16) -> Decision {
    let tables = &at.policy.tables;
    tables
        .verdict(slot, direction, identity, (6, port))
        .decision
}

fn who(at: &Topology, address: &str) -> u32 {
    let address: IpAddr = address.parse().expect("an address");
    at.policy.tables.identity_of(address)
}

#[test]
fn without_rules_nobody_has_a_policy() {
    let n1 = at("n1", "");

    let policies = n1.policy.tables.subjects.values();
    assert!(
        policies
            .map(|subject| subject.policy)
            .all(|policy| policy == 0)
    );
    assert!(n1.policy.tables.entries.is_empty());
}

#[test]
fn a_rule_closes_the_direction_that_it_speaks_of_and_no_other() {
    let n1 = at("n1", "[[policy.rule]]\nendpoints = \"a\"\ningress = []");

    let slot = n1.endpoints[0].id;
    assert_eq!(decide(&n1, slot, Ingress, HEALTH, 80), Deny);
    assert_eq!(decide(&n1, slot, Egress, HEALTH, 80), Allow);
    let key = EntryKey {
        subject: n1.endpoints[0].identity,
        direction: Egress,
        identity: 0,
    };
    let open = Entry {
        row: 0,
        verdict: Verdict {
            decision: Allow,
            term: 0,
        },
    };
    assert_eq!(n1.policy.tables.entries.get(&key), Some(&open));
}

#[test]
fn a_node_may_reach_its_endpoints_unless_it_is_denied() {
    let closed = "[[policy.rule]]\nendpoints = \"a\"\ningress = []\n";
    let denied = format!("{closed}ingress_deny = [{{ from = \"host\", ports = \"tcp/22\" }}]");
    let (closed, denied) = (at("n1", closed), at("n1", &denied));

    let slot = closed.endpoints[0].id;
    assert_eq!(decide(&closed, slot, Ingress, HOST, 22), Allow);
    assert_eq!(decide(&closed, slot, Ingress, REMOTE_NODE, 22), Deny);
    assert_eq!(decide(&denied, slot, Ingress, HOST, 22), Deny);
    assert_eq!(decide(&denied, slot, Ingress, HOST, 80), Allow);
}

#[test]
fn whoever_is_kept_out_is_told_so_if_a_rule_that_closes_says_so() {
    let rule = "[[policy.rule]]\nendpoints = \"a\"\ningress = []\n";
    let telling = format!("{rule}[[policy.rule]]\nendpoints = \"a\"\nreject = true\ningress = []");
    let open = telling.replace("reject = true\n", "reject = true\ndefault_deny = false\n")
        + "\ningress_deny = [{ from = \"world\" }]";

    let asked = |policy: &str| {
        let n1 = at("n1", policy);
        decide(&n1, n1.endpoints[0].id, Ingress, HEALTH, 80)
    };
    assert_eq!(asked(rule), Deny);
    assert_eq!(asked(&telling), Reject);
    assert_eq!(asked(&open), Deny, "that rule closes nothing");
}

#[test]
fn enforcement_always_locks_nobody_out_of_a_node_without_rules() {
    let always = "[policy]\nenforcement = \"always\"\n";
    let ruled = format!("{always}[[policy.rule]]\nhost = true\ningress = []");
    let (n1, ruled) = (at("n1", always), at("n1", &ruled));

    assert_eq!(decide(&n1, n1.endpoints[0].id, Egress, HEALTH, 80), Deny);
    assert_eq!(decide(&n1, 0, Ingress, REMOTE_NODE, 22), Allow);
    assert_eq!(decide(&ruled, 0, Ingress, REMOTE_NODE, 22), Deny);
    assert_eq!(decide(&ruled, 0, Egress, REMOTE_NODE, 22), Deny);
}

#[test]
fn a_node_that_a_rule_names_has_an_identity_of_its_own_elsewhere() {
    let rule = "[[policy.rule]]\nendpoints = {}\ningress = [{ from = \"n2\" }]";
    let (n1, n2) = (at("n1", rule), at("n2", rule));

    let named = who(&n1, "192.0.2.2");
    assert_eq!(named >> 24, 2, "{named:#x}");
    assert_eq!(who(&n2, "192.0.2.2"), HOST);
    assert_eq!(who(&n2, "192.0.2.1"), REMOTE_NODE);
    assert_eq!(decide(&n1, n1.endpoints[0].id, Ingress, named, 80), Allow);
    assert_eq!(n1.policy.names[&named], "n2");
}

#[test]
fn cidrs_mean_neither_nodes_nor_endpoints_but_the_rest_of_their_pools() {
    let n1 = at(
        "n1",
        "[[policy.rule]]\nendpoints = \"a\"\negress = [{ to = \"0.0.0.0/0\" }]",
    );

    let slot = n1.endpoints[0].id;
    let decide = |address| decide(&n1, slot, Egress, who(&n1, address), 80);
    assert_eq!(who(&n1, "192.0.2.1"), HOST);
    assert_eq!(decide("192.0.2.1"), Deny);
    assert_eq!(decide("192.0.2.2"), Deny);
    assert_eq!(decide("10.0.2.2"), Deny, "the endpoint c");
    assert_eq!(decide("10.0.2.99"), Allow);
    assert_eq!(decide("8.8.8.8"), Allow);
}

#[test]
fn endpoints_with_the_same_labels_may_call_different_ports_so() {
    let rule = "[[policy.rule]]\nendpoints = { app = \"web\" }\n\
                ingress = [{ ports = \"tcp/http\" }]";
    let n1 = at("n1", rule);

    let [a, b] = [0, 1].map(|place: usize| n1.endpoints[place].id);
    let policy = |slot: u16| n1.policy.tables.subjects[&slot].policy;
    assert_ne!(policy(a), policy(b));
    assert_eq!(decide(&n1, a, Ingress, HEALTH, 8080), Allow);
    assert_eq!(decide(&n1, a, Ingress, HEALTH, 80), Deny);
    assert_eq!(decide(&n1, b, Ingress, HEALTH, 80), Allow);
}

#[test]
fn endpoints_to_which_the_same_terms_apply_share_a_policy() {
    let all = "[[policy.rule]]\nendpoints = {}\ningress = [{ from = \"cluster\" }]\n";
    let own = format!("{all}[[policy.rule]]\nendpoints = \"a\"\negress = []");

    let policies = |policy: &str| {
        let n1 = at("n1", policy);
        let of = |place: usize| n1.policy.tables.subjects[&n1.endpoints[place].id].policy;
        (of(0), of(1))
    };
    let (a, b) = policies(all);
    assert_eq!(a, b);
    let (a, b) = policies(&own);
    assert_ne!(a, b);
}

#[test]
fn a_rule_about_one_family_of_the_world_tells_the_families_apart() {
    let one = at("n1", "");
    let rule = "[[policy.rule]]\nhost = true\ningress = [{ from = \"world-ipv4\" }]";
    let both = at("n1", rule);

    assert_eq!((who(&one, "8.8.8.8"), who(&one, "2600::1")), (2, 2));
    assert_eq!((who(&both, "8.8.8.8"), who(&both, "2600::1")), (9, 10));
    assert_eq!(decide(&both, 0, Ingress, 9, 22), Allow);
    assert_eq!(decide(&both, 0, Ingress, 10, 22), Deny);
}

#[test]
fn rules_about_a_node_are_only_audited_until_the_file_enforces_them() {
    let rule = "[[policy.rule]]\nhost = true\ningress = []";
    let enforced = format!("[policy]\nhost = \"enforce\"\n{rule}");

    let audit = |policy: &str| {
        let tables = at("n1", policy).policy.tables;
        let Subject { policy, audit, .. } = tables.subjects[&0];
        assert_eq!(policy, HOST);
        audit
    };
    assert!(audit(rule));
    assert!(!audit(&enforced));
}

#[test]
fn the_first_of_several_terms_that_allow_the_same_is_credited() {
    let rule = "[[policy.rule]]\nendpoints = \"a\"\n\
                ingress = [{ from = \"health\", ports = \"tcp/80-90\" }, { ports = \"tcp/85\" }]";
    let n1 = at("n1", rule);

    let tables = &n1.policy.tables;
    let term = |identity, port| {
        let verdict = tables.verdict(n1.endpoints[0].id, Ingress, identity, (6, port));
        n1.policy.terms[&verdict.term].ports.clone()
    };
    assert_eq!(term(HEALTH, 85), "tcp/80-90");
    assert_eq!(term(REMOTE_NODE, 85), "tcp/85");
}
