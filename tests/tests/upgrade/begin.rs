//! Connections that begin while tables are exchanged: what the old tables come to know in the last
//! moment counts as well.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tests::lab::namespace::Namespace;
use tests::lab::node::FILE;
use tests::lab::outside::Outside;
use tests::party::Family;

use crate::binary::run;

const PAUSE: Duration = Duration::from_millis(1);
/// How long an answer may take; a datagram is sent once.
const WITHIN: Duration = Duration::from_secs(2);

/// The endpoint's answers need to be known: nobody may open a connection to it.
const CLOSED: &str = "
[[policy.rule]]
endpoints = [\"web\"]
ingress = [{ from = [\"none\"] }]
";

/// Begins one conversation after the other until it is over.
struct Beginner {
    is_over: Arc<AtomicBool>,
    is_closed: Arc<AtomicBool>,
    client: JoinHandle<(u32, Vec<String>)>,
}

impl Beginner {
    fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        let server = to.inside(|| UdpSocket::bind((address, 0))).expect("bind");
        let target = server.local_addr().expect("bound");
        let is_over = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::new(AtomicBool::new(false));
        thread::spawn({
            let is_closed = Arc::clone(&is_closed);
            move || echo(&server, &is_closed)
        });
        let place = from.clone();
        let client = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || place.inside(|| begin_until(target, &is_over))
        });
        Self {
            is_over,
            is_closed,
            client,
        }
    }

    /// Ends it; returns how many conversations there were, and what became of those that did not get
    /// their answers.
    fn end(self) -> (u32, Vec<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        let (count, failures) = self.client.join().expect("the client ends");
        self.is_closed.store(true, Ordering::Relaxed);
        assert!(count > 100, "{count} conversations are too few");
        (count, failures)
    }
}

fn begin_until(target: SocketAddr, is_over: &AtomicBool) -> (u32, Vec<String>) {
    let (mut count, mut failures) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        if let Err(error) = converse(target) {
            failures.push(format!("conversation {count} with {target}: {error}"));
        }
        count += 1;
        thread::sleep(PAUSE);
    }
    (count, failures)
}

/// Asks from a new port who is asking, three times; the answer must be the same.
fn converse(target: SocketAddr) -> Result<()> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = UdpSocket::bind((any, 0))?;
    client.connect(target)?;
    client.set_read_timeout(Some(WITHIN))?;
    let mut first = None;
    for _ in 0..3 {
        client.send(b"who")?;
        let mut bytes = [0; 64];
        let len = loop {
            match client.recv(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let seen = bytes[..len].to_vec();
        if *first.get_or_insert_with(|| seen.clone()) != seen {
            return Err(Error::other("the port outside changed"));
        }
    }
    Ok(())
}

/// Tells everybody who asks how he is seen.
fn echo(server: &UdpSocket, is_closed: &AtomicBool) {
    let mut bytes = [0; 64];
    server.set_read_timeout(Some(WITHIN)).expect("a timeout");
    while !is_closed.load(Ordering::Relaxed) {
        if let Ok((_, from)) = server.recv_from(&mut bytes) {
            drop(server.send_to(from.to_string().as_bytes(), from));
        }
    }
}

#[test]
fn connections_that_begin_meanwhile_get_their_answers() {
    let lab = Outside::new();
    let write = |maps: &str| {
        lab.net.write(&format!(
            "{FILE}\n[[device]]\nname = \"up0\"\nmasquerade = true\n{CLOSED}{maps}"
        ));
    };
    write("");
    lab.net.apply();
    let mut beginners = Vec::new();
    for family in Family::BOTH {
        let (far, db) = (Outside::far(family), lab.net.address("db", family));
        beginners.push(Beginner::start(&lab.net.web, &lab.world, far));
        beginners.push(Beginner::start(&lab.net.web, &lab.net.db, db));
    }

    for round in 0..10 {
        write(&format!("\n[maps]\nflows = {}\n", 65_536 - round));
        lab.net.apply();
    }
    run(&lab, "ciliate-next-schema", "apply", 0);

    let (counts, failures): (Vec<u32>, Vec<Vec<String>>) =
        beginners.into_iter().map(Beginner::end).unzip();
    let (count, failures) = (counts.into_iter().sum::<u32>(), failures.concat());
    eprintln!(
        "{} of {count} conversations failed: {failures:#?}",
        failures.len()
    );
    // In a millisecond two of them may draw one port.
    assert!(failures.len() * 2_000 <= count as usize, "{failures:#?}");
}
