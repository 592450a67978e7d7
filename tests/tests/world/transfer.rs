//! Bodies and streams of many megabytes: curl, and iperf3 in both directions.

use std::fs;
use std::net::IpAddr;
use std::thread::{self, ScopedJoinHandle};

use serde_json::Value;
use tests::lab::conversation::pattern;
use tests::lab::namespace::Outcome;
use tests::lab::offload::Offload;
use tests::lab::service::{Page, Service};
use tests::lab::wide::{Target, Wide, everywhere};

/// What curl transfers, in bytes.
const BODY_LEN: usize = 4 << 20;
/// What TCP carries at least within a second: little for a busy machine, and far more than gets
/// through where each packet has to be sent twice.
const BYTES: u64 = 4 << 20;

#[test]
fn curl_gets_and_puts_whole_bodies() {
    let whole = pattern(BODY_LEN);
    everywhere(|wide, what| {
        let folder = &wide.net.machine.folder;
        let (given, taken) = (folder.join("given"), folder.join("taken"));
        fs::write(&given, &whole).expect("write a body");
        for target in wide.targets() {
            for option in [
                format!("--output {}", taken.display()),
                format!("--upload-file {}", given.display()),
            ] {
                let is_put = option.starts_with("--upload");
                let page = Page::serve(&target.place, target.address, whole.clone());
                let line = format!(
                    "curl --silent --show-error --max-time 20 {option} http://{}/",
                    page.address
                );
                wide.client().run(&line);

                let (from, put) = page.end();
                let body = if is_put {
                    put
                } else {
                    fs::read(&taken).expect("read the body")
                };
                assert!(body == whole, "{} bytes by {line}, {what}", body.len());
                assert_eq!(from.ip(), target.seen, "{line}, {what}");
            }
        }
    });
}

#[test]
fn iperf3_measures_both_directions_and_loses_no_datagram() {
    let seen = everywhere(|wide, what| {
        let targets = served(wide);
        for direction in ["", "--reverse"] {
            expect_bytes(wide, &targets, direction, what);
        }
        for len in [1_400, 4_000] {
            expect_datagrams(wide, &targets, len, what);
        }
    });

    // Without the links' sums there are no packets of several segments between them.
    for (offload, long) in seen {
        assert_eq!(long > 0, offload == Offload::On, "{long} with {offload:?}");
    }
}

fn expect_bytes(wide: &Wide, targets: &[Served], direction: &str, what: &str) {
    for (target, end) in measure(wide, targets, direction) {
        let bytes = end["sum_received"]["bytes"].as_u64().expect("a number");
        assert!(bytes >= BYTES, "{target:?} {direction}, {what}: {end}");
    }
}

/// Sends datagrams of this length, of which only a receiver may lose some: one that gets no
/// processor for a while has no room for what arrives.
fn expect_datagrams(wide: &Wide, targets: &[Served], len: usize, what: &str) {
    let before: Vec<u64> = targets.iter().map(overflows).collect();
    let options = format!("--udp --bandwidth 20M --length {len}");
    let ends = measure(wide, targets, &options);
    for ((target, end), before) in ends.into_iter().zip(before) {
        let number = |key: &str| end["sum"][key].as_u64().expect("a number");
        assert!(number("packets") > 100, "{target:?}, {what}: {end}");
        let overflown = overflows(target) - before;
        assert!(
            number("lost_packets") <= overflown,
            "{target:?} {len}, {what}: {end}, of them {overflown} at the receiver"
        );
    }
}

/// Is a target with an iperf3 of its own.
#[derive(Debug)]
struct Served {
    target: Target,
    port: u16,
    _server: Service,
}

fn served(wide: &Wide) -> Vec<Served> {
    let serve = |(port, target): (u16, Target)| {
        let line = format!("iperf3 --server --port {port}");
        let server = Service::start(&target.place, &line, port);
        Served {
            target,
            port,
            _server: server,
        }
    };
    (5_201..).zip(wide.targets()).map(serve).collect()
}

/// Returns what iperf3 says at the end of a second with all targets at once.
fn measure<'a>(wide: &Wide, targets: &'a [Served], options: &str) -> Vec<(&'a Served, Value)> {
    thread::scope(|scope| {
        let start = |served: &'a Served| {
            let line = format!(
                "iperf3 --json --client {} --port {} --time 1 {options}",
                served.target.address, served.port
            );
            (served, scope.spawn(move || wide.client().attempt(&line)))
        };
        let started: Vec<_> = targets.iter().map(start).collect();
        let end = |(served, running): (&'a Served, ScopedJoinHandle<Outcome>)| {
            let said = running.join().expect("iperf3 ends");
            assert_eq!(said.code, Some(0), "{said:#?}");
            let mut json: Value = serde_json::from_str(&said.stdout).expect("iperf3 prints JSON");
            (served, json["end"].take())
        };
        started.into_iter().map(end).collect()
    })
}

/// Returns how many datagrams of the target's family found the queue of their socket full.
fn overflows(served: &Served) -> u64 {
    let name = match served.target.address {
        IpAddr::V4(_) => "UdpRcvbufErrors",
        IpAddr::V6(_) => "Udp6RcvbufErrors",
    };
    let counters = served.target.place.run("nstat -asz");
    let line = counters.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("is counted").parse().expect("a number")
}
