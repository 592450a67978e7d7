//! A conversation by TCP, segment by segment.

use std::net::SocketAddr;

use tests::frame::{ACK, PSH, SYN};
use tests::lab::world::World;
use tests::packet::Packet;
use tests::segment::Segment;

/// Is who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    Client,
    Server,
}

use Speaker::{Client, Server};

/// Is a conversation of an endpoint with a server; every segment is seen at the other side.
pub(crate) struct Talk<'a> {
    world: &'a World,
    pub(crate) inside: SocketAddr,
    pub(crate) far: SocketAddr,
    /// The client, as the server sees it.
    pub(crate) outside: SocketAddr,
    /// The next sequence number of each.
    next: [u32; 2],
}

impl<'a> Talk<'a> {
    /// Sends the first SYN, which the server sees.
    pub(crate) fn begin(world: &'a World, inside: SocketAddr, far: SocketAddr) -> Self {
        let mut talk = Self {
            world,
            inside,
            far,
            outside: inside,
            next: [(); 2].map(|()| world.next_sequence()),
        };
        talk.outside = talk.say(Client, SYN, b"").from();
        talk
    }

    /// Opens a connection.
    pub(crate) fn open(world: &'a World, inside: SocketAddr, far: SocketAddr) -> Self {
        let mut talk = Self::begin(world, inside, far);
        talk.say(Server, SYN | ACK, b"");
        talk.say(Client, ACK, b"");
        talk
    }

    /// Opens a connection and sends data both ways.
    pub(crate) fn established(world: &'a World, inside: SocketAddr, far: SocketAddr) -> Self {
        let mut talk = Self::open(world, inside, far);
        talk.exchange();
        talk
    }

    /// Sends data both ways.
    pub(crate) fn exchange(&mut self) {
        self.say(Client, ACK | PSH, b"question");
        self.say(Server, ACK | PSH, b"answer");
        self.say(Client, ACK, b"");
    }

    /// Sends a segment, which the other side must see as it is; returns what it sees.
    pub(crate) fn say(&mut self, who: Speaker, flags: u8, payload: &[u8]) -> Packet {
        let segment = self.segment(who, flags).payload(payload);
        self.next[who as usize] = segment.sequence.wrapping_add(segment.len());
        self.expect(who, &segment)
    }

    /// Returns the segment that somebody would send next.
    pub(crate) fn segment(&self, who: Speaker, flags: u8) -> Segment {
        let other = self.next[1 - who as usize];
        let acknowledgement = if flags & ACK == 0 { 0 } else { other };
        Segment::new(self.next[who as usize], acknowledgement, flags)
    }

    /// Sends any segment, which the other side must see as it is.
    pub(crate) fn expect(&self, who: Speaker, segment: &Segment) -> Packet {
        let (from, to) = self.ends(who);
        let receiver = if who == Client { to } else { self.inside };
        self.world.tcp(from, to, segment);
        let seen = self
            .world
            .station(receiver.ip())
            .catch(&format!("{who:?}'s {segment:?}"), |packet| {
                packet.token() == Some(segment.sequence) && packet.to() == receiver
            });
        let sent = segment.transport(from.port(), to.port()).bytes;
        assert_eq!(seen.body[4..16], sent[4..16], "of {}", seen.brief());
        assert_eq!(seen.body[18..], sent[18..], "of {}", seen.brief());
        if who == Client && self.outside != self.inside {
            assert_eq!(seen.from(), self.outside, "the outside tuple should stay");
        }
        seen
    }

    /// Tells whether a segment reaches the other side.
    pub(crate) fn reaches(&self, who: Speaker, flags: u8) -> bool {
        let segment = self.segment(who, flags).payload(b"?");
        let (from, to) = self.ends(who);
        let receiver = if who == Client { to } else { self.inside };
        let token = self.world.tcp(from, to, &segment);
        self.world.has_arrived(token, receiver)
    }

    fn ends(&self, who: Speaker) -> (SocketAddr, SocketAddr) {
        match who {
            Client => (self.inside, self.far),
            Server => (self.far, self.outside),
        }
    }
}
