//! A change of the policy takes effect with the next packet, and loses nothing of what stays
//! allowed.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use datapath::verdict::DropReason;
use tests::lab::attempt::{Attempt, Fate, Means, expect_all};
use tests::lab::conversation::bound;
use tests::lab::estate::{Estate, Resident};
use tests::lab::stream::Stream;
use tests::lab::{uninterrupted, wait_until};
use tests::party::Family;

use super::talk::Talk;

const RESIDENTS: [&[Resident]; 2] = [
    &[("web", ""), ("api", ""), ("db", ""), ("log", "")],
    &[("cache", "")],
];
const MODES: [&str; 2] = ["bpf", "legacy"];
const EDITS: usize = 20;
/// Datagrams every half millisecond: about 50,000 a second.
const BURST: u64 = 40;
const PAUSE: Duration = Duration::from_micros(200);
/// Numbers that are sent under one policy, at least.
const TURN: u64 = 50;
/// Stands for the end.
const END: u64 = u64::MAX;

/// Allows web to reach everybody it is tried with.
const OPEN: &str = r#"
[[policy.rule]]
endpoints = "web"
ingress = []
egress = [{ to = ["db", "cache", "world"] }]
[[policy.rule]]
endpoints = ["db", "cache"]
ingress = [{ from = "web" }]
"#;

/// Policies that forbid web what it was allowed, with what is counted then at the first node.
fn forbidding() -> [(String, DropReason); 4] {
    let without = |text: &str, other: &str| OPEN.replace(text, other);
    let deny = |rule: &str| format!("{OPEN}[[policy.rule]]\n{rule}");
    [
        (
            without("[\"db\", \"cache\", \"world\"]", "[\"api\"]"),
            DropReason::PolicyDenied,
        ),
        (
            without("from = \"web\"", "from = \"api\""),
            DropReason::PolicyDenied,
        ),
        (
            deny("endpoints = \"web\"\negress_deny = [{ to = \"all\" }]"),
            DropReason::PolicyDenyList,
        ),
        (
            deny("endpoints = [\"db\", \"cache\"]\ningress_deny = [{ from = \"web\" }]"),
            DropReason::PolicyDenyList,
        ),
    ]
}

#[test]
fn editing_another_rule_loses_nothing_of_a_fast_stream() {
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        net.apply_everywhere(OPEN);
        for (family, to) in [(Family::V4, "db"), (Family::V6, "cache")] {
            let address = net.address(to, family);
            let stream = Stream::start_bursts(net.place("web"), net.place(to), address, BURST);

            for edit in 0..EDITS {
                let other = format!(
                    "{OPEN}[[policy.rule]]\nendpoints = \"api\"\n\
                     egress = [{{ to = \"10.{edit}.0.0/16\", ports = \"tcp/{}\" }}]",
                    1000 + edit
                );
                net.apply(0, &other);
                net.apply(1, &other.replace("\"api\"", "\"log\""));
            }

            stream.expect_complete();
        }
    }
}

/// Forbids what goes on in four conversations, and allows it again, in each way there is.
fn expect_stops(mode: &str) {
    let net = Estate::new(mode, &RESIDENTS);
    for (policy, reason) in forbidding() {
        net.apply_everywhere(OPEN);
        let mut talks = talks(&net, &["db", "cache"]);
        let before = dropped(&net, reason);

        net.apply_everywhere(&policy);

        Talk::expect_to_stop(&mut talks, &policy);
        // Of each conversation a segment and a datagram each way.
        wait_until(&format!("drops are counted: {policy}"), || {
            dropped(&net, reason) >= before + 4 * 4
        });
        net.apply_everywhere(OPEN);
        talks.iter_mut().for_each(Talk::expect_to_go_on);
    }
}

#[test]
fn what_a_new_policy_forbids_stops_at_once_past_the_stack() {
    expect_stops("bpf");
}

#[test]
fn what_a_new_policy_forbids_stops_at_once_through_the_stack() {
    expect_stops("legacy");
}

#[test]
fn masqueraded_conversations_stop_and_go_on_too() {
    for mode in MODES {
        let net = Estate::new(mode, &RESIDENTS);
        let [(closed, _), _, (denied, _), _] = forbidding();
        for policy in [closed, denied] {
            net.apply(0, OPEN);
            let mut talks = talks(&net, &["world"]);

            net.apply(0, &policy);

            Talk::expect_to_stop(&mut talks, &policy);
            net.apply(0, OPEN);
            talks.iter_mut().for_each(Talk::expect_to_go_on);
        }
    }
}

/// Lets web talk with others in both families.
fn talks(net: &Estate, others: &[&str]) -> Vec<Talk> {
    let mut talks = Vec::new();
    for to in others {
        talks.extend(Family::BOTH.map(|family| Talk::start(net, "web", to, family)));
    }
    talks.iter_mut().for_each(Talk::expect_to_pass);
    talks
}

fn dropped(net: &Estate, reason: DropReason) -> u64 {
    let nodes = 0..net.nodes.len();
    let counts = nodes.map(|node| net.drops(node).get(reason.text()).copied());
    counts.flatten().sum()
}

/// Allows one of two to reach db, and log always.
fn flip(turn: usize) -> String {
    let one = ["web", "api"][turn % 2];
    format!(
        "[[policy.rule]]\nendpoints = \"db\"\ningress = [{{ from = [\"{one}\"], ports = [\"udp\", \"tcp/80\"] }}, {{ from = \"log\" }}]"
    )
}

#[test]
fn half_of_a_policy_is_never_seen() {
    for (mode, family) in MODES.into_iter().zip(Family::BOTH) {
        let net = Estate::new(mode, &RESIDENTS);
        net.apply(0, &flip(0));
        let address = net.address("db", family);
        let stream = Stream::start(net.place("log"), net.place("db"), address);
        let duel = Duel::new(&net, family);
        let is_over = AtomicBool::new(false);

        let seen = thread::scope(|scope| {
            let running = scope.spawn(|| duel.run(&is_over));
            for turn in 1..=EDITS {
                duel.wait();
                net.apply(0, &flip(turn));
                expect_one(&net, family, turn);
            }
            is_over.store(true, Ordering::Relaxed);
            running.join().expect("the duel ends")
        });

        stream.expect_complete();
        let undecided: Vec<_> = seen.iter().filter(|(_, who)| who.len() != 1).collect();
        assert!(
            undecided.len() <= EDITS,
            "each of {EDITS} changes may come between two packets: {undecided:?}, {mode}"
        );
        let mut winners: Vec<_> = seen.values().filter(|who| who.len() == 1).collect();
        winners.dedup();
        assert_eq!(
            winners.len(),
            EDITS + 1,
            "each change changes who wins, {mode}"
        );
    }
}

/// Expects that of two exactly one gets through after a change.
fn expect_one(net: &Estate, family: Family, turn: usize) {
    let attempt = |from, expected| Attempt {
        from,
        to: "db",
        means: Means::Tcp(80),
        family,
        expected,
    };
    let fates = [Fate::Passes, Fate::Silence];
    let attempts = [
        attempt("web", fates[turn % 2]),
        attempt("api", fates[(turn + 1) % 2]),
    ];
    expect_all(net, &format!("turn {turn}"), &attempts);
}

/// Is two senders who send the same numbers in turn, and their receiver.
struct Duel {
    senders: [UdpSocket; 2],
    receiver: UdpSocket,
    sent: AtomicU64,
}

impl Duel {
    fn new(net: &Estate, family: Family) -> Self {
        let socket = |name| bound(net.place(name), net.address(name, family));
        Self {
            senders: ["web", "api"].map(socket),
            receiver: socket("db"),
            sent: 0.into(),
        }
    }

    /// Sends until it is over; returns who got through with each number.
    fn run(&self, is_over: &AtomicBool) -> BTreeMap<u64, Vec<IpAddr>> {
        let target = self.receiver.local_addr().expect("bound");
        thread::scope(|scope| {
            let receiving = scope.spawn(|| self.receive());
            let send = |number: u64| {
                for sender in &self.senders {
                    sender.send_to(&number.to_be_bytes(), target).expect("send");
                }
            };
            while !is_over.load(Ordering::Relaxed) {
                send(self.sent.fetch_add(1, Ordering::Relaxed));
                thread::sleep(PAUSE);
            }
            send(END);
            let mut seen = receiving.join().expect("the receiver ends");
            for number in 0..self.sent.load(Ordering::Relaxed) {
                seen.entry(number).or_default();
            }
            seen
        })
    }

    fn receive(&self) -> BTreeMap<u64, Vec<IpAddr>> {
        let mut seen = BTreeMap::new();
        let mut bytes = [0; 8];
        loop {
            let (_, from) =
                uninterrupted(|| self.receiver.recv_from(&mut bytes)).expect("one gets through");
            match u64::from_be_bytes(bytes) {
                END => return seen,
                number => seen.entry(number).or_insert_with(Vec::new).push(from.ip()),
            }
        }
    }

    /// Waits until some more numbers were sent.
    fn wait(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        wait_until("numbers are sent", || {
            self.sent.load(Ordering::Relaxed) >= before + TURN
        });
    }
}
