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
mod tests {
    use std::time::Duration;

    use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, Ipv4Packet, UdpPacket};

    use super::super::answer::tests::{ADDRESS, MAC, PLAIN, SERVER_IP, SERVER_MAC, packet};
    use super::super::message::LEASE_TIME;
    use super::*;

    const START: Moment = Moment::from_secs(1000);

    /// Is a question that went out.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Question {
        kind: DhcpMessageType,
        xid: u32,
        own: Ipv4Addr,
        wish: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
        to: Ipv4Addr,
        to_mac: Option<Mac>,
        broadcast: bool,
    }

    fn question(packet: &[u8], to_mac: Option<Mac>) -> Question {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        let dhcp = DhcpPacket::new_checked(udp.payload()).unwrap();
        let repr = DhcpRepr::parse(&dhcp).unwrap();
        Question {
            kind: repr.message_type,
            xid: repr.transaction_id,
            own: repr.client_ip,
            wish: repr.requested_ip,
            server: repr.server_identifier,
            to: ip.dst_addr(),
            to_mac,
            broadcast: repr.broadcast,
        }
    }

    /// Is a client and its clock.
    struct Bench {
        client: Client,
        now: Moment,
        /// What the client said beside its questions.
        said: Vec<Action>,
    }

    impl Bench {
        fn new(held: Option<(Lease, bool)>) -> Self {
            let identity = Identity {
                mac: MAC,
                host_name: None,
            };
            Self {
                client: Client::new(identity, 7, held, START),
                now: START,
                said: Vec::new(),
            }
        }

        fn bound() -> Self {
            let mut bench = Self::new(None);
            bench.next();
            bench.answer(AnswerKind::Offer);
            bench.next();
            bench.answer(AnswerKind::Ack);
            bench.said.clear();
            bench
        }

        /// Lets time pass until the next question.
        fn next(&mut self) -> Question {
            loop {
                self.now = self.client.due().expect("something is due").max(self.now);
                for action in self.client.attend(self.now) {
                    if let Action::Send { packet, to } = action {
                        let found = question(&packet, to);
                        self.said.extend(self.client.attend(self.now));
                        return found;
                    }
                    self.said.push(action);
                }
            }
        }

        fn answer(&mut self, kind: AnswerKind) -> Option<Action> {
            self.answer_with(kind, self.client.xid, &PLAIN)
        }

        fn answer_with(
            &mut self,
            kind: AnswerKind,
            xid: u32,
            options: &[(u8, &[u8])],
        ) -> Option<Action> {
            let bytes = packet(kind, xid, options);
            let action = self.client.receive(&bytes, SERVER_MAC, self.now);
            self.said.extend(action.clone());
            action
        }

        fn secs(&self) -> u64 {
            self.now.saturating_sub(START).as_secs()
        }
    }

    #[test]
    fn offer_is_asked_for_and_then_held() {
        let mut bench = Bench::new(None);

        let discover = bench.next();
        assert_eq!(
            (discover.kind, discover.to),
            (DhcpMessageType::Discover, Ipv4Addr::BROADCAST)
        );
        assert_eq!(bench.answer(AnswerKind::Offer), None);
        let request = bench.next();
        assert_eq!(request.kind, DhcpMessageType::Request);
        assert_eq!(
            (request.wish, request.server),
            (Some(ADDRESS), Some(SERVER_IP))
        );
        assert_eq!(
            (request.own, request.xid),
            (Ipv4Addr::UNSPECIFIED, discover.xid)
        );
        assert_eq!(bench.answer(AnswerKind::Ack), Some(Action::Leased));

        assert_eq!(bench.secs(), 0, "nothing should have been waited for");
        assert_eq!(bench.client.lease().unwrap().address.addr(), ADDRESS);
        assert_eq!(bench.client.due(), Some(START + Duration::from_secs(40)));
        assert!(!bench.client.is_asking());
    }

    #[test]
    fn lost_questions_are_repeated_more_and_more_rarely() {
        let mut bench = Bench::new(None);

        let questions: Vec<_> = (0..9).map(|_| bench.next()).collect();

        assert!(questions.iter().all(|asked| asked.xid == questions[0].xid));
        assert!((167..=215).contains(&bench.secs()), "{}", bench.secs());
    }

    #[test]
    fn silence_is_told_once() {
        let mut bench = Bench::new(None);
        let mut told = 0;
        for _ in 0..20 {
            bench.now = bench.client.due().unwrap();
            let actions = bench.client.attend(bench.now);
            told += actions
                .iter()
                .filter(|action| **action == Action::Silence)
                .count();
        }

        assert_eq!(told, 1);
    }

    #[test]
    fn late_offer_and_late_ack_count_as_long_as_the_question_does() {
        let mut bench = Bench::new(None);
        let first = bench.next();
        for _ in 0..3 {
            bench.next();
        }

        bench.answer_with(AnswerKind::Offer, first.xid, &PLAIN);
        bench.next();
        bench.next();
        bench.answer(AnswerKind::Ack);

        assert!(bench.client.lease().is_some());
    }

    #[test]
    fn every_other_question_asks_for_an_answer_to_everybody() {
        let mut bench = Bench::new(None);

        let flags: Vec<_> = (0..4).map(|_| bench.next().broadcast).collect();

        assert_eq!(flags, [false, true, false, true]);
    }

    #[test]
    fn answers_to_others_are_not_taken() {
        let mut bench = Bench::new(None);
        let asked = bench.next();

        bench.answer_with(AnswerKind::Offer, asked.xid ^ 1, &PLAIN);
        bench.answer_with(AnswerKind::Ack, asked.xid, &PLAIN);

        assert_eq!(bench.next().kind, DhcpMessageType::Discover);
        assert!(bench.client.lease().is_none());
    }

    #[test]
    fn server_that_offers_and_then_says_nothing_is_given_up() {
        let mut bench = Bench::new(None);
        bench.next();
        bench.answer(AnswerKind::Offer);

        let kinds: Vec<_> = (0..5).map(|_| bench.next().kind).collect();

        assert_eq!(kinds[..4], [DhcpMessageType::Request; 4]);
        assert_eq!(kinds[4], DhcpMessageType::Discover);
    }

    #[test]
    fn lease_is_renewed_after_half_of_it_with_its_server() {
        let mut bench = Bench::bound();

        let asked = bench.next();

        assert_eq!(bench.secs(), 40);
        assert_eq!((asked.to, asked.to_mac), (SERVER_IP, Some(SERVER_MAC)));
        assert_eq!((asked.own, asked.wish, asked.server), (ADDRESS, None, None));
        let obtained = bench.client.lease().unwrap().obtained;
        bench.answer(AnswerKind::Ack);
        let lease = bench.client.lease().unwrap();
        assert_eq!(lease.term.unwrap().expires, START + Duration::from_mins(2));
        assert_eq!(lease.obtained, obtained, "it has been held since then");
    }

    #[test]
    fn any_server_is_asked_when_most_of_the_lease_is_over() {
        let mut bench = Bench::bound();

        let mut asked = bench.next();
        while asked.to_mac.is_some() {
            asked = bench.next();
        }

        assert_eq!(bench.secs(), 70);
        assert_eq!((asked.to, asked.own), (Ipv4Addr::BROADCAST, ADDRESS));
        assert_eq!(bench.answer(AnswerKind::Ack), Some(Action::Renewed));
    }

    #[test]
    fn lease_that_nobody_renews_expires_and_another_is_looked_for() {
        let mut bench = Bench::bound();

        let mut asked = bench.next();
        while asked.kind == DhcpMessageType::Request {
            asked = bench.next();
        }

        assert_eq!(bench.said, [Action::Lost(Loss::Expired)]);
        assert_eq!((asked.kind, bench.secs()), (DhcpMessageType::Discover, 80));
        assert!(bench.client.lease().is_none());
    }

    #[test]
    fn client_that_slept_through_its_lease_does_not_use_it() {
        let mut bench = Bench::bound();

        let actions = bench.client.attend(START + Duration::from_secs(500));

        assert_eq!(actions, [Action::Lost(Loss::Expired)]);
        assert!(bench.client.lease().is_none());
    }

    #[test]
    fn client_that_slept_through_the_time_to_renew_asks_everybody() {
        let mut bench = Bench::bound();
        bench.now = START + Duration::from_secs(75);

        assert_eq!(bench.next().to, Ipv4Addr::BROADCAST);
    }

    #[test]
    fn refused_lease_is_not_used_any_more() {
        let mut bench = Bench::bound();
        bench.next();

        assert_eq!(
            bench.answer(AnswerKind::Nak),
            Some(Action::Lost(Loss::Refused))
        );

        assert!(bench.client.lease().is_none());
        assert_eq!(
            (bench.next().kind, bench.secs()),
            (DhcpMessageType::Discover, 40)
        );
    }

    #[test]
    fn server_that_always_refuses_is_asked_more_and_more_rarely() {
        let mut bench = Bench::new(None);
        for _ in 0..8 {
            bench.next();
            bench.answer(AnswerKind::Offer);
            bench.next();
            bench.answer(AnswerKind::Nak);
        }

        assert!(bench.secs() > 50, "{}", bench.secs());
    }

    #[test]
    fn lease_from_before_is_kept_while_it_is_asked_whether_it_holds() {
        let held = Bench::bound().client.lease().cloned().unwrap();
        let mut bench = Bench::new(Some((held.clone(), true)));

        let asked = bench.next();

        assert_eq!(
            (asked.kind, asked.wish),
            (DhcpMessageType::Request, Some(ADDRESS))
        );
        assert_eq!((asked.own, asked.server), (Ipv4Addr::UNSPECIFIED, None));
        assert_eq!(bench.client.lease(), Some(&held));
        assert_eq!(bench.answer(AnswerKind::Ack), Some(Action::Leased));
    }

    #[test]
    fn lease_from_before_goes_on_if_nobody_answers() {
        let held = Bench::bound().client.lease().cloned().unwrap();
        let mut bench = Bench::new(Some((held, true)));
        for _ in 0..3 {
            assert_eq!(bench.next().wish, Some(ADDRESS));
        }

        let asked = bench.next();

        assert_eq!(
            (asked.to_mac, bench.secs()),
            (Some(SERVER_MAC), 40),
            "renewed as usual"
        );
    }

    #[test]
    fn lease_from_before_that_a_server_refuses_is_lost_at_once() {
        let held = Bench::bound().client.lease().cloned().unwrap();
        let mut bench = Bench::new(Some((held, true)));
        bench.next();

        assert_eq!(
            bench.answer(AnswerKind::Nak),
            Some(Action::Lost(Loss::Refused))
        );
        assert_eq!(bench.next().kind, DhcpMessageType::Discover);
    }

    #[test]
    fn lease_of_an_earlier_start_is_asked_for_and_not_used() {
        let held = Bench::bound().client.lease().cloned().unwrap();
        let mut bench = Bench::new(Some((held, false)));

        assert_eq!(bench.next().wish, Some(ADDRESS));
        assert_eq!(bench.client.lease(), None);
        bench.next();
        bench.next();
        assert_eq!(bench.next().kind, DhcpMessageType::Discover);
    }

    #[test]
    fn lease_that_never_ends_asks_for_nothing() {
        let mut bench = Bench::new(None);
        let options = [PLAIN[0], (LEASE_TIME, &[255; 4])];
        bench.next();
        bench.answer_with(AnswerKind::Offer, bench.client.xid, &options);
        bench.next();
        bench.answer_with(AnswerKind::Ack, bench.client.xid, &options);

        assert_eq!(bench.client.due(), None);
    }

    #[test]
    fn offer_of_another_server_is_not_mistaken_for_the_answer() {
        let mut bench = Bench::new(None);
        bench.next();
        bench.answer(AnswerKind::Offer);
        bench.client.state = State::Requesting {
            address: ADDRESS,
            server: Ipv4Addr::new(192, 0, 2, 99),
        };
        bench.next();

        assert_eq!(bench.answer(AnswerKind::Ack), None);
        assert_eq!(bench.answer(AnswerKind::Nak), None);
    }
}
