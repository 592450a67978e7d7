//! The states of a DHCP client (RFC 2131, 4.4), without I/O: time comes in as an argument, and what
//! is to be sent goes out as packets.
//!
//! ```text
//!              offer             ack          half of it is over     most of it is over
//! Discovering ──────► Requesting ───► Bound ───────────────────► Renewing ──────► Rebinding
//!      ▲                                ▲            ack            │    ack          │
//!      │                                └───────────────────────────┴─────────────────┤
//!      └────────── refused, or nobody answered until the lease expired ◄──────────────┘
//! ```
//!
//! A client that begins with a lease is `Rebooting`: it asks whether the lease still holds, and
//! keeps it as long as it is valid if nobody answers. Answers are recognised by the number of their
//! transaction, so that late ones count as long as the question does.
//!
//! Not here: whether somebody else uses the address already (ARP), several offers to choose from,
//! giving a lease back (RELEASE), and servers that send for the client (RFC 3203).

use std::net::Ipv4Addr;

use super::answer::{Answer, Kind as AnswerKind};
use super::message::{Kind, Message};
use super::wait::{Chance, again};
use crate::plan::lease::{Lease, Moment};
use crate::plan::object::Mac;

/// How often an offer is asked for before another one is looked for.
const REQUESTS: u32 = 4;

/// How often it is asked whether an earlier lease still holds.
const REBOOTS: u32 = 3;

/// After how many unanswered tries a person should know.
const SILENCE: u32 = 3;

/// Tells a client's side of the wire from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub mac: Mac,
    pub host_name: Option<String>,
}

/// Is what a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This packet is to be sent: to the owner of an Ethernet address, or to everybody.
    Send { packet: Vec<u8>, to: Option<Mac> },
    /// A server lent something, or confirmed what it lent.
    Leased,
    /// It gave more time.
    Renewed,
    /// What was lent must not be used any more.
    Lost(Loss),
    /// Nobody has answered for a while.
    Silence,
}

/// Tells why a lease is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nobody gave more time.
    Expired,
    /// A server said so.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Discovering,
    /// Asks for what this server offered.
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// Asks for an address from before.
    Rebooting {
        address: Ipv4Addr,
    },
    Bound,
    Renewing,
    Rebinding,
}

/// Is the client of one device.
#[derive(Clone, Debug)]
pub struct Client {
    identity: Identity,
    chance: Chance,
    state: State,
    /// What may be used.
    lease: Option<Lease>,
    xid: u32,
    /// When the present exchange began, and when the last question of it was sent.
    begun: Moment,
    asked: Moment,
    tries: u32,
    /// How often servers have refused in a row.
    refusals: u32,
    /// When something is to be done; `None` for a lease that never ends.
    due: Option<Moment>,
}

impl Client {
    /// Begins; `held` is what was lent before, and whether it is still valid.
    pub fn new(identity: Identity, seed: u64, held: Option<(Lease, bool)>, now: Moment) -> Self {
        let address = held.as_ref().map(|(lease, _)| lease.address.addr());
        let lease = held.and_then(|(lease, is_valid)| is_valid.then_some(lease));
        let mut client = Self {
            identity,
            chance: Chance::new(seed),
            state: State::Discovering,
            lease,
            xid: 0,
            begun: now,
            asked: now,
            tries: 0,
            refusals: 0,
            due: None,
        };
        let state = address.map(|address| State::Rebooting { address });
        client.enter(state.unwrap_or(State::Discovering), now);
        client
    }

    /// Returns what may be used.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Returns by whom the device is known.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Tells whether an answer is waited for.
    pub fn is_asking(&self) -> bool {
        self.state != State::Bound
    }

    /// Returns when something is to be done next.
    pub fn due(&self) -> Option<Moment> {
        let end = self.lease.as_ref().and_then(|lease| lease.term);
        let end = end.map(|term| term.expires);
        self.due.into_iter().chain(end).min()
    }

    /// Does what is due; to be called until nothing is.
    pub fn attend(&mut self, now: Moment) -> Vec<Action> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        if self
            .lease
            .as_ref()
            .is_some_and(|lease| !lease.is_valid(now))
        {
            self.lease = None;
            if !matches!(self.state, State::Discovering | State::Requesting { .. }) {
                self.enter(State::Discovering, now);
            }
            return vec![Action::Lost(Loss::Expired)];
        }
        self.change_state(now);
        if self.is_asking() {
            self.ask(now)
        } else {
            Vec::new()
        }
    }

    /// Takes a packet that came at a moment from the owner of an Ethernet address.
    pub fn receive(&mut self, packet: &[u8], from: Mac, now: Moment) -> Option<Action> {
        let answer = Answer::read(packet)?;
        if answer.xid != self.xid || answer.mac != self.identity.mac {
            return None;
        }
        match (&self.state, answer.kind) {
            (State::Discovering, AnswerKind::Offer) => {
                // What cannot be had is not asked for.
                answer.lease(from, now)?;
                let (address, server) = (answer.address, answer.server?);
                let xid = self.xid;
                self.enter(State::Requesting { address, server }, now);
                self.xid = xid;
                None
            }
            (State::Requesting { server, .. }, AnswerKind::Ack | AnswerKind::Nak)
                if answer.server != Some(*server) =>
            {
                None
            }
            (State::Discovering | State::Bound, _) | (_, AnswerKind::Offer) => None,
            (_, AnswerKind::Ack) => Some(self.bind(answer.lease(from, self.asked)?)),
            (_, AnswerKind::Nak) => self.give_up(now),
        }
    }

    fn enter(&mut self, state: State, now: Moment) {
        self.state = state;
        self.xid = self.chance.number();
        (self.begun, self.tries) = (now, 0);
        self.due = Some(now);
    }

    /// Goes on to another state where this one has come to its end.
    fn change_state(&mut self, now: Moment) {
        let term = self.lease.as_ref().and_then(|lease| lease.term);
        match &self.state {
            State::Requesting { .. } if self.tries >= REQUESTS => {
                self.enter(State::Discovering, now);
            }
            State::Rebooting { .. } if self.tries >= REBOOTS => match (&self.lease, term) {
                (None, _) => self.enter(State::Discovering, now),
                (Some(_), None) => self.rest(None),
                (Some(_), Some(term)) if now < term.renew => self.rest(Some(term.renew)),
                (Some(_), Some(_)) => self.enter(State::Renewing, now),
            },
            State::Bound => self.enter(State::Renewing, now),
            State::Discovering
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Renewing
            | State::Rebinding => {}
        }
        // An agent that slept may have missed all of the time to renew.
        if self.state == State::Renewing && term.is_some_and(|term| term.rebind <= now) {
            self.enter(State::Rebinding, now);
        }
    }

    fn rest(&mut self, until: Option<Moment>) {
        self.state = State::Bound;
        self.due = until;
    }

    /// Asks, and notes until when an answer is waited for.
    fn ask(&mut self, now: Moment) -> Vec<Action> {
        let send = self.question(now);
        let mut actions = vec![send];
        self.asked = now;
        self.tries = self.tries.saturating_add(1);
        let wait = match (
            &self.state,
            self.lease.as_ref().and_then(|lease| lease.term),
        ) {
            (State::Renewing, Some(term)) => {
                let left = term.rebind.saturating_sub(now);
                again(left, term.secs).min(left)
            }
            (State::Rebinding, Some(term)) => {
                let left = term.expires.saturating_sub(now);
                again(left, term.secs).min(left)
            }
            _ => self.chance.wait(self.tries - 1),
        };
        self.due = Some(now + wait);
        if self.state == State::Discovering && self.tries == SILENCE + 1 {
            actions.push(Action::Silence);
        }
        actions
    }

    fn question(&self, now: Moment) -> Action {
        let own = self.lease.as_ref().map(|lease| lease.address.addr());
        let nowhere = Ipv4Addr::UNSPECIFIED;
        // What one network does not deliver to an address that is not there yet, it delivers to
        // everybody; and the other way round.
        let broadcast = self.tries % 2 == 1;
        let mut message = Message {
            kind: Kind::Request,
            xid: self.xid,
            secs: u16::try_from(now.saturating_sub(self.begun).as_secs()).unwrap_or(u16::MAX),
            mac: self.identity.mac,
            own: nowhere,
            wish: None,
            server: None,
            to: Ipv4Addr::BROADCAST,
            broadcast,
            host_name: self.identity.host_name.as_deref(),
        };
        let mut to = None;
        match &self.state {
            State::Discovering | State::Bound => message.kind = Kind::Discover,
            State::Requesting { address, server } => {
                message.wish = Some(*address);
                message.server = Some(*server);
            }
            State::Rebooting { address } => message.wish = Some(*address),
            State::Renewing => {
                message.own = own.unwrap_or(nowhere);
                message.broadcast = false;
                if let Some(lease) = &self.lease {
                    message.to = lease.server;
                    to = Some(lease.server_mac);
                }
            }
            State::Rebinding => {
                message.own = own.unwrap_or(nowhere);
                message.broadcast = false;
            }
        }
        Action::Send {
            packet: message.packet(),
            to,
        }
    }

    fn bind(&mut self, mut lease: Lease) -> Action {
        let held = self.lease.as_ref();
        let held = held.filter(|held| held.address == lease.address);
        if let Some(held) = held {
            lease.obtained = held.obtained;
        }
        let is_asked_for_more = matches!(self.state, State::Renewing | State::Rebinding);
        let is_renewed = held.is_some() && is_asked_for_more;
        self.refusals = 0;
        self.rest(lease.term.map(|term| term.renew));
        self.lease = Some(lease);
        if is_renewed {
            Action::Renewed
        } else {
            Action::Leased
        }
    }

    /// Begins anew after a server refused; a server that always does is not asked all the time.
    fn give_up(&mut self, now: Moment) -> Option<Action> {
        let held = self.lease.take();
        self.enter(State::Discovering, now);
        if self.refusals > 0 {
            self.due = Some(now + self.chance.wait(self.refusals - 1));
        }
        self.refusals = self.refusals.saturating_add(1);
        held.map(|_| Action::Lost(Loss::Refused))
    }
}

#[cfg(test)]
mod tests;
