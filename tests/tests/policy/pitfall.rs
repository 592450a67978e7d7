//! Where other implementations have failed, one test for each; numbers are those of Cilium's
//! issues.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use datapath::verdict::DropReason;
use tests::lab::attempt::{Attempt, Fate, Means, expect_all};
use tests::lab::conversation::{bound, pattern, transfer};
use tests::lab::estate::Estate;
use tests::lab::namespace::Namespace;
use tests::lab::resident::Resident;
use tests::lab::{uninterrupted, wait_until};
use tests::party::Family;

use super::language::Verdict::{Denied, Passes};
use super::language::{RESIDENTS, expect_row};
use super::rows::Row;

const MODES: [&str; 2] = ["bpf", "legacy"];
const PAUSE: Duration = Duration::from_micros(100);
/// How often an endpoint comes.
const ROUNDS: usize = 4;

/// What a transfer consists of, in bytes.
const TRANSFER_LEN: usize = 1 << 20;

/// Is one who is not there at first.
const LATECOMER: &str = r#"
[[endpoint]]
node = "edge-1"
name = "late"
ipv4 = "10.0.1.77"
ipv6 = "fd00:1::77"
"#;

/// Closes db to everybody but api.
const CLOSED: Row = Row {
    name: "the last good policy holds",
    policy: "[[policy.rule]]\nendpoints = \"db\"\ningress = [{ from = \"api\" }]",
    tries: &[
        ("api > db, tcp/80", Passes),
        ("web world > db, tcp/80", Denied),
    ],
};

/// 3855: an endpoint spoke before others knew who it was.
#[test]
fn a_new_endpoint_is_known_from_its_first_packet_on() {
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        // Whoever is not known yet could be taken for the world, or for an open endpoint.
        let policy = "[[policy.rule]]\nendpoints = \"db\"\ningress = [{ from = [\"world\", \"api\"] }]\n\
                      [[policy.rule]]\nendpoints = \"late\"\ndefault_deny = false\negress_deny = [{ to = \"bare\" }]\n";
        let without = policy.split("[[policy.rule]]\nendpoints = \"late\"").next();
        for _ in 0..ROUNDS {
            net.apply(0, without.expect("a first part"));
            let late = Namespace::add("late");
            let targets = |name: &str| {
                Family::BOTH.map(|family| bound(net.place(name), net.address(name, family)))
            };
            let [db, bare, web] = ["db", "bare", "web"].map(targets);
            let addresses: Vec<_> = [&db, &bare, &web]
                .into_iter()
                .flatten()
                .map(|socket| socket.local_addr().expect("bound"))
                .collect();
            let is_over = AtomicBool::new(false);

            thread::scope(|scope| {
                scope.spawn(|| late.inside(|| shout(&addresses, &is_over)));
                net.apply(0, &format!("{LATECOMER}{policy}"));
                for open in &web {
                    uninterrupted(|| open.recv(&mut [0; 8])).expect("it speaks with others");
                }
                is_over.store(true, Ordering::Relaxed);
            });

            for closed in db.iter().chain(&bare) {
                closed.set_nonblocking(true).expect("never wait");
                let heard = closed.recv(&mut [0; 8]);
                assert!(heard.is_err(), "nothing should come, {mode}: {heard:?}");
            }
            net.apply(0, without.expect("a first part"));
            Namespace::own().run("ip netns del late");
        }
    }
}

/// Sends to some addresses until it is over, as soon as there is a way.
fn shout(targets: &[SocketAddr], is_over: &AtomicBool) {
    let v4 = UdpSocket::bind("0.0.0.0:0").expect("bind");
    let v6 = UdpSocket::bind("[::]:0").expect("bind");
    while !is_over.load(Ordering::Relaxed) {
        for target in targets {
            let socket = if target.is_ipv4() { &v4 } else { &v6 };
            // There is no way yet, or nobody is to hear it.
            drop(socket.send_to(b"hello", target));
        }
        thread::sleep(PAUSE);
    }
}

/// 28450: a table that was full let everything in.
#[test]
fn a_policy_that_does_not_fit_is_refused_by_the_name_of_its_rule() {
    let net = Estate::new("bpf", &RESIDENTS[..1]);
    net.apply(0, CLOSED.policy);
    let mut large = String::from(
        "[[policy.rule]]\ndescription = \"the small one\"\nendpoints = \"db\"\ningress = [{ ports = \"tcp/80\" }]\n\
         [[policy.rule]]\ndescription = \"the large one\"\nendpoints = \"db\"\ningress = [\n",
    );
    // Every other port, so that nothing can be joined, each time for somebody else.
    for peer in ["web", "api", "bare"] {
        write!(large, "{{ from = \"{peer}\", ports = [").expect("a string");
        for port in (1..=u16::MAX).step_by(2) {
            write!(large, "\"any/{port}\",").expect("a string");
        }
        large.push_str("] },\n");
    }
    large.push_str("]\n");
    let file = net.write(&large);

    for verb in ["check", "plan", "apply"] {
        let line = format!("--node edge-1 {verb} {}", file.display());
        let refused = tests::lab::agent::expect(&net.nodes[0], &line, 78);
        assert!(refused.stderr.contains("(the large one)"), "{refused:#?}");
    }

    expect_row(
        &net,
        &Row {
            tries: &CLOSED.tries[..1],
            ..CLOSED
        },
    );
    expect_all(
        &net,
        "closed",
        &[attempt("web", "db", "tcp/80", Fate::Silence)],
    );
}

fn attempt(from: &'static str, to: &'static str, means: &str, expected: Fate) -> Attempt<'static> {
    Attempt {
        from,
        to,
        means: Means::parse(means),
        family: Family::V4,
        expected,
    }
}

/// 41121: prefixes inside of others multiplied the entries of every endpoint.
#[test]
fn prefixes_inside_of_others_do_not_multiply_entries() {
    let net = Estate::new("bpf", &RESIDENTS[..1]);
    let inner = (0..250).flat_map(|byte| {
        let nets = (0..7).map(move |part| format!("\"100.{byte}.{}.0/24\",", part * 30));
        nets.chain([format!("\"100.{byte}.0.0/16\",")])
    });
    let (outer, inner) = ("\"100.0.0.0/8\", \"0.0.0.0/0\"", inner.collect::<String>());
    let policy = format!(
        "[[policy.rule]]\nendpoints = {{}}\negress = [{{ to = [{outer}] }}]\negress_deny = [{{ to = [{inner}] }}]\n\
         [[policy.rule]]\nendpoints = \"web\"\negress = [{{ to = [{inner}], ports = \"tcp/80\" }}]\n"
    );

    net.apply(0, &policy);

    let status = net.status(0);
    let count = |what: &str| status["policy"][what].as_u64().expect("a number");
    // The smaller ones say nothing that the larger ones around them do not.
    assert!(
        (250..=2_010).contains(&count("prefixes")),
        "{}",
        status["policy"]
    );
    assert!(count("entries") <= 20, "{}", status["policy"]);
    expect_all(
        &net,
        "the world",
        &[attempt("web", "world", "tcp/80", Fate::Passes)],
    );
}

/// 5321: without ports in a rule, later fragments were dropped for want of them.
#[test]
fn fragments_pass_with_and_without_rules_about_ports() {
    let row = |name, policy, tries| Row {
        name,
        policy,
        tries,
    };
    let rows = [
        row(
            "a rule about addresses only",
            "[[policy.rule]]\nendpoints = [\"db\", \"web\"]\ningress = [{ from = [\"web\", \"cache\", \"world\"] }]\negress = [{ to = [\"db\", \"cache\", \"world\"] }]",
            &[
                ("web cache world > db, large/53", Passes),
                ("web db > cache world, large/53", Passes),
            ][..],
        ),
        row(
            "a rule about a port",
            "[[policy.rule]]\nendpoints = [\"db\", \"web\"]\ningress = [{ ports = \"udp/53\" }]\negress = [{ ports = \"udp/53\" }]",
            &[
                ("web cache world > db, large/53", Passes),
                ("web db > cache world, large/53", Passes),
            ],
        ),
    ];
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        for row in &rows {
            net.apply(0, row.policy);
            expect_row(&net, row);
        }
        // Each part is dropped for itself, for whatever reason: none may get through.
        let closed =
            ["web", "cache", "world"].map(|from| attempt(from, "db", "large/123", Fate::Silence));
        expect_all(&net, mode, &closed);
    }
}

/// 33155: a closed host policy cut the node off from its neighbours and its address.
#[test]
fn neighbours_and_dhcp_pass_a_closed_node() {
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        net.apply(0, "[policy]\nhost = \"enforce\"\n[[policy.rule]]\nhost = true\ningress = []\negress = []\n");
        for place in [&net.nodes[0], &net.router] {
            place.run("ip neigh flush all");
        }

        // Both ends have to find each other anew.
        expect_row(
            &net,
            &Row {
                name: "endpoints still reach the world",
                policy: "",
                tries: &[
                    ("web > world, tcp/80 udp/53 icmp", Passes),
                    ("world > db, tcp/80", Passes),
                ],
            },
        );
        for (client, server, node, router) in [
            (68, 67, "198.18.1.10", "198.18.1.1"),
            (546, 547, "2001:db8:1::10", "2001:db8:1::1"),
        ] {
            let [near, far] =
                [node, router].map(|text| text.parse::<IpAddr>().expect("an address"));
            let client = open(&net.nodes[0], near, client);
            let server = open(&net.router, far, server);
            say(&client, &server, true);
            say(&server, &client, true);
            let [near, far] = [(&net.nodes[0], near), (&net.router, far)]
                .map(|(place, address)| open(place, address, 1067));
            say(&near, &far, false);
            say(&far, &near, false);
        }
        let [client, server] = [(&net.nodes[0], 68), (&net.router, 67)].map(|(place, port)| {
            let socket = open(place, [0; 4].into(), port);
            socket.set_broadcast(true).expect("allow broadcasts");
            socket
        });
        nix::sys::socket::setsockopt(
            &client,
            nix::sys::socket::sockopt::BindToDevice,
            &"eth0".into(),
        )
        .expect("bind to a link");
        client
            .send_to(b"discover", ("255.255.255.255", 67))
            .expect("send");
        let (_, from) =
            uninterrupted(|| server.recv_from(&mut [0; 16])).expect("the broadcast arrives");
        server.send_to(b"offer", from).expect("send");
        uninterrupted(|| client.recv(&mut [0; 16])).expect("the offer arrives");
    }
}

fn open(place: &Namespace, address: IpAddr, port: u16) -> UdpSocket {
    let socket = place
        .inside(|| UdpSocket::bind((address, port)))
        .expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("set a timeout");
    socket
}

/// Sends a datagram, which must arrive or must not.
fn say(from: &UdpSocket, to: &UdpSocket, arrives: bool) {
    if !arrives {
        to.set_read_timeout(Some(Duration::from_millis(100)))
            .expect("set a timeout");
    }
    // A node is told at once that it may not send.
    drop(from.send_to(b"word", to.local_addr().expect("bound")));
    let heard = uninterrupted(|| to.recv(&mut [0; 8])).is_ok();
    assert_eq!(heard, arrives, "{from:?} to {to:?}");
}

/// Errors that belong to a conversation were asked for a rule of their own.
#[test]
fn errors_about_what_is_allowed_need_no_rule() {
    let policy = "[[policy.rule]]\nendpoints = [\"web\", \"cache\"]\n\
                  ingress = [{ from = \"web\", ports = \"tcp\" }]\negress = [{ to = [\"cache\", \"world\"], ports = [\"tcp\", \"udp/33434-33534\"] }]\n\
                  [policy]\nhost = \"enforce\"\n[[policy.rule]]\nhost = true\ningress = []\n";
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        net.apply_everywhere(policy);
        net.router.run("ip link set to2 mtu 1400");
        net.router.run("ip link set out mtu 1400");
        for family in Family::BOTH {
            for to in ["cache", "world"] {
                let (client, server) = (net.place("web"), net.place(to));
                let far = net.address(to, family);
                let data = transfer(client, server, far, TRANSFER_LEN);
                assert!(
                    data == pattern(TRANSFER_LEN),
                    "{to} gets what was sent, {mode}"
                );
                let said = client
                    .attempt(&format!("traceroute -n -m 2 -q 1 -w 1 {far}"))
                    .stdout;
                let router = if far.is_ipv4() {
                    "198.18.1.1"
                } else {
                    "2001:db8:1::1"
                };
                assert!(
                    said.contains(router),
                    "the router should be heard, {mode}: {said}"
                );
            }
        }
    }
}

#[test]
fn a_bad_file_keeps_the_last_good_policy() {
    let net = Estate::new("bpf", &RESIDENTS);
    net.apply(0, CLOSED.policy);

    for bad in [
        "[[policy.rule]]\nendpoints = \"db\"\ningress = [{ from = \"nobody\" }]",
        "[[policy.rule]]\nendpoints = \"db\"\ningress = \"all\"",
        "[policy]\nenforcement = \"newer\"",
        "[[policy.rule]",
    ] {
        net.apply_with(0, bad, 78);
    }

    expect_row(&net, &CLOSED);
}

#[test]
fn a_bad_file_keeps_the_last_good_policy_of_the_agent() {
    let net = Estate::new("bpf", &RESIDENTS);
    let file = net.write(CLOSED.policy);
    let words = format!("{} --node edge-1", file.display());
    let mut command = std::process::Command::new(tests::lab::agent::binary());
    command.arg("run").args(words.split_whitespace());
    let agent = Resident::start_command(&net.machine, &net.nodes[0], command);

    net.write("[[policy.rule]]\nendpoints = \"db\"\ningress = [{ from = \"nobody\" }]");
    agent.signal(nix::sys::signal::Signal::SIGHUP);

    agent.expect_log("CIL0104");
    expect_row(&net, &CLOSED);
    fs::write(&file, net.text("")).expect("write the file");
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("the policy is gone", || {
        net.status(0)["policy"]["entries"] == 0
    });
    let open = attempt("web", "db", "tcp/80", Fate::Passes);
    expect_all(&net, "open", &[open]);
    let denied = net.drops(0).get(DropReason::PolicyDenied.text()).copied();
    assert!(denied > Some(0), "the policy did hold: {denied:?}");
}
