//! The states against simulated time: what is asked when, and what answers, late and contradicting
//! ones too, make of it.

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
