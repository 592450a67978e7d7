//! Captured packets, read field by field, and judged: every checksum, also of what an error quotes.
//!
//! Nothing here uses the pipeline's own parser. A packet that is still to be summed by a link
//! (`CHECKSUM_PARTIAL`) must hold the sum over its pseudo header: a rewrite that treats such a
//! packet like a summed one shows here.

use std::net::{IpAddr, SocketAddr};

use crate::frame::{TCP, UDP, checksum};
use crate::lab::wire::Seen;

const ETH_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const ICMP_LEN: usize = 8;

/// Extension headers that are walked over.
const EXTENSIONS: [u8; 4] = [0, 43, 44, 60];
const FRAGMENT: u8 = 44;

/// Is where a fragment belongs in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// In bytes.
    pub start: usize,
    pub more: bool,
}

/// Is an IP packet as it was captured or quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hop_limit: u8,
    pub traffic_class: u8,
    /// Identification of the datagram; 0 in an IPv6 packet that is no fragment.
    pub id: u32,
    pub dont_fragment: bool,
    pub part: Option<Part>,
    pub protocol: u8,
    /// The IP header with its options or extensions.
    pub header: Vec<u8>,
    /// What is behind it: the transport's header and payload, as far as it is there.
    pub body: Vec<u8>,
    /// Whether `body` is shorter than the header promises.
    pub is_cut: bool,
    /// Whether the transport's checksum was still to be filled in.
    pub is_unsummed: bool,
    /// The Ethernet address that the frame was sent to.
    pub to_mac: [u8; 6],
}

impl Packet {
    /// Reads a captured frame; `None` if it is no whole IP packet.
    pub fn of(frame: &Seen) -> Option<Self> {
        let packet = match frame.ethertype() {
            0x0800 | 0x86dd => Self::read(frame.bytes.get(ETH_LEN..)?)?,
            _ => return None,
        };
        let is_unsummed = frame.is_unsummed;
        (!packet.is_cut).then_some(Self {
            to_mac: frame.to_mac().try_into().expect("six bytes"),
            is_unsummed,
            ..packet
        })
    }

    /// Reads a packet from its IP header on; what is missing at the end is no fault.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::read_ipv4(bytes),
            6 => Self::read_ipv6(bytes),
            _ => None,
        }
    }

    fn read_ipv4(bytes: &[u8]) -> Option<Self> {
        let header_len = usize::from(bytes[0] & 0x0f) * 4;
        if header_len < IPV4_LEN {
            return None;
        }
        let header = bytes.get(..header_len)?;
        let [total, id, fragment] = [2, 4, 6].map(|at| word(header, at));
        let start = usize::from(fragment & 0x1fff) * 8;
        let more = fragment & 0x2000 != 0;
        let len = usize::from(total).checked_sub(header_len)?;
        let body = &bytes[header_len..];
        Some(Self {
            source: address4(&header[12..]),
            destination: address4(&header[16..]),
            hop_limit: header[8],
            traffic_class: header[1],
            id: id.into(),
            dont_fragment: fragment & 0x4000 != 0,
            part: (start > 0 || more).then_some(Part { start, more }),
            protocol: header[9],
            header: header.to_vec(),
            body: body[..len.min(body.len())].to_vec(),
            is_cut: body.len() < len,
            is_unsummed: false,
            to_mac: [0; 6],
        })
    }

    fn read_ipv6(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..IPV6_LEN)?;
        let end = IPV6_LEN + usize::from(word(fixed, 4));
        let (mut protocol, mut at) = (fixed[6], IPV6_LEN);
        let (mut id, mut part) = (0, None);
        while EXTENSIONS.contains(&protocol) && part.is_none_or(|part: Part| part.start == 0) {
            let extension = bytes.get(at..at + 8)?;
            let mut len = 8 + usize::from(extension[1]) * 8;
            if protocol == FRAGMENT {
                let field = word(extension, 2);
                let (start, more) = (usize::from(field & !7), field & 1 != 0);
                id = u32::from(word(extension, 4)) << 16 | u32::from(word(extension, 6));
                part = (start > 0 || more).then_some(Part { start, more });
                len = 8;
            }
            (protocol, at) = (extension[0], at + len);
        }
        let body = bytes.get(at..)?;
        let len = end.checked_sub(at)?;
        Some(Self {
            source: address6(&fixed[8..]),
            destination: address6(&fixed[24..]),
            hop_limit: fixed[7],
            traffic_class: fixed[0] << 4 | fixed[1] >> 4,
            id,
            dont_fragment: true,
            part,
            protocol,
            header: bytes[..at].to_vec(),
            body: body[..len.min(body.len())].to_vec(),
            is_cut: body.len() < len,
            is_unsummed: false,
            to_mac: [0; 6],
        })
    }

    /// Returns the packet's source with its port, or an echo's identifier.
    pub fn from(&self) -> SocketAddr {
        SocketAddr::new(self.source, self.ports()[0])
    }

    /// Returns the packet's destination with its port, or an echo's identifier.
    pub fn to(&self) -> SocketAddr {
        SocketAddr::new(self.destination, self.ports()[1])
    }

    fn ports(&self) -> [u16; 2] {
        match self.protocol {
            _ if self.body.len() < 8 || self.part.is_some_and(|part| part.start > 0) => [0; 2],
            TCP | UDP => [word(&self.body, 0), word(&self.body, 2)],
            1 | 58 if self.is_echo() => [word(&self.body, 4); 2],
            _ => [0; 2],
        }
    }

    /// Returns type and code of a message of ICMP.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let is_icmp = matches!(self.protocol, 1 | 58) && self.body.len() >= ICMP_LEN;
        is_icmp.then(|| (self.body[0], self.body[1]))
    }

    fn is_echo(&self) -> bool {
        let kind = self.icmp().map(|(kind, _)| kind);
        matches!(
            (self.protocol, kind),
            (1, Some(0 | 8)) | (58, Some(128 | 129))
        )
    }

    /// Tells whether the packet is an error of ICMP, which quotes another.
    pub fn is_error(&self) -> bool {
        match self.icmp() {
            Some((kind, _)) if self.protocol == 1 => matches!(kind, 3 | 4 | 5 | 11 | 12),
            Some((kind, _)) => kind < 128,
            None => false,
        }
    }

    /// Returns the packet that an error quotes.
    pub fn quoted(&self) -> Option<Self> {
        if !self.is_error() {
            return None;
        }
        Self::read(&self.body[ICMP_LEN..])
    }

    /// Returns an error's second word: the MTU, a pointer, or nothing of interest.
    pub fn second_word(&self) -> u32 {
        u32::from(word(&self.body, 4)) << 16 | u32::from(word(&self.body, 6))
    }

    /// Returns what the transport carries.
    pub fn payload(&self) -> &[u8] {
        let len = match self.protocol {
            TCP => self
                .body
                .get(12)
                .map_or(0, |byte| usize::from(byte >> 4) * 4),
            _ => 8,
        };
        self.body.get(len..).unwrap_or_default()
    }

    /// Returns the flags of a TCP segment.
    pub fn tcp_flags(&self) -> u8 {
        self.body[13]
    }

    /// Returns the number that tells the packet from others: a segment's sequence number, else
    /// the first bytes of the payload.
    pub fn token(&self) -> Option<u32> {
        let bytes = match self.protocol {
            TCP => self.body.get(4..8)?,
            _ if self.is_error() => return None,
            _ => self.payload().get(..4)?,
        };
        Some(u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    /// Returns the packet's bytes from the IP header on.
    pub fn bytes(&self) -> Vec<u8> {
        [self.header.as_slice(), &self.body].concat()
    }

    /// Returns what is wrong with the checksums, also of a quoted packet.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.own_faults();
        if let Some(quoted) = self.quoted() {
            // Whoever quotes a packet that is still to be summed quotes its unfinished sum.
            let inner = quoted.own_faults();
            faults.extend(inner.into_iter().map(|fault| format!("quoted {fault}")));
        }
        faults
    }

    fn own_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.source.is_ipv4() && checksum(&self.header) != 0 {
            faults.push(format!(
                "IP header of {} has a wrong checksum",
                self.brief()
            ));
        }
        if !self.is_sound() {
            faults.push(format!("{} has a wrong checksum", self.brief()));
        }
        faults
    }

    /// Tells whether the transport's checksum is right, as far as it can be told.
    pub fn is_sound(&self) -> bool {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            1 | 58 => 2,
            _ => return true,
        };
        if self.is_cut || self.part.is_some() || self.body.len() < at + 2 {
            return true;
        }
        if self.protocol == UDP && word(&self.body, at) == 0 {
            return self.source.is_ipv4();
        }
        if self.is_unsummed {
            return word(&self.body, at) == !checksum(&self.pseudo_header());
        }
        checksum(&[self.pseudo_header(), self.body.clone()].concat()) == 0
    }

    /// Returns the packet as a link with checksumming sends it out.
    #[must_use]
    pub fn summed(mut self) -> Self {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            _ => return self,
        };
        if self.is_unsummed {
            // The field holds the sum of the pseudo header.
            let sum = match checksum(&self.body) {
                // RFC 768: 0 stands for no checksum.
                0 if self.protocol == UDP => 0xffff,
                sum => sum,
            };
            self.body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            self.is_unsummed = false;
        }
        self
    }

    /// Returns what the transport's checksum covers of the IP header.
    fn pseudo_header(&self) -> Vec<u8> {
        if self.protocol == 1 {
            return Vec::new();
        }
        let mut bytes = [self.source, self.destination].map(octets).concat();
        let len = u32::try_from(self.body.len()).expect("packets are short");
        bytes.extend(len.to_be_bytes());
        bytes.extend([0, 0, 0, self.protocol]);
        bytes
    }

    /// Returns the packet in one line.
    pub fn brief(&self) -> String {
        let kind = match (self.protocol, self.icmp()) {
            (TCP, _) if self.body.len() > 13 => format!("TCP {:#04x}", self.tcp_flags()),
            (UDP, _) => "UDP".to_owned(),
            (_, Some((kind, code))) => format!("ICMP {kind}/{code}"),
            (protocol, _) => format!("protocol {protocol}"),
        };
        let quoted = self.quoted().map(|packet| format!(" [{}]", packet.brief()));
        let part = self.part.map(|part| format!(" at {}", part.start));
        format!(
            "{} → {} {kind}{}{} of {} bytes",
            self.from(),
            self.to(),
            part.unwrap_or_default(),
            quoted.unwrap_or_default(),
            self.header.len() + self.body.len()
        )
    }
}

/// Returns packets in a line each.
pub fn briefs(packets: &[Packet]) -> Vec<String> {
    packets.iter().map(Packet::brief).collect()
}

/// Returns an address as it is in a header.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn address4(bytes: &[u8]) -> IpAddr {
    let octets: [u8; 4] = bytes[..4].try_into().expect("four bytes");
    octets.into()
}

fn address6(bytes: &[u8]) -> IpAddr {
    let octets: [u8; 16] = bytes[..16].try_into().expect("sixteen bytes");
    octets.into()
}

#[cfg(test)]
mod tests {
    use super::Packet;
    use crate::frame::{ACK, Frame, Transport};
    use crate::lab::wire::Seen;
    use crate::party::{A, B, Family};

    fn captured(bytes: Vec<u8>) -> Packet {
        let frame = Seen {
            bytes,
            vlan: None,
            is_unsummed: false,
            is_outgoing: false,
        };
        Packet::of(&frame).expect("a whole packet")
    }

    #[test]
    fn sound_packets_have_no_faults_and_each_damaged_byte_is_one() {
        for family in Family::BOTH {
            let datagram = Frame::new(&A, &B, family, Transport::udp(1, 2, 9));
            let error = Transport::error(family, 3, 1, &datagram.quote());
            for transport in [
                Transport::udp(7, 9, 21),
                Transport::tcp(7, 9, ACK),
                Transport::echo(family, false, 5),
                error,
            ] {
                let bytes = Frame::new(&A, &B, family, transport).bytes();
                assert_eq!(captured(bytes.clone()).faults(), Vec::<String>::new());
                for at in 34..bytes.len() {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 0x10;
                    if let Some(packet) = Packet::of(&Seen {
                        bytes: damaged,
                        vlan: None,
                        is_unsummed: false,
                        is_outgoing: false,
                    }) {
                        assert_ne!(packet.faults(), Vec::<String>::new(), "byte {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn fragments_and_quotes_are_read() {
        for family in Family::BOTH {
            let whole = Frame::new(&A, &B, family, Transport::udp(7, 9, 100));
            let later = captured(whole.clone().part(48..108).bytes());
            let part = later.part.expect("a fragment");
            assert_eq!((part.start, part.more, later.body.len()), (48, false, 60));

            let error = Transport::error(family, 1, 4, &whole.quote()[..48]);
            let mut error = captured(Frame::new(&B, &A, family, error).bytes());
            if family == Family::V4 {
                error.body[0] = 3;
            }
            let quoted = error.quoted().expect("a quoted packet");
            assert_eq!((quoted.from().port(), quoted.to().port()), (7, 9));
            assert_eq!(quoted.source, A.ip(family));
        }
    }
}
