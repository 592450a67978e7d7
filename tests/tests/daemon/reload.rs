//! Many reloads: no packet of others is lost, nothing is left behind, and none takes long.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use tests::lab::agent;
use tests::lab::machine::Machine;
use tests::lab::namespace::Namespace;
use tests::lab::node::{OneNode, pins};
use tests::lab::stream::Stream;
use tests::party::Family;

use super::{BUSY, Kept, descriptors, is_quiet, start, ticks};

/// How many reloads, if not `RELOADS_VARIABLE` says otherwise.
const RELOADS: usize = 500;
const RELOADS_VARIABLE: &str = "CILIATE_RELOADS";

/// How long 99 of 100 reloads take at the most, of an optimised agent.
const LONGEST: Duration = Duration::from_millis(20);

/// A clock tick.
const TICK: Duration = Duration::from_millis(10);

/// Endpoints beside those of the fixture: ten in all.
const OTHERS: usize = 7;

/// Returns a file of ten endpoints; the second has another address of one of them, and another
/// port at which `api` is reached.
fn file(is_second: bool) -> String {
    let mut text = tests::lab::node::FILE.to_owned();
    for number in 0..OTHERS {
        let last = 20 + number + usize::from(is_second && number == 0) * 50;
        write!(
            text,
            "\n[[endpoint]]\nname = \"e{number}\"\nipv4 = \"10.0.1.{last}\"\n"
        )
        .expect("a text grows");
    }
    let port = if is_second { 80 } else { 443 };
    write!(
        text,
        "\n[[policy.rule]]\nendpoints = \"api\"\ningress = [{{ from = \"cluster\", ports = \"tcp/{port}\" }}]\n"
    )
    .expect("a text grows");
    text
}

/// Reloads as `ciliate reload` does; returns what the agent answers.
fn reload() -> Value {
    let mut socket = UnixStream::connect("/run/ciliate/edge-1/ctl.sock").expect("connect");
    socket
        .write_all(b"{\"request\":\"reload\"}\n")
        .expect("ask");
    let mut line = String::new();
    // To the end: the agent has closed its side then.
    socket.read_to_string(&mut line).expect("an answer");
    serde_json::from_str(&line).expect("an answer is JSON")
}

/// Replaces the file at once, as editors do.
fn replace(net: &OneNode, text: &str) {
    let new = net.machine.write("new", text);
    fs::rename(new, &net.file).expect("rename");
}

/// Returns how many descriptors the agent has, and how many pins the node.
fn holdings(kept: &Kept) -> (usize, usize) {
    let entries = |path: String| fs::read_dir(path).expect("list").count();
    let pinned = [pins().maps(), pins().programs(), pins().links()];
    (
        descriptors(kept.agent.pid()),
        pinned
            .map(|folder| entries(folder.display().to_string()))
            .iter()
            .sum(),
    )
}

#[test]
fn reloads_lose_no_packet_of_others_leave_nothing_and_take_no_time() {
    let count = env::var(RELOADS_VARIABLE).map_or(RELOADS, |text| text.parse().expect("a number"));
    let net = OneNode::on(Machine::new());
    for number in 0..OTHERS {
        Namespace::add(&format!("e{number}"));
    }
    replace(&net, &file(false));
    let kept = Kept {
        agent: start(&net),
        net,
    };
    let net = &kept.net;
    for is_second in [true, false] {
        replace(net, &file(is_second));
        assert_eq!(reload()["result"], "applied");
    }
    let before = holdings(&kept);
    let streams = [Family::V4, Family::V6]
        .map(|family| Stream::start(&net.web, &net.db, net.address("db", family)));

    let (mut times, ticks_before) = (Vec::new(), ticks(kept.agent.pid()));
    for number in 0..count {
        replace(net, &file(number % 2 == 0));
        let answer = reload();
        assert_eq!(answer["result"], "applied", "reload {number}: {answer}");
        times.push(Duration::from_micros(
            answer["took_us"].as_u64().expect("a time"),
        ));
    }

    assert_eq!(
        holdings(&kept),
        before,
        "descriptors and pins should be as many"
    );
    for stream in streams {
        stream.expect_complete();
    }
    let busy = TICK * u32::try_from(ticks(kept.agent.pid()) - ticks_before).expect("a number");
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    eprintln!(
        "{count} reloads: median {:?}, p99 {p99:?}, longest {:?}, on a processor {:?} each",
        times[times.len() / 2],
        times[times.len() - 1],
        busy / u32::try_from(count).expect("a number")
    );
    if agent::is_release() {
        let longest = LONGEST * if is_quiet() { 1 } else { BUSY };
        assert!(p99 <= longest, "p99 {p99:?} is longer than {longest:?}");
    }
    assert_eq!(super::repairs(), 0, "an edit is no repair");
}
