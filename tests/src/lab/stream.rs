//! A stream of numbered datagrams of which none may be missing.
//!
//! One thread sends a number every half millisecond, the test does something meanwhile, and in the
//! end the receiver must have seen every number that was sent, each once.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::namespace::Namespace;
use super::{PATIENCE, wait_until};

const PORT: u16 = 7_000;
const PAUSE: Duration = Duration::from_micros(500);
/// Datagrams that show that the stream flows.
const STARTED: u64 = 20;

/// Is a stream on its way.
pub struct Stream {
    is_over: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<BTreeSet<u64>>,
}

impl Stream {
    /// Starts a stream between two namespaces, and waits until it flows.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        let to = to
            .inside(|| UdpSocket::bind(SocketAddr::new(address, PORT)))
            .expect("bind");
        let target = to.local_addr().expect("the socket is bound");
        let any: IpAddr = if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let from = from.inside(|| UdpSocket::bind((any, 0))).expect("bind");
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let sender = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || send(&from, target, &is_over)
        });
        let receiver = thread::spawn({
            let seen = Arc::clone(&seen);
            move || receive(&to, &seen)
        });
        wait_until("the stream flows", || {
            seen.load(Ordering::Relaxed) >= STARTED
        });
        Self {
            is_over,
            sender,
            receiver,
        }
    }

    /// Ends the stream; every number must have arrived.
    pub fn expect_complete(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender ends");
        let received = self.receiver.join().expect("the receiver ends");
        let missing: Vec<u64> = (0..sent)
            .filter(|number| !received.contains(number))
            .collect();
        assert!(
            missing.is_empty(),
            "of {sent} datagrams these should not be missing: {missing:?}"
        );
    }
}

/// Sends numbers until it is over, then the mark of the end; returns how many.
fn send(socket: &UdpSocket, target: SocketAddr, is_over: &AtomicBool) -> u64 {
    let mut number = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        // What cannot be sent is missing at the far side.
        let _ = socket.send_to(&number.to_be_bytes(), target);
        number += 1;
        thread::sleep(PAUSE);
    }
    let _ = socket.send_to(&u64::MAX.to_be_bytes(), target);
    number
}

/// Receives numbers until the mark of the end.
fn receive(socket: &UdpSocket, seen: &std::sync::atomic::AtomicU64) -> BTreeSet<u64> {
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket has a timeout");
    let mut numbers = BTreeSet::new();
    let mut bytes = [0; 8];
    while socket.recv(&mut bytes).is_ok() {
        let number = u64::from_be_bytes(bytes);
        if number == u64::MAX {
            break;
        }
        numbers.insert(number);
        seen.fetch_add(1, Ordering::Relaxed);
    }
    numbers
}
