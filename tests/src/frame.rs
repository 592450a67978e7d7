//! Packets, built byte by byte, and what a router does to them.
//!
//! Nothing here uses the pipeline's own code: checksums are computed anew over the whole header
//! (RFC 1071), so that a row's expectation is independent of what it tests.

use std::net::IpAddr;
use std::ops::Range;

use crate::party::{Family, Who};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const UDP_LITE: u8 = 136;
pub const FRAGMENT_HEADER: u8 = 44;

const ETH_LEN: usize = 14;
const IPV4_LEN: usize = 20;

/// Is an IP packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hop_limit: u8,
    pub transport: Transport,
    /// Identification of the datagram.
    pub id: u16,
    /// Type of service, or traffic class.
    pub traffic_class: u8,
    /// Whether routers may not cut an IPv4 packet; they never cut one of IPv6.
    pub dont_fragment: bool,
    /// IPv4 options.
    pub options: Vec<u8>,
    /// IPv6 extension headers: their numbers, and their bytes without the first.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Bytes of the transport header and payload that are in this fragment.
    pub part: Option<Range<usize>>,
}

/// Is what lies behind the IP header.
#[derive(Clone, Debug)]
pub struct Transport {
    pub protocol: u8,
    /// Ports, or an echo's identifier twice, or 0.
    pub ports: [u16; 2],
    pub tag: u8,
    pub bytes: Vec<u8>,
    /// Where the checksum stands.
    pub checksum_at: Option<usize>,
}

/// Is the identity of a flow, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ports: [u16; 2],
    pub tag: u8,
}

impl Tuple {
    /// Returns the opposite direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        let tag = match (self.protocol, self.tag) {
            (1, 8) => 0,
            (1, 0) => 8,
            (1, 13) => 14,
            (1, 14) => 13,
            (58, 128) => 129,
            (58, 129) => 128,
            (_, tag) => tag,
        };
        let [from, to] = self.ports;
        let (source, destination) = (self.destination, self.source);
        Self {
            source,
            destination,
            ports: [to, from],
            tag,
            ..self
        }
    }
}

impl Transport {
    /// Returns a segment with 12 bytes of options and 10 of payload.
    pub fn tcp(source: u16, destination: u16, flags: u8) -> Self {
        let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 8 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
        bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        bytes.extend(b"0123456789");
        Self {
            protocol: TCP,
            ports: [source, destination],
            tag: 0,
            bytes,
            checksum_at: Some(16),
        }
    }

    /// Returns a datagram with `len` bytes of payload.
    pub fn udp(source: u16, destination: u16, len: u16) -> Self {
        let payload: Vec<u8> = (0..len).map(|index| index.to_be_bytes()[1]).collect();
        Self::datagram(source, destination, &payload)
    }

    /// Returns a datagram.
    pub fn datagram(source: u16, destination: u16, payload: &[u8]) -> Self {
        let fields = [source, destination, fit(payload.len() + 8), 0];
        let bytes = [&fields.map(u16::to_be_bytes).concat(), payload].concat();
        Self {
            protocol: UDP,
            ports: [source, destination],
            tag: 0,
            bytes,
            checksum_at: Some(6),
        }
    }

    /// Returns an echo request, or the reply to it.
    pub fn echo(family: Family, is_reply: bool, id: u16) -> Self {
        let kind = match (family, is_reply) {
            (Family::V4, false) => 8,
            (Family::V4, true) => 0,
            (Family::V6, false) => 128,
            (Family::V6, true) => 129,
        };
        let mut body = [id, 1].map(u16::to_be_bytes).concat();
        body.extend(b"abcdefghijklmnop");
        Self {
            ports: [id, id],
            ..Self::icmp(family, kind, 0, &body)
        }
    }

    /// Returns a message whose checksum `body` follows.
    pub fn icmp(family: Family, kind: u8, code: u8, body: &[u8]) -> Self {
        let bytes = [&[kind, code, 0, 0], body].concat();
        Self {
            protocol: family.icmp(),
            ports: [0, 0],
            tag: kind,
            bytes,
            checksum_at: Some(2),
        }
    }

    /// Returns an error that quotes a packet, from its IP header on.
    pub fn error(family: Family, kind: u8, code: u8, quoted: &[u8]) -> Self {
        Self::icmp(family, kind, code, &[&[0, 0, 0, 0], quoted].concat())
    }

    /// Returns a datagram of UDP-Lite whose checksum covers all of it.
    pub fn udp_lite(source: u16, destination: u16, payload: &[u8]) -> Self {
        Self {
            protocol: UDP_LITE,
            bytes: [
                &[source, destination, 0, 0].map(u16::to_be_bytes).concat(),
                payload,
            ]
            .concat(),
            ..Self::datagram(source, destination, payload)
        }
    }

    /// Returns anything else; `ports` only if the protocol has some.
    pub fn other(protocol: u8, ports: [u16; 2], bytes: &[u8]) -> Self {
        Self {
            protocol,
            ports,
            tag: 0,
            bytes: bytes.to_vec(),
            checksum_at: None,
        }
    }
}

impl Frame {
    /// Returns a packet that one party sends to another, by way of its gateway.
    pub fn new(from: &Who, to: &Who, family: Family, transport: Transport) -> Self {
        Self::to_address(from, to.ip(family), transport)
    }

    /// Returns the packet with another destination.
    #[must_use]
    pub fn to(self, destination: IpAddr) -> Self {
        Self {
            destination,
            ..self
        }
    }

    /// Returns a packet that a party sends to any address, by way of its gateway.
    pub fn to_address(from: &Who, destination: IpAddr, transport: Transport) -> Self {
        let family = if destination.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        Self {
            to_mac: from.gateway_mac,
            from_mac: from.mac,
            source: from.ip(family),
            destination,
            hop_limit: 64,
            transport,
            id: 0x1234,
            traffic_class: 0,
            dont_fragment: false,
            options: Vec::new(),
            extensions: Vec::new(),
            part: None,
        }
    }

    #[must_use]
    pub fn source(self, source: impl Into<IpAddr>) -> Self {
        Self {
            source: source.into(),
            ..self
        }
    }

    #[must_use]
    pub fn hop_limit(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    #[must_use]
    pub fn from_mac(self, from_mac: [u8; 6]) -> Self {
        Self { from_mac, ..self }
    }

    #[must_use]
    pub fn to_mac(self, to_mac: [u8; 6]) -> Self {
        Self { to_mac, ..self }
    }

    /// Forbids routers to cut the packet.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        Self {
            dont_fragment: true,
            ..self
        }
    }

    #[must_use]
    pub fn traffic_class(self, traffic_class: u8) -> Self {
        Self {
            traffic_class,
            ..self
        }
    }

    #[must_use]
    pub fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    /// Adds IPv4 options: a multiple of four bytes.
    #[must_use]
    pub fn options(self, options: &[u8]) -> Self {
        Self {
            options: options.to_vec(),
            ..self
        }
    }

    /// Adds an IPv6 extension header: its number, and its bytes without the first.
    #[must_use]
    pub fn extension(mut self, protocol: u8, rest: &[u8]) -> Self {
        self.extensions.push((protocol, rest.to_vec()));
        self
    }

    /// Keeps only these bytes of the transport header and payload, as a fragment. All of them
    /// make an atomic fragment.
    #[must_use]
    pub fn part(self, part: Range<usize>) -> Self {
        Self {
            part: Some(part),
            ..self
        }
    }

    /// Returns the identity of the packet's flow.
    pub fn tuple(&self) -> Tuple {
        let Transport {
            protocol,
            ports,
            tag,
            ..
        } = self.transport;
        Tuple {
            source: self.source,
            destination: self.destination,
            protocol,
            ports,
            tag,
        }
    }

    /// Returns the packet as it is on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.with_checksum();
        let part = self.part.clone().unwrap_or(0..transport.len());
        let payload = transport[part.clone()].to_vec();
        let more = part.end < transport.len();
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.ipv4(
                &source.octets(),
                &destination.octets(),
                part.start,
                more,
                &payload,
            ),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.ipv6(
                &source.octets(),
                &destination.octets(),
                part.start,
                more,
                &payload,
            ),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("one packet, one family")
            }
        };
        let ethertype: u16 = if self.source.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        [
            &self.to_mac,
            &self.from_mac,
            &ethertype.to_be_bytes()[..],
            &ip,
        ]
        .concat()
    }

    /// Returns the packet from its IP header on, as an ICMP error quotes it.
    pub fn quote(&self) -> Vec<u8> {
        self.bytes().split_off(ETH_LEN)
    }

    fn ipv4(&self, source: &[u8], to: &[u8], start: usize, more: bool, payload: &[u8]) -> Vec<u8> {
        let header_len = IPV4_LEN + self.options.len();
        let words = u8::try_from(header_len / 4).expect("options fit");
        let fragment = fit(start / 8)
            | if more { 0x2000 } else { 0 }
            | if self.dont_fragment { 0x4000 } else { 0 };
        let mut header = vec![0x40 | words, self.traffic_class];
        header.extend(fit(header_len + payload.len()).to_be_bytes());
        header.extend([self.id, fragment].map(u16::to_be_bytes).concat());
        header.extend([self.hop_limit, self.transport.protocol, 0, 0]);
        header.extend_from_slice(source);
        header.extend_from_slice(to);
        header.extend_from_slice(&self.options);
        let check = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&check);
        [&header, payload].concat()
    }

    fn ipv6(&self, source: &[u8], to: &[u8], start: usize, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if self.part.is_some() {
            let mut fragment = vec![0];
            fragment.extend((fit(start) | u16::from(more)).to_be_bytes());
            fragment.extend(u32::from(self.id).to_be_bytes());
            extensions.push((FRAGMENT_HEADER, fragment));
        }
        let mut behind = Vec::new();
        let mut next = self.transport.protocol;
        for (protocol, rest) in extensions.iter().rev() {
            behind = [&[next], rest.as_slice(), &behind].concat();
            next = *protocol;
        }
        behind.extend_from_slice(payload);
        let class = self.traffic_class;
        let mut header = vec![0x60 | class >> 4, class << 4, 0, 0];
        header.extend(fit(behind.len()).to_be_bytes());
        header.extend([next, self.hop_limit]);
        [&header, source, to, &behind].concat()
    }

    fn with_checksum(&self) -> Vec<u8> {
        let mut bytes = self.transport.bytes.clone();
        let Some(at) = self.transport.checksum_at else {
            return bytes;
        };
        let mut covered = Vec::new();
        if self.transport.protocol != 1 {
            for address in [self.source, self.destination] {
                match address {
                    IpAddr::V4(address) => covered.extend(address.octets()),
                    IpAddr::V6(address) => covered.extend(address.octets()),
                }
            }
            covered.extend([0, self.transport.protocol]);
            covered.extend(fit(bytes.len()).to_be_bytes());
        }
        covered.extend_from_slice(&bytes);
        let check = match checksum(&covered) {
            // RFC 768: 0 stands for no checksum; RFC 3828 §3.1: it is never sent.
            0 if matches!(self.transport.protocol, UDP | UDP_LITE) => 0xffff,
            check => check,
        };
        bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
        bytes
    }
}

fn fit(len: usize) -> u16 {
    u16::try_from(len).expect("a packet is shorter than 65,536 bytes")
}

/// Returns the Internet checksum of some bytes whose own checksum field is 0 (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// Returns a frame with other Ethernet addresses.
pub fn sent(mut bytes: Vec<u8>, to_mac: [u8; 6], from_mac: [u8; 6]) -> Vec<u8> {
    bytes[..6].copy_from_slice(&to_mac);
    bytes[6..12].copy_from_slice(&from_mac);
    bytes
}

/// Returns a frame as a router sends it on: one hop less to go, with the checksum of the IPv4
/// header computed anew.
pub fn aged(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes[12..14] == [0x86, 0xdd] {
        bytes[ETH_LEN + 7] -= 1;
        return bytes;
    }
    let header = ETH_LEN..ETH_LEN + usize::from(bytes[ETH_LEN] & 0x0f) * 4;
    bytes[ETH_LEN + 8] -= 1;
    bytes[ETH_LEN + 10..ETH_LEN + 12].fill(0);
    let check = checksum(&bytes[header]).to_be_bytes();
    bytes[ETH_LEN + 10..ETH_LEN + 12].copy_from_slice(&check);
    bytes
}

/// Returns a frame with some bytes replaced, counted from the IP header.
pub fn patched(mut bytes: Vec<u8>, offset: usize, with: &[u8]) -> Vec<u8> {
    bytes[ETH_LEN + offset..ETH_LEN + offset + with.len()].copy_from_slice(with);
    bytes
}

/// Returns the first bytes of a frame, counted from the IP header.
pub fn cut(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.truncate(ETH_LEN + len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::checksum;

    /// RFC 1071 §3.
    #[test]
    fn sum_of_the_example_of_rfc_1071_is_right() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }
}
