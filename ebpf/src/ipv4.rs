//! IPv4 headers (RFC 791).
//!
//! The checksum of a header that comes in is not verified: a wrong one is dropped by whoever
//! receives the packet, and the update of the hop limit keeps it as wrong as it was.

use crate::abi::{FlowKey, Node, Party};
use crate::address::Addr4;
use crate::checksum;
use crate::family::{Address, Header, Part, Plain};
use crate::hook::Hook;
use crate::packet::{ETH_LEN, Ipv4Header, Packet, proto};
use crate::tables::Tables;
use crate::transport;
use crate::verdict::DropReason;
use crate::work::{Answer, Work};

/// Where the hop limit stands, and behind it the protocol and the header checksum.
const TTL_OFFSET: usize = ETH_LEN + 8;
/// One hop, in the word that holds hop limit and protocol.
const ONE_HOP: u16 = 0x0100_u16.to_be();
/// The bits of the fragment field that say "more follow" or "not the first".
const FRAGMENTED: u16 = 0x3fff_u16.to_be();
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Type of an ICMP redirect (RFC 792).
const REDIRECT: u8 = 5;
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
        packet: &mut P,
        _tables: &T,
        work: &mut Work<Self>,
    ) -> Option<DropReason> {
        // ARP is not IP and has a program of its own. What is left are redirects: the router is
        // the only way there is, which the node's stack does not know.
        let is_from_stack = !matches!(work.hook(), Some(Hook::FromContainer));
        let is_icmp = work.header.protocol == proto::ICMP && work.header.part != Part::Later;
        let is_redirect = is_icmp && packet.read(work.header.transport) == Some(REDIRECT);
        work.answer = if is_from_stack && is_redirect {
            Answer::Consumed
        } else {
            Answer::None
        };
        None
    }

    #[inline(always)]
    fn age<P: Packet>(packet: &mut P) -> bool {
        let Some(word) = packet.load::<u32>(TTL_OFFSET) else {
            return false;
        };
        let [ttl, protocol, a, b] = word.to_ne_bytes();
        let check = checksum::update(u16::from_ne_bytes([a, b]), ONE_HOP, 0);
        let [a, b] = check.to_ne_bytes();
        let aged = u32::from_ne_bytes([ttl.wrapping_sub(1), protocol, a, b]);
        // The sum over the whole packet stays as it is: the two changes cancel out.
        packet.store(TTL_OFFSET, aged)
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

#[cfg(test)]
mod tests {
    use super::{Address, TTL_OFFSET};
    use crate::abi::Addr4;
    use crate::checksum;
    use crate::model::ModelPacket;
    use crate::packet::Packet;

    const CHECK_OFFSET: usize = TTL_OFFSET + 2;

    #[test]
    fn one_hop_less_updates_the_checksum_as_rfc_1624_says() {
        for ttl in 1..=u8::MAX {
            for check in [
                0, 1, 0x00ff, 0x0100, 0x7fff, 0xfeff, 0xff00, 0xfffe, 0xffff_u16,
            ] {
                let mut packet = ModelPacket {
                    bytes: vec![0; 34],
                    ..ModelPacket::default()
                };
                let [old, new] = [ttl, ttl - 1].map(|ttl| u16::from_ne_bytes([ttl, 6]));
                let check = check.to_be();
                let written = packet.store(TTL_OFFSET, old) && packet.store(CHECK_OFFSET, check);

                let aged = written && Addr4::age(&mut packet);

                assert!(aged, "the header is there");
                assert_eq!(packet.load(TTL_OFFSET), Some(new));
                let expected = checksum::update(check, old, new);
                assert_eq!(packet.load(CHECK_OFFSET), Some(expected), "hop limit {ttl}");
            }
        }
    }
}
