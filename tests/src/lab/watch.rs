//! Captures on a link that are judged while they come, by a thread of their own.
//!
//! What comes faster than it is judged waits in the queue of the socket, and what finds that full
//! is not seen: of a fast transfer it is a sample, of everything else all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::namespace::Namespace;
use super::offload::Offload;
use super::wide::is_inside;
use super::wire::{Seen, Wire};
use crate::packet::Packet;

/// How long an idle link is listened to before the thread looks whether it shall end.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest frame that fits the MTU of 1,500 bytes.
const FRAME_LEN: usize = 1_514;

/// Is a capture on its way.
#[derive(Debug)]
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

/// Is what a capture saw of packets that were received.
#[derive(Debug, Default)]
pub struct Report {
    pub packets: u64,
    /// Those of several segments, still to be cut.
    pub long: u64,
    /// Malformed packets, and those with a wrong checksum.
    pub faults: Vec<String>,
    /// Packets with the address of an endpoint, also in what an error quotes.
    pub inside: Vec<String>,
}

impl Watch {
    /// Captures on a link from now on, where checksums are made like this.
    pub fn start(place: &Namespace, link: &str, offload: Offload) -> Self {
        let wire = Wire::open(place, link);
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || watch(&wire, offload, &is_over)
        });
        Self { is_over, thread }
    }

    /// Ends the capture when all that has arrived is judged.
    pub fn end(self) -> Report {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the capture ends")
    }
}

fn watch(wire: &Wire, offload: Offload, is_over: &AtomicBool) -> Report {
    let mut report = Report::default();
    loop {
        match wire.next_within(PAUSE) {
            Some(frame) if frame.is_outgoing => {}
            Some(frame) => report.judge(&frame, offload),
            None if is_over.load(Ordering::Relaxed) => return report,
            None => {}
        }
    }
}

impl Report {
    fn judge(&mut self, frame: &Seen, offload: Offload) {
        if !matches!(frame.ethertype(), 0x0800 | 0x86dd) {
            return;
        }
        self.packets += 1;
        self.long += u64::from(frame.bytes.len() > FRAME_LEN);
        let Some(packet) = Packet::of(frame) else {
            self.faults.push(format!("malformed: {:02x?}", frame.bytes));
            return;
        };
        let mut faults = packet.faults();
        if offload == Offload::On {
            // Whoever quotes a packet that a link is to sum quotes it unsummed.
            faults.retain(|fault| !fault.starts_with("quoted"));
        }
        self.faults.append(&mut faults);
        let quoted = packet.quoted();
        let mut shown = [Some(&packet), quoted.as_ref()].into_iter().flatten();
        if shown.any(|packet| is_inside(packet.source) || is_inside(packet.destination)) {
            self.inside.push(packet.brief());
        }
    }
}
