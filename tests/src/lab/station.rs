//! A place of the world: what it sends, what it receives, judged.
//!
//! Every packet that is received has its checksums verified, and outside the gateway no address of
//! the inside may appear, in a header or in what an error quotes. Faults are kept until the end of
//! the row. Packets are found by what they are, in any order: what was not asked for stays.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::mouth::Mouth;
use super::namespace::Namespace;
use super::offload::Offload;
use super::wire::Wire;
use crate::frame::{Frame, Transport};
use crate::packet::Packet;

/// Most packets that a failure lists.
const LISTED: usize = 12;

/// Tells on which side of the gateway a station is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Inside,
    Outside,
}

/// Is a namespace with a link on which packets are sent and captured.
#[derive(Debug)]
pub struct Station {
    pub name: &'static str,
    pub place: Namespace,
    pub link: &'static str,
    pub mac: [u8; 6],
    pub gateway_mac: [u8; 6],
    side: Side,
    offload: Offload,
    mouth: Mouth,
    wire: Wire,
    /// What was received and not yet asked for.
    inbox: RefCell<Vec<Packet>>,
    faults: RefCell<Vec<String>>,
    /// Whether inside addresses may be seen here.
    pub is_trusted: Cell<bool>,
    /// Whether what an error quotes may have a wrong checksum.
    pub is_lenient: Cell<bool>,
}

impl Station {
    /// Opens a link of a namespace, and captures from now on.
    pub fn open(
        (name, link): (&'static str, &'static str),
        place: Namespace,
        side: Side,
        offload: Offload,
    ) -> Self {
        Self {
            name,
            link,
            side,
            offload,
            mac: place.mac(link),
            gateway_mac: [0; 6],
            mouth: Mouth::open(&place, link),
            wire: Wire::open(&place, link),
            place,
            inbox: RefCell::default(),
            faults: RefCell::default(),
            is_trusted: Cell::new(false),
            is_lenient: Cell::new(false),
        }
    }

    /// Returns a packet from this station by way of its gateway.
    pub fn frame(&self, source: IpAddr, destination: IpAddr, transport: Transport) -> Frame {
        let somebody = crate::party::Who {
            mac: self.mac,
            gateway_mac: self.gateway_mac,
            ..crate::party::A
        };
        Frame {
            source,
            ..Frame::to_address(&somebody, destination, transport)
        }
    }

    pub fn send(&self, frame: &Frame) {
        self.mouth.send(&frame.bytes());
    }

    /// Sends a frame whose checksums may be wrong.
    pub fn send_as_is(&self, bytes: &[u8]) {
        self.mouth.send_as_is(bytes);
    }

    /// Waits for a packet.
    pub fn catch(&self, what: &str, is_it: impl Fn(&Packet) -> bool) -> Packet {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.take(&is_it) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{what} should arrive at {}; there arrived: {:#?}",
                self.name,
                self.listed()
            );
            self.pull(Duration::from_millis(100));
        }
    }

    /// Waits for the packet with this token.
    pub fn catch_token(&self, token: u32) -> Packet {
        self.catch(&format!("packet {token:#x}"), |packet| {
            packet.token() == Some(token)
        })
    }

    /// Waits for an error that quotes the packet with this token.
    pub fn catch_error(&self, token: u32) -> Packet {
        self.catch(&format!("an error about packet {token:#x}"), |packet| {
            packet
                .quoted()
                .is_some_and(|quoted| quoted.token() == Some(token))
        })
    }

    /// Returns all packets of a kind that arrived so far.
    pub fn arrived(&self, is_it: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        self.drain();
        let mut inbox = self.inbox.borrow_mut();
        let (found, others) = inbox.drain(..).partition(is_it);
        *inbox = others;
        found
    }

    /// Forgets what arrived so far, but for its faults.
    pub fn forget(&self) {
        self.drain();
        self.inbox.borrow_mut().clear();
    }

    /// Takes the faults that were found so far.
    pub fn faults(&self) -> Vec<String> {
        self.drain();
        self.faults.take()
    }

    fn take(&self, is_it: impl Fn(&Packet) -> bool) -> Option<Packet> {
        let mut inbox = self.inbox.borrow_mut();
        let index = inbox.iter().position(is_it)?;
        Some(inbox.remove(index))
    }

    fn drain(&self) {
        while self.pull(Duration::ZERO) {}
    }

    /// Takes the next frame in; tells whether there was one.
    fn pull(&self, wait: Duration) -> bool {
        let Some(frame) = self.wire.next_within(wait) else {
            return false;
        };
        if frame.is_outgoing {
            return true;
        }
        match Packet::of(&frame) {
            Some(packet) => {
                self.judge(&packet);
                self.inbox.borrow_mut().push(packet.summed());
            }
            None if matches!(frame.ethertype(), 0x0800 | 0x86dd) => {
                let fault = format!("{}: malformed {:02x?}", self.name, frame.bytes);
                self.faults.borrow_mut().push(fault);
            }
            None => {}
        }
        true
    }

    fn judge(&self, packet: &Packet) {
        let mut faults = packet.faults();
        if self.offload == Offload::On || self.is_lenient.get() {
            // A packet that is still to be summed may be quoted so.
            faults.retain(|fault| !fault.starts_with("quoted"));
        }
        if self.side == Side::Outside && !self.is_trusted.get() {
            let all = [Some(packet.clone()), packet.quoted()];
            let leaks = all
                .iter()
                .flatten()
                .filter(|packet| is_inside(packet.source) || is_inside(packet.destination));
            faults.extend(leaks.map(|packet| format!("an inside address: {}", packet.brief())));
        }
        let faults = faults
            .into_iter()
            .map(|fault| format!("{}: {fault}", self.name));
        self.faults.borrow_mut().extend(faults);
    }

    fn listed(&self) -> Vec<String> {
        let inbox = self.inbox.borrow();
        inbox.iter().rev().take(LISTED).map(Packet::brief).collect()
    }
}

/// Tells whether an address is one of the inside.
pub fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[10, 9, 0]),
        IpAddr::V6(address) => address.octets().starts_with(&[0xfd, 0, 0, 9]),
    }
}
