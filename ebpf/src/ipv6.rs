//! IPv6 headers and their extensions (RFC 8200).
//!
//! The slow path walks over hop-by-hop options, destination options, authentication and fragment
//! headers, [`MAX_EXTENSIONS`] at most. Routing headers are refused: an endpoint has no business
//! with source routes (RFC 5095).

use crate::abi::{Device, FlowKey, Node, Party};
use crate::address::Addr6;
use crate::checksum;
use crate::family::{Address, Header, Part, Plain};
use crate::neighbour;
use crate::packet::{ETH_LEN, Ipv6Fragment, Ipv6Header, Packet, proto};
use crate::tables::Tables;
use crate::transport;
use crate::verdict::DropReason;
use crate::work::Work;

/// Number of extension headers that are followed.
pub const MAX_EXTENSIONS: u32 = 6;

/// Where the hop limit stands.
const HOP_LIMIT_OFFSET: usize = ETH_LEN + 7;
/// One hop, in the word that holds next header and hop limit.
const ONE_HOP: u16 = 0x0001_u16.to_be();
/// Length of the fixed header, in bytes.
const FIXED_LEN: usize = 40;
/// Where the protocol behind the header stands.
const PROTOCOL_OFFSET: usize = ETH_LEN + 6;
/// Where the checksum of a datagram without extension headers stands.
const UDP_CHECK_OFFSET: usize = ETH_LEN + FIXED_LEN + 6;
/// Where in a fragment header the identification of its datagram stands.
const ID_OFFSET: u32 = 4;
/// Where in a header the two addresses stand.
const ENDS_OFFSET: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

impl Address for Addr6 {
    const ICMP: u8 = proto::ICMP6;
    const BITS: u32 = 128;
    const IS_IPV6: bool = true;
    const TRANSPORT: usize = ETH_LEN + FIXED_LEN;

    #[inline(always)]
    fn plain<P: Packet>(packet: &P) -> Option<Plain<Self>> {
        let ip: Ipv6Header = packet.load(ETH_LEN)?;
        if ip.version >> 4 != 6 {
            return None;
        }
        let (ports, tag, len) = transport::plain(packet, ETH_LEN + FIXED_LEN, ip.next_header)?;
        if ip.next_header == proto::UDP && packet.load::<u16>(UDP_CHECK_OFFSET)? == 0 {
            return None;
        }
        let (src, dst) = (address(ip.src), address(ip.dst));
        Some(Plain {
            key: FlowKey::new(src, dst, ip.next_header, ports, tag),
            hop_limit: ip.hop_limit,
            headers_len: FIXED_LEN as u32 + len,
        })
    }

    #[inline(always)]
    fn ends<P: Packet>(packet: &P) -> Option<[Self; 2]> {
        Some([
            address(packet.load(ETH_LEN + ENDS_OFFSET)?),
            address(packet.load(ETH_LEN + ENDS_OFFSET + 16)?),
        ])
    }

    #[inline(always)]
    fn next_protocol<P: Packet>(packet: &P) -> Option<u8> {
        packet.load(PROTOCOL_OFFSET)
    }

    #[inline(always)]
    fn parse<P: Packet>(
        packet: &P,
        offset: u32,
        quoted: bool,
        header: &mut Header<Self>,
    ) -> Result<(), DropReason> {
        let ip: Ipv6Header = packet.read(offset).ok_or(DropReason::InvalidPacket)?;
        let mut payload_len = u32::from(u16::from_be(ip.payload_len));
        let there = packet.len().saturating_sub(offset + FIXED_LEN as u32);
        if payload_len == 0 && packet.gso_size() != 0 {
            payload_len = there;
        }
        if ip.version >> 4 != 6 || (payload_len > there && !quoted) {
            return Err(DropReason::InvalidPacket);
        }
        header.src = address(ip.src);
        header.dst = address(ip.dst);
        header.transport = offset + FIXED_LEN as u32;
        header.payload_len = payload_len;
        header.id = 0;
        header.fragment_offset = 0;
        header.part = Part::Whole;
        header.hop_limit = ip.hop_limit;
        header.protocol = ip.next_header;
        for _ in 0..MAX_EXTENSIONS {
            match follow(packet, header) {
                Next::Extension => {}
                Next::Transport => return Ok(()),
                Next::Malformed => return Err(DropReason::InvalidPacket),
                Next::Refused => return Err(DropReason::InvalidExtensionHeader),
            }
        }
        if is_extension(header.protocol) {
            return Err(DropReason::InvalidExtensionHeader);
        }
        Ok(())
    }

    #[inline(always)]
    fn neighbour<P: Packet, T: Tables<Self>>(
        packet: &mut P,
        tables: &T,
        work: &mut Work<Self>,
    ) -> Option<DropReason> {
        neighbour::icmp6(packet, tables, work)
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P) -> bool {
        let Some(hop_limit) = packet.load::<u8>(HOP_LIMIT_OFFSET) else {
            return false;
        };
        let stored = packet.store(HOP_LIMIT_OFFSET, hop_limit.wrapping_sub(1));
        packet.adjust_sum(checksum::difference(ONE_HOP, 0));
        stored
    }

    #[inline(always)]
    fn set_ends<P: Packet>(packet: &mut P, [src, dst]: [Self; 2], _change: u16) -> bool {
        // The transport checksum covers the addresses, and its update cancels them out.
        packet.store(ETH_LEN + ENDS_OFFSET, src.wire())
            && packet.store(ETH_LEN + ENDS_OFFSET + 16, dst.wire())
    }

    #[inline(always)]
    fn set_identification<P: Packet>(packet: &mut P, header: &Header<Self>, mask: u16) -> bool {
        // The upper half of it; the lower one stays as random as its sender made it.
        let offset = header.fragment_header + ID_OFFSET;
        let Some(old) = packet.read::<u16>(offset) else {
            return false;
        };
        packet.adjust_sum(checksum::difference(old, old ^ mask));
        packet.write(offset, old ^ mask)
    }

    #[inline(always)]
    fn set_quoted_ends<P: Packet>(
        packet: &mut P,
        offset: u32,
        [src, dst]: [Self; 2],
        change: u16,
    ) -> Option<u16> {
        let ends = offset + ENDS_OFFSET as u32;
        let written = packet.write(ends, src.wire()) && packet.write(ends + 16, dst.wire());
        written.then_some(change)
    }

    #[inline(always)]
    fn is_sound<P: Packet>(_packet: &P, _offset: u32, _transport: u32) -> bool {
        true
    }

    #[inline(always)]
    fn word_sum(self) -> u64 {
        Self::word_sum(self)
    }

    #[inline(always)]
    fn belongs_to(&self, party: &Party) -> bool {
        party.has_ipv6(*self)
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        Self::is_multicast(*self)
    }

    #[inline(always)]
    fn is_broadcast(&self, _node: &Node) -> bool {
        false
    }

    #[inline(always)]
    fn is_martian(&self) -> bool {
        Self::is_martian(*self)
    }

    #[inline(always)]
    fn first(&self, len: u32) -> Self {
        let [high, low] = words(*self);
        let (high, low) = if len <= 64 {
            (cut(high, 64 - len), 0)
        } else {
            (high, cut(low, 128_u32.saturating_sub(len)))
        };
        Self::from_wire([high.to_be(), low.to_be()])
    }

    #[inline(always)]
    fn shares(&self, prefix: &Self, len: u32) -> bool {
        // Prefixes longer than /64 compare their second half as well.
        let [own, prefix] = [*self, *prefix].map(words);
        let high = own[0] ^ prefix[0];
        let low = own[1] ^ prefix[1];
        if len <= 64 {
            len == 0 || high >> ((64 - len) & 63) == 0
        } else {
            high == 0 && low >> ((128 - len) & 63) == 0
        }
    }

    #[inline(always)]
    fn is_inside(&self, node: &Node) -> bool {
        node.has_ipv6() && self.shares(&node.prefix6, u32::from(node.prefix6_len))
    }

    #[inline(always)]
    fn is_node_local(&self, node: &Node) -> bool {
        self.is_inside(node) && *self != node.router6
    }

    #[inline(always)]
    fn prefix(node: &Node) -> Self {
        node.prefix6
    }

    #[inline(always)]
    fn masquerade(device: &Device) -> Option<Self> {
        device.masquerades6().then_some(device.masquerade6)
    }
}

#[inline(always)]
fn address(halves: [u64; 2]) -> Addr6 {
    Addr6::from_wire(halves)
}

#[inline(always)]
fn words(address: Addr6) -> [u64; 2] {
    address.wire().map(u64::from_be)
}

/// Clears the last `bits` bits of a word, 64 at the most.
#[inline(always)]
const fn cut(word: u64, bits: u32) -> u64 {
    if bits >= 64 { 0 } else { word >> bits << bits }
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

/// Tells what lies behind a header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Next {
    Extension,
    Transport,
    Malformed,
    Refused,
}

/// Steps over one extension header.
#[inline(never)]
fn follow<P: Packet>(packet: &P, header: &mut Header<Addr6>) -> Next {
    let protocol = header.protocol;
    if !is_extension(protocol) || header.part == Part::Later {
        return Next::Transport;
    }
    if protocol == ROUTING {
        return Next::Refused;
    }
    // A fragment header begins like every other one; its length field is reserved.
    let Some(extension) = packet.read::<Ipv6Fragment>(header.transport) else {
        return Next::Malformed;
    };
    let units = u32::from(extension.len);
    let len = match protocol {
        FRAGMENT => 8,
        AUTHENTICATION => (units + 2) * 4,
        _ => (units + 1) * 8,
    };
    if protocol == FRAGMENT {
        let offset = u16::from_be(extension.offset);
        header.fragment_header = header.transport;
        header.part = part(offset);
        header.fragment_offset = offset & !7;
        header.id = extension.id;
    }
    if len > header.payload_len {
        return Next::Malformed;
    }
    header.protocol = extension.next_header;
    header.transport += len;
    header.payload_len -= len;
    Next::Extension
}

/// A fragment header that is neither followed by others nor preceded (an atomic fragment,
/// RFC 6946) leaves the packet whole.
#[inline(always)]
const fn part(offset: u16) -> Part {
    if offset & !7 != 0 {
        Part::Later
    } else if offset & 1 != 0 {
        Part::First
    } else {
        Part::Whole
    }
}
