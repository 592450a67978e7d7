//! IPv4 headers (RFC 791).
//!
//! The checksum of a header that comes in is verified (RFC 1812 §5.2.2): an update would keep a
//! wrong one as wrong as it was, and let others look for the fault here.

use crate::abi::{Device, FlowKey, Node, Party};
use crate::address::Addr4;
use crate::checksum;
use crate::family::{Address, Header, Part, Plain};
use crate::forward::Exit;
use crate::hook::Hook;
use crate::packet::{ETH_LEN, Ipv4Header, Packet, proto};
use crate::tables::Tables;
use crate::transport;
use crate::verdict::DropReason;
use crate::work::Work;

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
/// Where in a header the fragment field stands.
const FRAGMENT_OFFSET_AT: usize = 6;
/// Where in a header the identification of its datagram stands.
const ID_OFFSET: usize = 4;
/// Where in a header its checksum stands.
const CHECK_OFFSET: usize = 10;
/// Where the protocol behind the header stands.
const PROTOCOL_OFFSET: usize = ETH_LEN + 9;
/// Where in a header the two addresses stand.
const ENDS_OFFSET: usize = 12;

impl Address for Addr4 {
    const ICMP: u8 = proto::ICMP;
    const BITS: u32 = 32;
    const IS_IPV6: bool = false;
    const TRANSPORT: usize = ETH_LEN + PLAIN_LEN;

    #[inline(always)]
    fn plain<P: Packet>(packet: &P) -> Option<Plain<Self>> {
        // Words, because the checksum wants them; fields would be put together again for it.
        let words: [u32; 5] = packet.load(ETH_LEN)?;
        let [first, second, third, src, dst] = words;
        let [version_ihl, ..] = first.to_ne_bytes();
        let [_, _, high, low] = second.to_ne_bytes();
        let fragment = u16::from_ne_bytes([high, low]);
        if version_ihl != 0x45 || fragment & FRAGMENTED != 0 || !is_sound(words) {
            return None;
        }
        let [hop_limit, protocol, ..] = third.to_ne_bytes();
        let (ports, tag, len) = transport::plain(packet, ETH_LEN + PLAIN_LEN, protocol)?;
        let [src, dst] = [src, dst].map(|end| Self::new(end.to_ne_bytes()));
        Some(Plain {
            key: FlowKey::new(src, dst, protocol, ports, tag),
            hop_limit,
            headers_len: PLAIN_LEN as u32 + len,
        })
    }

    #[inline(always)]
    fn ends<P: Packet>(packet: &P) -> Option<[Self; 2]> {
        let [src, dst] = [
            packet.load::<u32>(ETH_LEN + ENDS_OFFSET)?,
            packet.load::<u32>(ETH_LEN + ENDS_OFFSET + 4)?,
        ];
        Some([src, dst].map(|word| Self::new(word.to_ne_bytes())))
    }

    #[inline(always)]
    fn next_protocol<P: Packet>(packet: &P) -> Option<u8> {
        let fragment = u16::from_be(packet.load(ETH_LEN + FRAGMENT_OFFSET_AT)?);
        if fragment & FRAGMENT_OFFSET != 0 {
            return None;
        }
        packet.load(PROTOCOL_OFFSET)
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
        // RFC 1812 §5.2.2; RFC 5508 REQ-3 for one that an error quotes, see `error`.
        if !quoted && packet.sum(offset, header_len) != Some(u16::MAX) {
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
        if is_from_stack && is_redirect {
            work.exit = Exit::Consumed;
        }
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
    fn set_ends<P: Packet>(packet: &mut P, [src, dst]: [Self; 2], change: u16) -> bool {
        let Some(check) = packet.load::<u16>(ETH_LEN + CHECK_OFFSET) else {
            return false;
        };
        let check = checksum::add(check, change);
        let [src, dst] = [src, dst].map(|end| u32::from_ne_bytes(end.octets()));
        // The sum over the whole packet stays as it is: the changes cancel out.
        packet.store(ETH_LEN + CHECK_OFFSET, check)
            && packet.store(ETH_LEN + ENDS_OFFSET, src)
            && packet.store(ETH_LEN + ENDS_OFFSET + 4, dst)
    }

    #[inline(always)]
    fn set_identification<P: Packet>(packet: &mut P, _header: &Header<Self>, mask: u16) -> bool {
        let [Some(old), Some(check)] =
            [ID_OFFSET, CHECK_OFFSET].map(|offset| packet.load::<u16>(ETH_LEN + offset))
        else {
            return false;
        };
        let new = old ^ mask;
        packet.store(ETH_LEN + ID_OFFSET, new)
            && packet.store(ETH_LEN + CHECK_OFFSET, checksum::update(check, old, new))
    }

    #[inline(always)]
    fn set_quoted_ends<P: Packet>(
        packet: &mut P,
        offset: u32,
        [src, dst]: [Self; 2],
        change: u16,
    ) -> Option<u16> {
        let check: u16 = packet.read(offset + CHECK_OFFSET as u32)?;
        let [src, dst] = [src, dst].map(|end| u32::from_ne_bytes(end.octets()));
        let ends = offset + ENDS_OFFSET as u32;
        let written = packet.write(offset + CHECK_OFFSET as u32, checksum::add(check, change))
            && packet.write(ends, src)
            && packet.write(ends + 4, dst);
        // The header's own checksum takes back what the addresses add.
        written.then_some(0)
    }

    #[inline(always)]
    fn is_sound<P: Packet>(packet: &P, offset: u32, transport: u32) -> bool {
        packet.sum(offset, transport - offset) == Some(u16::MAX)
    }

    #[inline(always)]
    fn word_sum(self) -> u64 {
        Self::word_sum(self)
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
    fn is_broadcast(&self, node: &Node) -> bool {
        let hosts = (1_u64 << (32_u32.saturating_sub(u32::from(node.prefix4_len)))) - 1;
        let own = u64::from(u32::from_be_bytes(self.octets())) & hosts;
        // A prefix of one or two addresses has none (RFC 3021).
        self.is_inside(node) && hosts > 1 && (own == 0 || own == hosts)
    }

    #[inline(always)]
    fn is_martian(&self) -> bool {
        Self::is_martian(*self)
    }

    #[inline(always)]
    fn first(&self, len: u32) -> Self {
        let shift = 32_u32.saturating_sub(len) & 63;
        let address = u64::from(u32::from_be_bytes(self.octets()));
        Self::new(((address >> shift << shift) as u32).to_be_bytes())
    }

    #[inline(always)]
    fn shares(&self, prefix: &Self, len: u32) -> bool {
        let shift = 32_u32.saturating_sub(len);
        let [own, prefix] =
            [*self, *prefix].map(|address| u64::from(u32::from_be_bytes(address.octets())));
        own >> shift == prefix >> shift
    }

    #[inline(always)]
    fn is_inside(&self, node: &Node) -> bool {
        node.has_ipv4() && self.shares(&node.prefix4, u32::from(node.prefix4_len))
    }

    #[inline(always)]
    fn is_node_local(&self, node: &Node) -> bool {
        self.is_inside(node) && *self != node.router4
    }

    #[inline(always)]
    fn prefix(node: &Node) -> Self {
        node.prefix4
    }

    #[inline(always)]
    fn masquerade(device: &Device) -> Option<Self> {
        device.masquerades4().then_some(device.masquerade4)
    }
}

/// Tells whether a header without options has the right checksum; not all of its words are 0.
///
/// It has if the words add up to a multiple of 0xffff. To fold the sum takes a chain of a dozen
/// steps; a product tells the same: the multiples of an odd number, and only they, times its
/// inverse modulo 2^64 are at most 2^64 / number. Of 0xffff the inverse is minus that limit.
#[inline(always)]
fn is_sound([a, b, c, d, e]: [u32; 5]) -> bool {
    const LIMIT: u64 = u64::MAX / 0xffff;
    let sum = u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d) + u64::from(e);
    sum.wrapping_mul(LIMIT.wrapping_neg()) <= LIMIT
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
    use super::{Address, ETH_LEN, TTL_OFFSET, is_sound};
    use crate::abi::Addr4;
    use crate::checksum;
    use crate::model::ModelPacket;
    use crate::packet::Packet;

    const CHECK_OFFSET: usize = ETH_LEN + super::CHECK_OFFSET;

    #[test]
    fn a_header_is_sound_if_its_words_fold_to_ones() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            let mut words = [0; 5];
            for word in &mut words {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *word = (random >> 32) as u32;
            }
            words[2] &= 0xffff;
            let check = !checksum::fold(words.iter().map(|word| u64::from(*word)).sum());
            words[2] |= u32::from(check) << 16;

            assert!(is_sound(words), "{words:x?}");
            words[0] ^= 1 << (random & 31);
            assert!(!is_sound(words), "{words:x?}");
        }
    }

    #[test]
    fn ones_and_zeros_mean_the_same_to_a_checksum() {
        assert!(is_sound([0x45, 0, 0xffba_0000, 0, 0]));
        assert!(is_sound([u32::MAX; 5]));
        assert!(!is_sound([0x45, 0, 0, 0, 0]));
    }

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
