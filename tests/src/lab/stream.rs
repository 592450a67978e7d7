//! A stream of numbered datagrams of which none may be missing.
//!
//! One thread sends a number every half millisecond, or as many at once as the test likes, the test does something meanwhile, and in the
//! end the receiver must have seen every number that was sent, each once.

use std::collections::BTreeSet;
use std::io::Error;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::namespace::Namespace;
use super::{PATIENCE, uninterrupted, wait_until};

const PORT: u16 = 7_000;
const PAUSE: Duration = Duration::from_micros(500);
/// Stands for the end of the stream.
const END: u64 = u64::MAX;
const QUEUE_LEN: usize = 32 << 20;
/// Datagrams that show that the stream flows.
const STARTED: u64 = 20;

/// Is a stream on its way.
pub struct Stream {
    target: SocketAddr,
    started: Instant,
    is_over: Arc<AtomicBool>,
    sender: JoinHandle<(u64, Option<Error>)>,
    receiver: JoinHandle<(BTreeSet<u64>, Option<Error>)>,
}

impl Stream {
    /// Starts a stream between two namespaces, and waits until it flows.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        Self::start_bursts(from, to, address, 1)
    }

    /// Starts a stream of bursts of so many numbers every half millisecond.
    pub fn start_bursts(from: &Namespace, to: &Namespace, address: IpAddr, burst: u64) -> Self {
        let to = to
            .inside(|| UdpSocket::bind(SocketAddr::new(address, PORT)))
            .expect("bind");
        // A receiver that does not get a processor for a while must not lose what arrived.
        setsockopt(&to, RcvBufForce, &QUEUE_LEN).expect("enlarge the queue");
        let target = to.local_addr().expect("the socket is bound");
        let any: IpAddr = if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let from = from.inside(|| UdpSocket::bind((any, 0))).expect("bind");
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let sender = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || send(&from, target, burst, &is_over)
        });
        let receiver = thread::spawn({
            let seen = Arc::clone(&seen);
            move || receive(&to, &seen)
        });
        wait_until("the stream flows", || {
            seen.load(Ordering::Relaxed) >= STARTED
        });
        Self {
            target,
            started: Instant::now(),
            is_over,
            sender,
            receiver,
        }
    }

    /// Ends the stream; every number must have arrived.
    pub fn expect_complete(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let (sent, error) = self.sender.join().expect("the sender ends");
        let (received, failure) = self.receiver.join().expect("the receiver ends");
        let secs = self.started.elapsed().as_secs_f64();
        eprintln!("{sent} datagrams in {secs:.1} s to {}", self.target);
        let missing: Vec<u64> = (0..sent)
            .filter(|number| !received.contains(number))
            .collect();
        assert!(
            missing.is_empty(),
            "of {sent} datagrams to {} these {} should not be missing: {}; sending: {error:?}; receiving: {failure:?}",
            self.target,
            missing.len(),
            ranges(&missing)
        );
    }
}

/// Writes ascending numbers in short.
fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let texts: Vec<String> = runs
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    texts.join(", ")
}

/// Sends numbers until it is over, then the mark of the end; returns how many, and the last error.
fn send(
    socket: &UdpSocket,
    target: SocketAddr,
    burst: u64,
    is_over: &AtomicBool,
) -> (u64, Option<Error>) {
    let mut number = 0_u64;
    let mut last = None;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..burst {
            // What cannot be sent is missing at the far side.
            last = socket.send_to(&number.to_be_bytes(), target).err().or(last);
            number += 1;
        }
        thread::sleep(PAUSE);
    }
    last = socket.send_to(&END.to_be_bytes(), target).err().or(last);
    (number, last)
}

/// Receives numbers until the mark of the end, or until none comes; returns the error then.
fn receive(socket: &UdpSocket, seen: &AtomicU64) -> (BTreeSet<u64>, Option<Error>) {
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket has a timeout");
    let mut numbers = BTreeSet::new();
    let mut bytes = [0; 8];
    loop {
        match uninterrupted(|| socket.recv(&mut bytes)) {
            Ok(_) if bytes == END.to_be_bytes() => return (numbers, None),
            Ok(_) => {
                numbers.insert(u64::from_be_bytes(bytes));
                seen.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return (numbers, Some(error)),
        }
    }
}
