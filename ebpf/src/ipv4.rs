//! IPv4 headers (RFC 791).
//!
//! The checksum of a header that comes in is not verified: a wrong one is dropped by whoever
//! receives the packet, and the update of the hop limit keeps it as wrong as it was.

use crate::abi::{FlowKey, Node, Party};
use crate::address::Addr4;
use crate::checksum;
use crate::family::{Address, Header, Part, Plain};
use crate::packet::{ETH_LEN, Ipv4Header, Packet, proto};
use crate::tables::Tables;
use crate::transport;
use crate::verdict::DropReason;
use crate::work::Work;

/// Where the hop limit, and behind it the protocol, stand.
const TTL_OFFSET: usize = ETH_LEN + 8;
/// Where the header checksum stands.
const CHECK_OFFSET: usize = ETH_LEN + 10;
/// The bits of the fragment field that say "more follow" or "not the first".
const FRAGMENTED: u16 = 0x3fff_u16.to_be();
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Length of a header without options, in bytes.
const PLAIN_LEN: usize = 20;

impl Address for Addr4 {
    const ICMP: u8 = proto::ICMP;

    #[inline(always)]
    fn plain<P: Packet>(packet: &P) -> Option<Plain<Self>> {
        let ip: Ipv4Header = packet.load(ETH_LEN)?;
        if ip.version_ihl != 0x45 || ip.fragment & FRAGMENTED != 0 {
            return None;
        }
        let (ports, tag, len) = transport::plain(packet, ETH_LEN + PLAIN_LEN, ip.protocol)?;
        let (src, dst) = (
            Self::new(ip.src.to_ne_bytes()),
            Self::new(ip.dst.to_ne_bytes()),
        );
        Some(Plain {
            key: FlowKey::new(src, dst, ip.protocol, ports, tag),
            hop_limit: ip.ttl,
            headers_len: PLAIN_LEN as u32 + len,
        })
    }

    #[inline(always)]
    fn parse<P: Packet>(
        packet: &P,
        offset: u32,
        quoted: bool,
        header: &mut Header<Self>,
    ) -> Result<(), DropReason> {
        let ip: Ipv4Header = packet.read(offset).ok_or(DropReason::InvalidPacket)?;
        let header_len = u32::from(ip.version_ihl & 0x0f) * 4;
        if ip.version_ihl >> 4 != 4 || header_len < PLAIN_LEN as u32 {
            return Err(DropReason::InvalidPacket);
        }
        let there = packet.len().saturating_sub(offset);
        let mut total_len = u32::from(u16::from_be(ip.total_len));
        if total_len == 0 && packet.gso_size() != 0 {
            total_len = there;
        }
        if total_len < header_len || (total_len > there && !quoted) {
            return Err(DropReason::InvalidPacket);
        }
        let fragment = u16::from_be(ip.fragment);
        header.src = Self::new(ip.src.to_ne_bytes());
        header.dst = Self::new(ip.dst.to_ne_bytes());
        header.transport = offset + header_len;
        header.payload_len = total_len - header_len;
        header.id = u32::from(ip.id);
        header.fragment_offset = (fragment & FRAGMENT_OFFSET) * 8;
        header.part = part(fragment);
        header.hop_limit = ip.ttl;
        header.protocol = ip.protocol;
        Ok(())
    }

    #[inline(always)]
    fn neighbour<P: Packet, T: Tables<Self>>(
        _packet: &mut P,
        _tables: &T,
        _work: &mut Work<Self>,
    ) -> Option<DropReason> {
        // ARP is not IP and has a program of its own.
        None
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P) -> bool {
        let Some(old) = packet.load::<u16>(TTL_OFFSET) else {
            return false;
        };
        let Some(check) = packet.load::<u16>(CHECK_OFFSET) else {
            return false;
        };
        let new = u16::from_be(old).wrapping_sub(0x0100).to_be();
        // The sum over the whole packet stays as it is: the two changes cancel out.
        packet.store(TTL_OFFSET, new)
            && packet.store(CHECK_OFFSET, checksum::update(check, old, new))
    }

    #[inline(always)]
    fn belongs_to(&self, party: &Party) -> bool {
        party.has_ipv4(*self)
    }

    #[inline(always)]
    fn is_multicast(&self) -> bool {
        Self::is_multicast(*self)
    }

    #[inline(always)]
    fn is_node_local(&self, node: &Node) -> bool {
        let shift = 32_u32.saturating_sub(u32::from(node.prefix4_len));
        let [own, prefix] =
            [*self, node.prefix4].map(|address| u64::from(u32::from_be_bytes(address.octets())));
        node.has_ipv4() && own >> shift == prefix >> shift && *self != node.router4
    }
}

#[inline(always)]
const fn part(fragment: u16) -> Part {
    if fragment & FRAGMENT_OFFSET != 0 {
        Part::Later
    } else if fragment & MORE_FRAGMENTS != 0 {
        Part::First
    } else {
        Part::Whole
    }
}
