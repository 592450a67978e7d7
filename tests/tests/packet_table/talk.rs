//! What the tables about masquerade share: a conversation of an endpoint with the far party, on
//! both sides of its translation.
//!
//! ```text
//! endpoint ── sent ──► from_container ── left ──► far
//! endpoint ◄─ returned ── from_netdev ◄── answer ── far
//! ```

use std::net::IpAddr;

use datapath::abi::{Action, Node, OUTSIDE, Stage};
use datapath::packet::MacPair;
use datapath::verdict::Verdict;
use tests::frame::{Frame, Transport, Tuple, aged};
use tests::party::{DEVICE_LINK, FAR, Family, HOST, Who, next_hop};
use tests::row::Row;
use tests::snapshot::{Snapshot, Waiting};

pub(crate) const SECOND_NS: i64 = 1_000_000_000;

/// Is one packet of each direction, before and behind its translation.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) family: Family,
    pub(crate) who: Who,
    pub(crate) sent: Frame,
    pub(crate) left: Frame,
    pub(crate) answer: Frame,
    pub(crate) returned: Frame,
}

impl Talk {
    /// Makes a conversation out of four transport headers: as sent, as it leaves, the answer, and
    /// what the endpoint gets of it.
    pub(crate) fn new(
        family: Family,
        who: &Who,
        [sent, left, answer, returned]: [Transport; 4],
    ) -> Self {
        let sent = Frame::to_address(who, family.far(), sent);
        let left = Frame {
            source: family.outer(),
            transport: left,
            ..sent.clone()
        };
        let answer = Frame::new(&FAR, &FAR, family, answer).to(family.outer());
        let returned = Frame {
            destination: who.ip(family),
            transport: returned,
            ..answer.clone()
        };
        Self {
            family,
            who: *who,
            sent,
            left,
            answer,
            returned,
        }
    }

    /// Makes a conversation whose transport headers stay as they are.
    pub(crate) fn kept(family: Family, who: &Who, [sent, answer]: [Transport; 2]) -> Self {
        Self::new(family, who, [sent.clone(), sent, answer.clone(), answer])
    }

    /// Makes a conversation with port 80 of TCP from a port of the range.
    pub(crate) fn tcp(family: Family, who: &Who, port: u16, flags: u8) -> Self {
        let sent = Transport::tcp(port, 80, flags);
        Self::kept(family, who, [sent, Transport::tcp(80, port, flags)])
    }

    /// Makes a conversation with port 53 of UDP from a port of the range.
    pub(crate) fn udp(family: Family, who: &Who, port: u16) -> Self {
        let sent = Transport::udp(port, 53, 20);
        Self::kept(family, who, [sent, Transport::udp(53, port, 20)])
    }

    /// Makes a conversation with port 53 of UDP from port 50000, which leaves by another one.
    pub(crate) fn moved(family: Family, who: &Who, port: u16) -> Self {
        let udp = |from, to| Transport::udp(from, to, 20);
        let headers = [(50_000, 53), (port, 53), (53, port), (53, 50_000)];
        Self::new(family, who, headers.map(|(from, to)| udp(from, to)))
    }

    /// Makes a conversation of echoes whose identifier is one of the range.
    pub(crate) fn echo(family: Family, who: &Who, id: u16) -> Self {
        let sent = Transport::echo(family, false, id);
        Self::kept(family, who, [sent, Transport::echo(family, true, id)])
    }

    /// Makes the same conversation of other packets.
    #[must_use]
    pub(crate) fn with(self, change: impl Fn(Frame) -> Frame) -> Self {
        Self {
            sent: change(self.sent),
            left: change(self.left),
            answer: change(self.answer),
            returned: change(self.returned),
            ..self
        }
    }

    /// Makes the same conversation with another address.
    #[must_use]
    pub(crate) fn toward(mut self, far: IpAddr) -> Self {
        (self.sent.destination, self.left.destination) = (far, far);
        (self.answer.source, self.returned.source) = (far, far);
        self
    }

    /// Adds the binding of this conversation alone.
    pub(crate) fn bind(&self, state: &mut Snapshot, counts: (u16, u16)) {
        let halves = (self.sent.tuple(), self.left.tuple());
        state.binding(halves, &self.who, counts, 1_000 * SECOND_NS);
    }

    /// Adds a binding that serves every remote address.
    pub(crate) fn bind_shared(&self, state: &mut Snapshot, counts: (u16, u16)) {
        let halves = (shared(self.sent.tuple()), shared(self.left.tuple()));
        state.binding(halves, &self.who, counts, 1_000 * SECOND_NS);
    }

    /// Adds the note that lets the far address in.
    pub(crate) fn permit(&self, state: &mut Snapshot) {
        self.permit_for(state, 1_000 * SECOND_NS);
    }

    /// Adds this note with so much time to go.
    pub(crate) fn permit_for(&self, state: &mut Snapshot, left_ns: i64) {
        state.permit(self.sent.tuple(), &self.who, left_ns);
    }

    /// Adds both halves of the connection, `10` packets counted in each.
    pub(crate) fn flows(&self, state: &mut Snapshot) {
        let (mut there, mut back) = (self.who.flow_out(self.family), self.who.flow_in());
        for flow in [&mut there, &mut back] {
            (flow.packets, flow.bytes) = (10, 1_000);
        }
        let (sent, left) = (self.sent.tuple(), self.left.tuple());
        state
            .translated(sent, left, there)
            .translated(left.reversed(), sent.reversed(), back);
    }

    /// Adds both halves of the connection as they are after one packet of each side. The way out is
    /// found by the next packet that goes there.
    pub(crate) fn opened(&self, state: &mut Snapshot) {
        self.flows(state);
        for frame in [&self.sent, &self.answer] {
            let len = u64::try_from(frame.bytes().len()).expect("fits");
            let flow = state.known(frame.tuple());
            (flow.packets, flow.bytes) = (1, len);
        }
        let mut there = self.who.flow_to(&HOST);
        there.begin(Action::Stack);
        there.set_stage(Stage::Established);
        (there.receiver, there.target_identity) = (OUTSIDE, 2);
        (there.leaves, there.mtu) = (MacPair::default(), u16::MAX);
        (there.packets, there.bytes) = (1, state.known(self.sent.tuple()).bytes);
        state.translated(self.sent.tuple(), self.left.tuple(), there);
    }

    /// Adds both halves of the connection and its binding.
    pub(crate) fn connect(&self, state: &mut Snapshot) {
        let is_tcp = self.sent.transport.protocol == tests::frame::TCP;
        self.flows(state);
        self.bind(state, (1, u16::from(is_tcp)));
    }

    /// Makes the decisions about the connection old ones.
    pub(crate) fn forget_decisions(&self, state: &mut Snapshot) {
        state.known(self.sent.tuple()).generation = 6;
        state.known(self.answer.tuple()).generation = 6;
    }

    /// Adds the flow as one that waits after this packet.
    pub(crate) fn wait(&self, state: &mut Snapshot) {
        let waiting = Waiting::of(&self.who, 1, self.sent.bytes().len());
        state.pending(self.sent.tuple(), waiting.translated());
    }
}

/// Returns what stands for a tuple and every remote address.
pub(crate) fn shared(tuple: Tuple) -> Tuple {
    let nowhere: IpAddr = if tuple.source.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    Tuple {
        destination: nowhere,
        ports: [tuple.ports[0], 0],
        ..tuple
    }
}

/// Lets a binding serve every remote address.
pub(crate) fn endpoint_independent(node: &mut Node) {
    node.masquerade.endpoint_independent = 1;
}

/// The packet leaves by the device as this frame, routed.
pub(crate) fn leaves_as(row: Row, frame: &Frame, family: Family) -> Row {
    let (address, number) = next_hop(family);
    let bytes = frame.bytes();
    row.gets(Verdict::Neighbour(DEVICE_LINK, address, number))
        .leaves(|_| aged(bytes))
}

/// The endpoint's packet, as a row of this name.
pub(crate) fn out(name: String, talk: &Talk) -> Row {
    Row::from_container(name, &talk.who, talk.sent.bytes())
}

/// The endpoint's packet leaves translated.
pub(crate) fn left(row: Row, talk: &Talk) -> Row {
    leaves_as(row, &talk.left, talk.family)
}

/// The packet reaches the endpoint as this frame, routed.
pub(crate) fn arrives_as(row: Row, frame: &Frame, to: &Who) -> Row {
    let bytes = frame.bytes();
    row.leaves(|_| bytes).routed_to(to)
}
