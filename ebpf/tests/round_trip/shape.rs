//! Packets of every protocol and shape, with right checksums.

use datapath::abi::{Addr4, Addr6, FlowKey};
use datapath::family::{Address, Header, parse};
use datapath::model::ModelPacket;
use datapath::packet::proto;
use datapath::rewrite;
use proptest::prelude::*;

pub(crate) const ETH_LEN: usize = 14;
const GRE: u8 = 47;
const DESTINATION_OPTIONS: u8 = 60;

/// Is an address of a family, as a test makes them.
pub(crate) trait Octets: Address + Ord {
    fn of(octets: [u8; 16]) -> Self;
    fn octets(self) -> Vec<u8>;
}

impl Octets for Addr4 {
    fn of([a, b, c, d, ..]: [u8; 16]) -> Self {
        Self::new([a, b, c, d])
    }

    fn octets(self) -> Vec<u8> {
        Self::octets(self).to_vec()
    }
}

impl Octets for Addr6 {
    fn of(octets: [u8; 16]) -> Self {
        Self::new(octets)
    }

    fn octets(self) -> Vec<u8> {
        Self::octets(self).to_vec()
    }
}

/// Is what a packet is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) ends: [[u8; 16]; 2],
    pub(crate) protocol: u8,
    pub(crate) ports: [u16; 2],
    pub(crate) is_reply: bool,
    /// Words of options or extension headers, in units of eight bytes.
    pub(crate) options: usize,
    pub(crate) payload: Vec<u8>,
}

/// Is what it is translated to.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) ends: [[u8; 16]; 2],
    pub(crate) ports: [u16; 2],
}

pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    let protocols = prop::sample::select(vec![
        proto::TCP,
        proto::UDP,
        proto::UDP_LITE,
        proto::ICMP,
        proto::SCTP,
        GRE,
    ]);
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    (
        any::<[[u8; 16]; 2]>(),
        protocols,
        any::<[u16; 2]>(),
        any::<bool>(),
        0..5_usize,
        payload,
    )
        .prop_map(
            |(ends, protocol, ports, is_reply, options, payload)| Shape {
                ends,
                protocol,
                ports,
                is_reply,
                options,
                payload,
            },
        )
}

pub(crate) fn changes() -> impl Strategy<Value = Change> {
    (any::<[[u8; 16]; 2]>(), any::<[u16; 2]>()).prop_map(|(ends, ports)| Change { ends, ports })
}

pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

impl Shape {
    fn protocol<A: Address>(&self) -> u8 {
        if self.protocol == proto::ICMP {
            A::ICMP
        } else {
            self.protocol
        }
    }

    pub(crate) fn key<A: Octets>(&self) -> FlowKey<A> {
        self.key_of(self.ends, self.ports)
    }

    pub(crate) fn translated<A: Octets>(&self, change: &Change) -> FlowKey<A> {
        self.key_of(change.ends, change.ports)
    }

    fn key_of<A: Octets>(&self, ends: [[u8; 16]; 2], ports: [u16; 2]) -> FlowKey<A> {
        let [src, dst] = ends.map(A::of);
        let (ports, tag) = match self.protocol {
            proto::ICMP => ([ports[0]; 2], self.kind::<A>()),
            // The checksum of SCTP covers the ports: they stay.
            proto::SCTP => (self.ports, 0),
            GRE => ([0; 2], 0),
            _ => (ports, 0),
        };
        FlowKey::new(src, dst, self.protocol::<A>(), ports, tag)
    }

    fn kind<A: Address>(&self) -> u8 {
        match (A::IS_IPV6, self.is_reply) {
            (false, false) => 8,
            (false, true) => 0,
            (true, false) => 128,
            (true, true) => 129,
        }
    }

    /// Returns the transport header and the payload, with a right checksum.
    fn transport<A: Octets>(&self) -> Vec<u8> {
        let [from, to] = self.ports.map(u16::to_ne_bytes);
        let mut bytes = match self.protocol {
            proto::ICMP => [&[self.kind::<A>(), 0, 0, 0], &from[..], &[0, 1]].concat(),
            proto::TCP => [
                &from,
                &to,
                &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0][..],
            ]
            .concat(),
            GRE => vec![0, 0, 8, 0],
            proto::SCTP => [&from, &to, &[1, 2, 3, 4, 5, 6, 7, 8][..]].concat(),
            _ => {
                let len = u16::try_from(8 + self.payload.len()).expect("short");
                [&from, &to, &len.to_be_bytes(), &[0, 0][..]].concat()
            }
        };
        bytes.extend(&self.payload);
        if let Some(at) = rewrite::check_offset(self.protocol::<A>()) {
            let at = at as usize;
            let check = match !self.covered::<A>(self.ends, &bytes) {
                0 if matches!(self.protocol, proto::UDP | proto::UDP_LITE) => 0xffff,
                check => check,
            };
            bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
        }
        bytes
    }

    /// Returns the sum that a checksum is about.
    pub(crate) fn covered<A: Octets>(&self, ends: [[u8; 16]; 2], transport: &[u8]) -> u16 {
        let protocol = self.protocol::<A>();
        if protocol == proto::ICMP {
            return sum(transport);
        }
        let len = u16::try_from(transport.len()).expect("short").to_be_bytes();
        let ends: Vec<u8> = ends
            .into_iter()
            .flat_map(|end| A::of(end).octets())
            .collect();
        sum(&[&ends, &[0, protocol][..], &len, transport].concat())
    }

    /// Returns the packet from its IP header on.
    pub(crate) fn ip<A: Octets>(&self) -> Vec<u8> {
        let transport = self.transport::<A>();
        let ends: Vec<u8> = self
            .ends
            .iter()
            .flat_map(|end| A::of(*end).octets())
            .collect();
        let len = |more: usize| {
            u16::try_from(self.options * 8 + transport.len() + more)
                .expect("short")
                .to_be_bytes()
        };
        if A::IS_IPV6 {
            let mut headers = Vec::new();
            for index in 0..self.options {
                let next = if index + 1 == self.options {
                    self.protocol::<A>()
                } else {
                    DESTINATION_OPTIONS
                };
                headers.extend([next, 0, 1, 4, 0, 0, 0, 0]);
            }
            let next = if self.options == 0 {
                self.protocol::<A>()
            } else {
                DESTINATION_OPTIONS
            };
            return [
                &[0x60, 0, 0, 0],
                &len(0)[..],
                &[next, 64],
                &ends,
                &headers,
                &transport,
            ]
            .concat();
        }
        let words = u8::try_from(5 + self.options * 2).expect("fits");
        let start = [0x40 | words, 0];
        let middle = [0x12, 0x34, 0, 0, 64, self.protocol, 0, 0];
        let options = vec![1; self.options * 8];
        let mut header = [&start, &len(20)[..], &middle, &ends, &options].concat();
        let check = !sum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        [header, transport].concat()
    }

    pub(crate) fn packet<A: Octets>(&self) -> ModelPacket {
        packet(&self.ip::<A>())
    }
}

pub(crate) fn packet(ip: &[u8]) -> ModelPacket {
    ModelPacket {
        bytes: [&[0; ETH_LEN][..], ip].concat(),
        ..ModelPacket::default()
    }
}

pub(crate) fn header<A: Address>(packet: &ModelPacket, offset: usize) -> Header<A> {
    let mut header = Header::default();
    let offset = u32::try_from(offset).expect("fits");
    assert_eq!(
        parse(packet, offset, false, &mut header),
        None,
        "well-formed"
    );
    header
}

/// Fails unless every checksum of a packet is right.
pub(crate) fn assert_sound<A: Octets>(shape: &Shape, ends: [[u8; 16]; 2], packet: &ModelPacket) {
    let header = header::<A>(packet, ETH_LEN);
    let transport = &packet.bytes[header.transport as usize..];

    if !A::IS_IPV6 {
        let header = &packet.bytes[ETH_LEN..header.transport as usize];
        assert_eq!(sum(header), 0xffff, "header checksum");
    }
    if rewrite::check_offset(header.protocol).is_some() {
        assert_eq!(
            shape.covered::<A>(ends, transport),
            0xffff,
            "transport checksum"
        );
    }
}
