//! Policy about the node itself: who reaches it, and whom it reaches.

use tests::lab::estate::Estate;
use tests::party::Family;

use super::language::Verdict::{Audited, Denied, Listed, Passes};
use super::language::{RESIDENTS, expect_row};
use super::rows::Row;
use super::talk::Talk;

/// Lets one address in, at one port.
const GUARDED: &str = r#"
[[policy.rule]]
host = "edge-1"
ingress = [{ from = ["198.51.100.2", "2001:db8:51::2"], ports = "tcp/22" }]
"#;
const ENFORCED: &str = "[policy]\nhost = \"enforce\"\n";

/// What holds whatever is said about the node.
const ENDPOINTS: Row = Row {
    name: "endpoints are not affected",
    policy: "",
    tries: &[
        (
            "web > db cache world edge-2, tcp/80 udp/53 icmp large/53",
            Passes,
        ),
        (
            "cache world edge-2 > web, tcp/80 udp/53 icmp large/53",
            Passes,
        ),
    ],
};

const ROWS: [(&str, Row); 6] = [
    (
        GUARDED,
        Row {
            name: "one address reaches one port",
            policy: ENFORCED,
            tries: &[
                ("world > edge-1, tcp/22", Passes),
                ("world > edge-1 host, tcp/80 udp/53 icmp", Denied),
                ("edge-2 cache > edge-1, tcp/22 udp/53 icmp", Denied),
                ("other > edge-1, udp/53", Denied),
                ("web > edge-1 host, tcp/22 udp/53 icmp", Denied),
            ],
        },
    ),
    (
        GUARDED,
        Row {
            name: "what the node itself begins needs no rule, nor do its replies",
            policy: ENFORCED,
            tries: &[
                (
                    "edge-1 > world edge-2 cache web db, tcp/80 udp/53 icmp large/53",
                    Passes,
                ),
                ("world > edge-1, tcp/22", Passes),
            ],
        },
    ),
    (
        "[[policy.rule]]\nhost = true\ningress = []\negress = [{ to = \"world\", ports = \"udp/53\" }, { to = \"web\" }]\n",
        Row {
            name: "what the node begins may be closed too",
            policy: ENFORCED,
            tries: &[
                ("edge-1 > world, udp/53 large/53", Passes),
                ("edge-1 > web, tcp/80 udp/53 icmp", Passes),
                ("edge-1 > world edge-2, tcp/80 icmp", Denied),
                ("edge-1 > edge-2 cache db, udp/53", Denied),
                ("world edge-2 web > edge-1, tcp/22", Denied),
            ],
        },
    ),
    (
        "[[policy.rule]]\nhost = true\ndefault_deny = false\ningress_deny = [{ from = \"remote-node\", ports = \"tcp/22\" }]\negress_deny = [{ to = [\"198.51.100.2\", \"2001:db8:51::2\"], ports = \"tcp/80\" }]\n",
        Row {
            name: "a rule that denies closes nothing else",
            policy: ENFORCED,
            tries: &[
                ("edge-2 > edge-1, tcp/22", Listed),
                ("edge-2 world > edge-1, tcp/80 udp/53 icmp", Passes),
                ("edge-1 > world, tcp/80", Listed),
                ("edge-1 > world edge-2, tcp/443 udp/53", Passes),
            ],
        },
    ),
    (
        "[[policy.rule]]\nhost = true\ningress = []\negress = []\n",
        Row {
            name: "by default it is only watched",
            policy: "",
            tries: &[
                ("world edge-2 > edge-1, tcp/22 udp/53 icmp", Audited),
                ("edge-1 > world edge-2, tcp/80 udp/53 icmp", Audited),
            ],
        },
    ),
    (
        "[[policy.rule]]\nhost = \"edge-2\"\ningress = []\negress = []\n",
        Row {
            name: "a rule about another node means nothing here",
            policy: ENFORCED,
            tries: &[
                ("world edge-2 > edge-1, tcp/22 udp/53 icmp", Passes),
                ("edge-1 > world edge-2, tcp/80 udp/53 icmp", Passes),
            ],
        },
    ),
];

fn expect_rows(host_routing: &str) {
    let net = Estate::new(host_routing, &RESIDENTS);
    for (rules, row) in &ROWS {
        eprintln!("{}", row.name);
        net.apply(0, &format!("{}{rules}", row.policy));
        expect_row(&net, row);
        expect_row(&net, &ENDPOINTS);
    }
}

#[test]
fn nodes_are_guarded_past_the_stack() {
    expect_rows("bpf");
}

#[test]
fn nodes_are_guarded_through_the_stack() {
    expect_rows("legacy");
}

#[test]
fn conversations_of_the_node_outlive_reloads_and_end_with_their_rule() {
    for mode in ["bpf", "legacy"] {
        let net = Estate::new(mode, &RESIDENTS);
        let closed = format!("{ENFORCED}[[policy.rule]]\nhost = true\n");
        let open = |port: u16| {
            format!(
                "{closed}ingress = [{{ from = \"198.18.0.0/15\" }}, {{ from = \"world\" }}, {{ ports = \"tcp/{port}\" }}]\n"
            )
        };
        net.apply(0, &open(1));
        let inward = Family::BOTH.map(|family| Talk::start(&net, "world", "edge-1", family));
        let outward = Family::BOTH.map(|family| Talk::start(&net, "edge-1", "world", family));
        let (mut inward, mut outward) = (Vec::from(inward), Vec::from(outward));

        for port in 2..6 {
            net.apply_lockout(0, &open(port));
            for talk in inward.iter_mut().chain(&mut outward) {
                talk.expect_to_pass();
            }
        }
        net.apply_lockout(0, &format!("{closed}ingress = []\n"));

        Talk::expect_to_stop(&mut inward, mode);
        outward.iter_mut().for_each(Talk::expect_to_pass);
        net.apply_lockout(0, &open(1));
        inward.iter_mut().for_each(Talk::expect_to_go_on);
    }
}
