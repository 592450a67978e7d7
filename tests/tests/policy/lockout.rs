//! Whoever applies a policy over the network is not locked out by it unawares.
//!
//! The agent's ancestors are this process, which serves the connection as an SSH server would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tests::lab::attempt::{Attempt, Fate, Means, expect_all};
use tests::lab::estate::Estate;
use tests::lab::{PATIENCE, uninterrupted};
use tests::party::Family;

use super::language::RESIDENTS;

const PORT: u16 = 2222;
pub(super) const CLOSED: &str =
    "[policy]\nhost = \"enforce\"\n[[policy.rule]]\nhost = true\ningress = []\n";

/// Is somebody from the world who has logged in, and the server's end of it.
pub(super) struct Login {
    client: TcpStream,
    server: TcpStream,
}

impl Login {
    pub(super) fn new(net: &Estate, from: &str, to: &str, family: Family) -> Self {
        let address = net.address(to, family);
        let listener = net.place(to).inside(|| TcpListener::bind((address, PORT)));
        let listener = listener.expect("listen");
        let target = listener.local_addr().expect("bound");
        let client = net
            .place(from)
            .inside(|| TcpStream::connect_timeout(&target, PATIENCE));
        let (server, _) = listener.accept().expect("accept");
        Self {
            client: client.expect("connect"),
            server,
        }
    }

    /// Tells whether somebody can log in now.
    pub(super) fn is_possible(net: &Estate, from: &str, to: &str, family: Family) -> bool {
        let address = net.address(to, family);
        let listener = net.place(to).inside(|| TcpListener::bind((address, PORT)));
        let listener = listener.expect("listen");
        let target = listener.local_addr().expect("bound");
        let moment = Duration::from_millis(300);
        let attempt = || TcpStream::connect_timeout(&target, moment);
        net.place(from).inside(attempt).is_ok()
    }

    /// Tells whether what is typed arrives within a moment.
    pub(super) fn works(&mut self) -> bool {
        self.client.write_all(b"ls").expect("write");
        let moment = Some(Duration::from_millis(150));
        self.server.set_read_timeout(moment).expect("set a timeout");
        uninterrupted(|| self.server.read(&mut [0; 64])).is_ok()
    }
}

fn port_open(net: &Estate, is_open: bool) {
    let attempt = |family| Attempt {
        from: "world",
        to: "edge-1",
        means: Means::Tcp(80),
        family,
        expected: if is_open { Fate::Passes } else { Fate::Silence },
    };
    expect_all(net, "the node's port", &Family::BOTH.map(attempt));
}

#[test]
fn who_came_by_the_network_is_not_locked_out_unawares() {
    for family in Family::BOTH {
        let net = Estate::new("bpf", &RESIDENTS);
        let mut login = Login::new(&net, "world", "edge-1", family);
        assert!(login.works());

        let refused = net.apply_with(0, CLOSED, 71);

        assert!(refused.stderr.contains("CIL0210"), "{refused:#?}");
        let (client, server) = (&login.client, &login.server);
        let ends = [client.local_addr(), server.local_addr()].map(|end| end.expect("bound"));
        for end in ends {
            let end = end.ip().to_string();
            assert!(refused.stderr.contains(&end), "{end} {refused:#?}");
        }
        assert!(login.works(), "nothing has changed");
        port_open(&net, true);
        net.ciliate(0, "plan", 2);

        net.ciliate(0, "apply --allow-lockout", 0);

        assert!(!login.works(), "what was said comes true");
        port_open(&net, false);
    }
}

#[test]
fn a_rule_that_lets_the_caller_in_needs_no_flag() {
    let net = Estate::new("bpf", &RESIDENTS);
    let mut logins = Family::BOTH.map(|family| Login::new(&net, "world", "edge-1", family));
    let rules = [
        format!("ingress = [{{ ports = \"tcp/{PORT}\" }}]"),
        format!(
            "ingress = [{{ from = [\"198.51.100.2\", \"2001:db8:51::/64\"], ports = \"tcp/{PORT}\" }}]"
        ),
        "ingress = [{ from = \"world\" }]".to_owned(),
    ];
    for rule in rules {
        net.apply(0, &CLOSED.replace("ingress = []", &rule));

        for login in &mut logins {
            assert!(login.works(), "{rule}");
        }
        port_open(&net, rule.contains("\"world\" }"));
    }
    // Of another port, or of somebody else.
    for rule in [
        "ingress = [{ ports = \"tcp/22\" }]",
        "ingress = [{ from = \"remote-node\" }]",
    ] {
        let refused = net.apply_with(0, &CLOSED.replace("ingress = []", rule), 71);
        assert!(refused.stderr.contains("CIL0210"), "{rule} {refused:#?}");
    }
}

#[test]
fn a_policy_that_is_only_audited_locks_nobody_out() {
    let net = Estate::new("bpf", &RESIDENTS);
    let mut login = Login::new(&net, "world", "edge-1", Family::V4);

    net.apply(0, &CLOSED.replace("enforce", "audit"));

    assert!(login.works());
}

#[test]
fn a_caller_that_came_from_an_endpoint_or_a_peer_is_known_too() {
    let net = Estate::new("bpf", &RESIDENTS);
    for (from, to) in [("web", "host"), ("edge-2", "edge-1"), ("cache", "edge-1")] {
        let mut login = Login::new(&net, from, to, Family::V4);

        let refused = net.apply_with(0, CLOSED, 71);

        assert!(refused.stderr.contains("CIL0210"), "{from} {refused:#?}");
        let rule = format!("ingress = [{{ from = \"{from}\" }}]");
        net.apply(0, &CLOSED.replace("ingress = []", &rule));
        assert!(login.works(), "{from}");
        net.apply(0, "");
    }
}

#[test]
fn a_connection_that_the_caller_has_opened_is_not_cut() {
    let net = Estate::new("bpf", &RESIDENTS);
    let mut login = Login::new(&net, "edge-1", "world", Family::V4);

    net.apply(0, CLOSED);

    assert!(login.works(), "replies need no rule");
}
