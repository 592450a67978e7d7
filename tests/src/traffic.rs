//! Random packets: conversations of the node's parties, with everything that may be odd about
//! them, and damaged ones.
//!
//! Addresses, ports and identifiers come from small sets, so that packets meet the flows,
//! pending flows and fragments of earlier ones; every third packet answers one of them.

use std::net::IpAddr;

use datapath::hook::Hook;
use datapath::model::ModelPacket;

use crate::frame::{ACK, FIN, Frame, PSH, RST, SYN, Transport};
use crate::party::{
    A, ALL, B, C, D, DEVICE_LINK, DEVICE_MAC, EMPTY_LINK, FAR, FRIEND, Family, HOST, Who,
};
use crate::random::Random;

/// Number of packets that may be answered or quoted.
const RECENT: usize = 24;

/// Lengths of payloads with which packets are as long as an MTU, or a byte longer.
const EDGES: [u16; 10] = [
    1_472, 1_473, 1_452, 1_453, 1_438, 1_439, 1_418, 1_419, 1_232, 1_233,
];

/// Sizes of segments of GSO packets, some as long as an MTU or a byte longer.
const SEGMENTS: [u32; 8] = [100, 1_208, 1_209, 1_428, 1_429, 1_448, 1_449, 9_000];

/// Makes packets.
pub struct Traffic {
    random: Random,
    recent: Vec<Frame>,
}

impl Traffic {
    pub const fn new(random: Random) -> Self {
        Self {
            random,
            recent: Vec::new(),
        }
    }

    /// Returns the generator, for whatever else happens between packets.
    pub const fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Returns a packet and the hook that it comes to.
    pub fn packet(&mut self) -> (Hook, ModelPacket) {
        let (who, bytes) = match self.random.below(30) {
            0 => self.arp(),
            1 => self.neighbour(),
            _ => self.conversation(),
        };
        let is_beyond = who == FAR || who == FRIEND;
        let hook = match (who == HOST, self.random.below(12)) {
            (_, 0) => self.random.pick(&Hook::ALL),
            (_, 1) if is_beyond => Hook::FromHost,
            (_, _) if is_beyond => Hook::FromNetdev,
            (_, 3) => Hook::ToNetdev,
            (true, 1 | 2) => Hook::ToContainer,
            (true, _) => Hook::FromHost,
            (false, 1 | 2) => Hook::ToHost,
            (false, _) => Hook::FromContainer,
        };
        let ifindex = self.link(hook, &who);
        let mut packet = ModelPacket {
            bytes,
            ifindex,
            ingress_ifindex: self.random.pick(&[
                HOST.link,
                HOST.link,
                HOST.link,
                EMPTY_LINK,
                DEVICE_LINK,
                0,
            ]),
            ..ModelPacket::default()
        };
        if packet.bytes.len() > 300 && self.random.one_in(2) {
            packet.gso_size = self.random.pick(&SEGMENTS);
        }
        self.damage(&mut packet.bytes);
        packet.is_foreign = hook == Hook::FromNetdev && packet.bytes[..6] != DEVICE_MAC;
        (hook, packet)
    }

    /// Returns the link that a packet comes to a hook of: mostly the right one.
    fn link(&mut self, hook: Hook, from: &Who) -> u32 {
        // Whether a frame is for the device, a test run takes from the link's own address.
        if hook != Hook::FromNetdev && self.random.one_in(40) {
            return self
                .random
                .pick(&[A.link, B.link, C.link, D.link, HOST.link, EMPTY_LINK]);
        }
        match hook {
            Hook::FromContainer => from.link,
            Hook::ToContainer => self.random.pick(&[A.link, A.link, B.link, C.link, D.link]),
            Hook::FromHost | Hook::ToHost => HOST.link,
            Hook::FromNetdev | Hook::ToNetdev => DEVICE_LINK,
        }
    }

    fn conversation(&mut self) -> (Who, Vec<u8>) {
        let answers = !self.recent.is_empty() && self.random.one_in(3);
        let (who, mut frame) = if answers { self.answer() } else { self.fresh() };
        self.decorate(&mut frame);
        if self.recent.len() == RECENT {
            let oldest = self.random.below(RECENT);
            self.recent.swap_remove(oldest);
        }
        self.recent.push(frame.clone());
        (who, frame.bytes())
    }

    fn fresh(&mut self) -> (Who, Frame) {
        let from = self
            .random
            .pick(&[A, A, A, A, B, B, B, C, D, HOST, FAR, FRIEND]);
        let family = match (from.ipv4, from.ipv6) {
            (Some(_), Some(_)) => self.random.pick(&Family::BOTH),
            (Some(_), None) => Family::V4,
            (None, _) => Family::V6,
        };
        let mut to = self.address(family);
        if (from == FAR || from == FRIEND) && !self.random.one_in(8) {
            to = family.outer();
        }
        if to == from.ip(family) && !self.random.one_in(20) {
            to = self.address(family);
        }
        let transport = self.transport(family);
        (from, Frame::to_address(&from, to, transport))
    }

    /// Returns the answer to a recent packet, or one more packet of its flow.
    fn answer(&mut self) -> (Who, Frame) {
        let index = self.random.below(self.recent.len());
        let mut frame = self.recent[index].clone();
        if self.random.one_in(3) {
            let who = party_of(frame.source);
            self.continue_tcp(&mut frame);
            return (who, frame);
        }
        let who = party_of(frame.destination);
        (frame.source, frame.destination) = (frame.destination, frame.source);
        if (who == FAR || who == FRIEND) && !self.random.one_in(4) {
            // What was masqueraded kept its port, if that is in the range.
            frame.destination = family_of(frame.source).outer();
        }
        (frame.from_mac, frame.to_mac) = (who.mac, who.gateway_mac);
        let [from, to] = frame.transport.ports;
        frame.transport.ports = [to, from];
        let turned = frame.tuple().reversed().tag;
        let bytes = &mut frame.transport.bytes;
        match frame.transport.protocol {
            6 | 17 | 132 | 136 if bytes.len() >= 4 => {
                bytes[..4].rotate_left(2);
            }
            1 | 58 if turned != frame.transport.tag => {
                frame.transport.tag = turned;
                bytes[0] = turned;
            }
            _ => {}
        }
        self.continue_tcp(&mut frame);
        (who, frame)
    }

    fn continue_tcp(&mut self, frame: &mut Frame) {
        if frame.transport.protocol == 6 {
            frame.transport.bytes[13] = self.tcp_flags();
        }
        frame.part = None;
    }

    fn tcp_flags(&mut self) -> u8 {
        let usual = [
            ACK,
            ACK,
            ACK | PSH,
            ACK | PSH,
            SYN,
            SYN | ACK,
            FIN | ACK,
            RST,
            RST | ACK,
        ];
        if self.random.one_in(20) {
            self.random.byte()
        } else {
            self.random.pick(&usual)
        }
    }

    fn address(&mut self, family: Family) -> IpAddr {
        let local = match family {
            Family::V4 => [A, B, C].map(|who| who.ip(family)),
            Family::V6 => [A, B, D].map(|who| who.ip(family)),
        };
        match self.random.below(18) {
            0 => family.router(),
            1 => family.world(),
            2 => family.unused(),
            3 => family.outer(),
            4..8 => family.far(),
            8 => family.friend(),
            _ => self.random.pick(&local),
        }
    }

    fn transport(&mut self, family: Family) -> Transport {
        let port = self.random.pick(&[40_000, 40_001, 50_000, 50_000, 50_001]);
        let service = self.random.pick(&[80, 80, 53, 50_000]);
        let len = match self.random.below(24) {
            0 => u16::try_from(self.random.below(2_600)).expect("fits"),
            1 | 2 => self.random.pick(&EDGES),
            _ => 20,
        };
        match self.random.below(20) {
            0..8 => {
                let mut tcp = Transport::tcp(port, service, self.tcp_flags());
                tcp.bytes.resize(tcp.bytes.len() + usize::from(len), 0xaa);
                tcp
            }
            8..12 => Transport::udp(port, service, len),
            12..15 => {
                let id = self.random.pick(&[0, 7, 7, 8, 50_000]);
                Transport::echo(family, self.random.one_in(4), id)
            }
            15..17 => self.error(family),
            17 => {
                let kind = self.random.byte();
                Transport::icmp(family, kind, 0, &[0; 12])
            }
            18 => {
                let protocol = self.random.pick(&[132, 136]);
                let bytes = [
                    port.to_be_bytes(),
                    service.to_be_bytes(),
                    [0; 2],
                    [0; 2],
                    [0; 2],
                    [0; 2],
                ];
                Transport::other(protocol, [port, service], &bytes.concat())
            }
            _ => {
                let protocol = self
                    .random
                    .pick(&[2, 33, 47, 50, 59, 89, 253, 1, 58, 0, 44]);
                Transport::other(protocol, [0, 0], &[3; 24])
            }
        }
    }

    /// Returns an ICMP error about a recent packet, or about nothing.
    fn error(&mut self, family: Family) -> Transport {
        let kind = match family {
            Family::V4 => self.random.pick(&[3, 3, 4, 5, 11, 12]),
            Family::V6 => self.random.pick(&[1, 1, 2, 3, 4, 100]),
        };
        let mut quoted = Vec::new();
        if !self.recent.is_empty() {
            let index = self.random.below(self.recent.len());
            let mut frame = self.recent[index].clone();
            if [FAR, FRIEND].contains(&party_of(frame.destination)) && !self.random.one_in(4) {
                frame.source = family_of(frame.source).outer();
            }
            quoted = frame.quote();
        }
        let all = quoted.len();
        let keep = if self.random.one_in(3) {
            self.random.below(60)
        } else {
            500
        };
        quoted.truncate(keep.min(all));
        Transport::error(family, kind, 0, &quoted)
    }

    /// Makes a packet odd, sometimes.
    fn decorate(&mut self, frame: &mut Frame) {
        if self.random.one_in(12) {
            frame.hop_limit = self.random.pick(&[0, 1, 1, 2, 255]);
        }
        if self.random.one_in(16) {
            frame.options = self
                .random
                .pick::<&[u8]>(&[&[1; 4], &[7; 40], &[]])
                .to_vec();
        }
        if self.random.one_in(16) {
            for _ in 0..=self.random.below(7) {
                let protocol = self.random.pick(&[0, 60, 60, 60, 51, 43, 44]);
                let rest = self
                    .random
                    .pick::<&[u8]>(&[&[0; 7], &[1; 15], &[0, 0, 1, 0, 0, 0, 9]]);
                frame.extensions.push((protocol, rest.to_vec()));
            }
        }
        if self.random.one_in(10) {
            self.fragment(frame);
        }
        if self.random.one_in(40) {
            frame.source = self.address(family_of(frame.source));
        }
        if self.random.one_in(60) {
            frame.from_mac = self.random.pick(&ALL).mac;
        }
        if self.random.one_in(60) {
            frame.to_mac = self.random.pick(&[[0xff; 6], [0x33; 6], B.mac, HOST.mac]);
        }
    }

    fn fragment(&mut self, frame: &mut Frame) {
        let len = frame.transport.bytes.len();
        let start = self
            .random
            .below(len / 8 + 1)
            .min(self.random.pick(&[0, 0, 1, 2, 500]))
            * 8;
        let end = start + self.random.below((len - start) / 8 + 1) * 8;
        let end = if self.random.one_in(3) { len } else { end };
        frame.part = Some(start..end);
        frame.id = self.random.pick(&[1, 2, 3]);
    }

    fn arp(&mut self) -> (Who, Vec<u8>) {
        let who = self.random.pick(&[A, B, C, D]);
        let to_mac = self.random.pick(&[[0xff; 6], who.gateway_mac, B.mac]);
        let operation = self.random.pick(&[1, 1, 1, 2, 3]);
        let mut bytes = [to_mac, who.mac].concat();
        bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
        for _ in 0..2 {
            bytes.extend(self.random.pick(&[who, who, who, B]).mac);
            match self.random.pick(&[who, who, HOST, B]).ipv4 {
                Some(address) => bytes.extend(address.octets()),
                None => bytes.extend([0; 4]),
            }
        }
        (who, bytes)
    }

    fn neighbour(&mut self) -> (Who, Vec<u8>) {
        let who = self.random.pick(&[A, B, D]);
        let kind = self.random.pick(&[135, 135, 135, 136, 133, 134, 137, 143]);
        let IpAddr::V6(target) = self.random.pick(&[who, HOST, B, D]).ip(Family::V6) else {
            unreachable!("an IPv6 address was asked for");
        };
        let mut body = [&[0; 4], &target.octets()[..]].concat();
        if self.random.one_in(2) {
            body.extend([
                self.random.pick(&[1, 1, 2, 14]),
                self.random.pick(&[1, 1, 0]),
            ]);
            body.extend(self.random.pick(&[who, who, B]).mac);
        }
        let transport = Transport::icmp(Family::V6, kind, 0, &body);
        let to = self
            .random
            .pick(&["ff02::1:ff00:1", "ff02::2", "fd00:1::1"]);
        let mut frame = Frame::to_address(&who, to.parse().expect("is an address"), transport);
        frame.hop_limit = self.random.pick(&[255, 255, 255, 64]);
        if self.random.one_in(4) {
            let source = self.random.pick(&["::", "fe80::1", "fd00:1::11"]);
            frame.source = source.parse().expect("is an address");
        }
        if self.random.one_in(2) {
            frame.to_mac = [0x33; 6];
        }
        self.decorate(&mut frame);
        (who, frame.bytes())
    }

    /// Damages a packet, sometimes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        if self.random.one_in(8) {
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(bytes.len().min(100));
                bytes[at] = self.random.byte();
            }
        }
        if self.random.one_in(12)
            && let Some(last) = bytes.last_mut()
        {
            // Payload that no checksum is right for.
            *last ^= 0x55;
        }
        if self.random.one_in(20) {
            let keep = self.random.below(bytes.len());
            bytes.truncate(keep.max(shortest(bytes)));
        }
        if self.random.one_in(100) {
            let tag = self.random.pick(&[[0x81, 0, 0, 5], [0x88, 0xa8, 0, 5]]);
            bytes.splice(12..12, tag);
        }
        if self.random.one_in(40) {
            let len = bytes.len() + self.random.below(20);
            bytes.resize(len, 0);
        }
    }
}

/// Returns the length of the shortest packet that a test run takes, in bytes: since Linux 6.17
/// the IP header must be complete.
fn shortest(bytes: &[u8]) -> usize {
    match bytes[12..14] {
        [0x08, 0x00] => 34,
        [0x86, 0xdd] => 54,
        _ => 15,
    }
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

/// Returns whoever has an address: the node's stack speaks for everybody far away.
fn party_of(address: IpAddr) -> Who {
    let has = |who: &&Who| match address {
        IpAddr::V4(address) => who.ipv4 == Some(address),
        IpAddr::V6(address) => who.ipv6 == Some(address),
    };
    let mut everybody = ALL.iter().chain(&[FAR, FRIEND]);
    everybody.find(|who| has(who)).copied().unwrap_or(HOST)
}
