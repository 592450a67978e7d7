//! The packets of the bench: 64 bytes and up, as an established connection carries them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::checksum::fold;
use datapath::packet::{ETH_LEN, proto};

/// Smallest packet, in bytes; shorter ones are padded.
const MIN_LEN: usize = 64;

const ACK: u8 = 0x10;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const SYN_ACK: u8 = SYN | ACK;
pub(crate) const ESTABLISHED: u8 = ACK;

/// Is a party as others see it: addresses, and the link that its packets pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    /// Address of the link that faces it.
    pub(crate) gateway_mac: [u8; 6],
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
}

/// Names an address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the length of the IP header without options, in bytes.
    const fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

impl Place {
    fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ipv4.into(),
            Family::V6 => self.ipv6.into(),
        }
    }
}

/// Is a packet, and which of its bytes the datapath rewrites.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Start and length of what has to be restored before each run; lengths are multiples of 2.
    pub(crate) rewritten: Vec<(usize, usize)>,
    /// Where the ports stand.
    pub(crate) ports_offset: usize,
}

impl Frame {
    /// Returns the same packet with all that a translation rewrites restored before each run.
    ///
    /// Each field is written as wide as the programs read it: a load that spans several narrow
    /// stores would wait for them.
    pub(crate) fn translated(mut self, family: Family) -> Self {
        let protocol = match family {
            Family::V4 => {
                self.rewritten.push((ETH_LEN + 12, 4));
                self.rewritten.push((ETH_LEN + 16, 4));
                self.bytes[ETH_LEN + 9]
            }
            Family::V6 => {
                self.rewritten.push((ETH_LEN + 8, 32));
                self.bytes[ETH_LEN + 6]
            }
        };
        self.rewritten.push((self.ports_offset, 4));
        self.rewritten
            .push((self.ports_offset + check_offset(protocol), 2));
        self
    }

    /// Returns the ports of the packet.
    pub(crate) fn ports(&self) -> [u16; 2] {
        let at = self.ports_offset;
        [at, at + 2].map(|at| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    /// Returns another packet of the same kind that no program rewrites.
    pub(crate) fn passing(&self, bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            rewritten: Vec::new(),
            ports_offset: self.ports_offset,
        }
    }
}

/// Makes a TCP segment that `from` sends to `to`.
pub(crate) fn tcp(family: Family, from: &Place, to: &Place, ports: [u16; 2], flags: u8) -> Frame {
    let mut segment = vec![0_u8; 20];
    put_ports(&mut segment, ports);
    (segment[12], segment[13]) = (0x50, flags);
    ip(family, from, to, proto::TCP, &segment)
}

/// Makes a UDP datagram that `from` sends to `to`.
pub(crate) fn udp(family: Family, from: &Place, to: &Place, ports: [u16; 2]) -> Frame {
    let mut datagram = vec![0_u8; 8];
    put_ports(&mut datagram, ports);
    datagram[5] = 8;
    ip(family, from, to, proto::UDP, &datagram)
}

/// Makes the question of an endpoint for its gateway's address: ARP, or neighbour solicitation.
pub(crate) fn question(family: Family, from: &Place, about: &Place) -> Frame {
    let mut frame = match family {
        Family::V4 => {
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
            arp.extend(from.mac);
            arp.extend(from.ipv4.octets());
            arp.extend([0; 6]);
            arp.extend(about.ipv4.octets());
            ethernet([0xff; 6], from.mac, 0x0806, &arp)
        }
        Family::V6 => {
            let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
            message.extend(about.ipv6.octets());
            message.extend([1, 1]);
            message.extend(from.mac);
            let mut frame = ip(family, from, about, proto::ICMP6, &message);
            frame.bytes[ETH_LEN + 7] = 255;
            frame
        }
    };
    let len = frame.bytes.len() & !1;
    frame.rewritten = vec![(0, len)];
    frame
}

fn put_ports(transport: &mut [u8], ports: [u16; 2]) {
    transport[..2].copy_from_slice(&ports[0].to_be_bytes());
    transport[2..4].copy_from_slice(&ports[1].to_be_bytes());
}

/// Returns where in a transport header its checksum stands.
fn check_offset(protocol: u8) -> usize {
    if protocol == proto::TCP { 16 } else { 6 }
}

/// Writes the checksum of a transport header (RFC 9293 §3.1, RFC 8200 §8.1).
fn put_check(payload: &mut [u8], protocol: u8, ends: [IpAddr; 2]) {
    let mut pseudo = Vec::new();
    for end in ends {
        match end {
            IpAddr::V4(address) => pseudo.extend(address.octets()),
            IpAddr::V6(address) => pseudo.extend(address.octets()),
        }
    }
    pseudo.extend(
        u16::try_from(payload.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    pseudo.extend([0, protocol]);
    pseudo.extend(&*payload);
    let at = check_offset(protocol);
    payload[at..at + 2].copy_from_slice(&check(&pseudo).to_be_bytes());
}

/// Returns the checksum of bytes whose own checksum is 0 so far (RFC 1071).
fn check(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | u64::from(word[1]));
    !fold(words.sum())
}

fn ip(family: Family, from: &Place, to: &Place, protocol: u8, payload: &[u8]) -> Frame {
    let mut payload = payload.to_vec();
    if matches!(protocol, proto::TCP | proto::UDP) {
        put_check(
            &mut payload,
            protocol,
            [from.address(family), to.address(family)],
        );
    }
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let (ethertype, mut packet, hop_limit) = match (from.address(family), to.address(family)) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header[2..4].copy_from_slice(&(len + 20).to_be_bytes());
            header.extend(src.octets());
            header.extend(dst.octets());
            let check = check(&header);
            header[10..12].copy_from_slice(&check.to_be_bytes());
            // Hop limit, protocol and checksum.
            (0x0800_u16, header, (ETH_LEN + 8, 4))
        }
        (src, dst) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            header[4..6].copy_from_slice(&len.to_be_bytes());
            for address in [src, dst] {
                if let IpAddr::V6(address) = address {
                    header.extend(address.octets());
                }
            }
            // Next header and hop limit.
            (0x86dd, header, (ETH_LEN + 6, 2))
        }
    };
    packet.extend(payload);
    let mut frame = ethernet(from.gateway_mac, from.mac, ethertype, &packet);
    frame.rewritten = vec![(0, 12), hop_limit];
    frame.ports_offset = ETH_LEN + family.header_len();
    frame
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Frame {
    let mut bytes = Vec::with_capacity(MIN_LEN);
    bytes.extend(to);
    bytes.extend(from);
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().max(MIN_LEN), 0);
    Frame {
        bytes,
        rewritten: Vec::new(),
        ports_offset: ETH_LEN,
    }
}
