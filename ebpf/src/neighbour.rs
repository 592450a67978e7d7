//! ARP (RFC 826) and neighbour discovery (RFC 4861) on the links of endpoints.
//!
//! An endpoint sees one neighbour, its gateway: every address but its own is answered with the
//! address of its `lxc` link, by turning the question round in place. Duplicate-address probes
//! are never answered, and what an endpoint says about itself must be true.

use crate::abi::{Addr4, Addr6, Party};
use crate::checksum;
use crate::family::{Header, Part};
use crate::forward::Exit;
use crate::hook::Hook;
use crate::packet::{Arp, ETH_LEN, Ipv6Header, LinkLayerOption, MacPair, Neighbour, Packet, proto};
use crate::source::speaks_as_itself;
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::work::Work;

const ARP_REQUEST: u16 = 1_u16.to_be();
const ARP_REPLY: u16 = 2_u16.to_be();
const ARP_ETHERNET: u16 = 1_u16.to_be();
const ARP_IPV4: u16 = 0x0800_u16.to_be();
/// Lengths of an Ethernet and an IPv4 address.
const ARP_LENGTHS: u16 = 0x0604_u16.to_be();

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD2_REPORT: u8 = 143;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Router, solicited, override (RFC 4861 §4.4).
const ADVERTISED_FLAGS: u32 = 0xe000_0000_u32.to_be();
/// Neighbour messages that crossed a router carry less (RFC 4861 §7.1).
const UNROUTED: u8 = 255;

const IPV6_LEN: usize = 40;
const MESSAGE_OFFSET: usize = ETH_LEN + IPV6_LEN;
const MESSAGE_LEN: u32 = 24;
const OPTION_OFFSET: usize = MESSAGE_OFFSET + MESSAGE_LEN as usize;
const OPTION_LEN: u32 = 8;

/// Answers an ARP message of the endpoint behind the link that the packet is at.
///
/// # Errors
/// `ForgedArp`, `InvalidPacket`, `InvalidSourceMac`, `InvalidDestinationMac`.
#[inline(always)]
pub fn arp<P: Packet, T: Tables<Addr4>>(packet: &mut P, tables: &T) -> Result<Verdict, DropReason> {
    let ifindex = packet.ifindex();
    let party = tables.party(ifindex).ok_or(DropReason::InvalidSourceIp)?;
    speaks_as_itself(packet, party)?;
    let mut arp: Arp = packet.load(ETH_LEN).ok_or(DropReason::InvalidPacket)?;
    if (arp.hardware, arp.protocol, arp.lengths) != (ARP_ETHERNET, ARP_IPV4, ARP_LENGTHS) {
        return Err(DropReason::InvalidPacket);
    }
    let [sender, target] = [arp.sender, arp.target].map(Addr4::new);
    let is_probe = sender == Addr4::default();
    if arp.sender_mac != party.mac || !(party.has_ipv4(sender) || is_probe) {
        return Err(DropReason::ForgedArp);
    }
    if arp.operation != ARP_REQUEST || is_probe || party.has_ipv4(target) {
        return Ok(Verdict::Consumed);
    }
    (arp.operation, arp.target_mac, arp.sender_mac) = (ARP_REPLY, party.mac, party.gateway_mac);
    (arp.sender, arp.target) = (arp.target, arp.sender);
    let macs = MacPair::new(party.mac, party.gateway_mac);
    if !packet.store(0, macs) || !packet.store(ETH_LEN, arp) {
        return Err(DropReason::WriteError);
    }
    packet.set_for_host();
    Ok(Verdict::Peer(ifindex))
}

/// Handles the neighbour messages among ICMPv6 messages, and notes in `work` what became of them;
/// returns the reason to drop one, if there is one.
///
/// Our links have no IPv6 neighbours of their own, so what the node's stack says on them about
/// routers and groups is for nobody.
#[inline(never)]
pub fn icmp6<P: Packet, T: Tables<Addr6>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<Addr6>,
) -> Option<DropReason> {
    if work.header.protocol != proto::ICMP6 || work.header.part == Part::Later {
        return None;
    }
    let kind: u8 = packet.read(work.header.transport)?;
    let is_from_endpoint = matches!(work.hook(), Some(Hook::FromContainer));
    if is_from_endpoint
        && let Some(party) = tables.party(packet.ifindex())
        && let Err(reason) = speaks_as_itself(packet, party)
    {
        return Some(reason);
    }
    if kind == REDIRECT && !is_from_endpoint {
        // The router is the only way there is; the node's stack does not know that.
        work.exit = Exit::Consumed;
        return None;
    }
    if matches!(
        kind,
        ROUTER_SOLICITATION | MLD_REPORT | MLD_DONE | MLD2_REPORT
    ) {
        work.exit = Exit::Consumed;
        return None;
    }
    if !is_from_endpoint {
        return None;
    }
    let answered = match kind {
        ROUTER_ADVERTISEMENT | REDIRECT => Err(DropReason::ForbiddenIcmp6),
        SOLICITATION => solicitation(packet, tables, work),
        ADVERTISEMENT => advertisement(packet, tables, work),
        _ => return None,
    };
    answered.err()
}

#[inline(always)]
fn solicitation<P: Packet, T: Tables<Addr6>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<Addr6>,
) -> Result<(), DropReason> {
    let header = &work.header;
    let party = tables
        .party(packet.ifindex())
        .ok_or(DropReason::InvalidSourceIp)?;
    let message = message(packet, party, header)?;
    let target = Addr6::from_wire(message.target);
    if header.src.is_unspecified() {
        work.exit = Exit::Consumed;
        return Ok(());
    }
    let option = option(packet, header, SOURCE_LINK_LAYER);
    if !(party.has_ipv6(header.src) || header.src.is_link_local()) || !option.is_of(party) {
        return Err(DropReason::ForgedNeighbour);
    }
    if party.has_ipv6(target) {
        work.exit = Exit::Consumed;
        return Ok(());
    }
    answer(packet, party, header, target, option.is_there())?;
    packet.set_for_host();
    work.exit = Exit::Returned;
    Ok(())
}

/// An endpoint's own announcement reaches nobody who would need it; it must be true all the same.
#[inline(always)]
fn advertisement<P: Packet, T: Tables<Addr6>>(
    packet: &mut P,
    tables: &T,
    work: &mut Work<Addr6>,
) -> Result<(), DropReason> {
    let header = &work.header;
    let party = tables
        .party(packet.ifindex())
        .ok_or(DropReason::InvalidSourceIp)?;
    let message = message(packet, party, header)?;
    let target = Addr6::from_wire(message.target);
    let option = option(packet, header, TARGET_LINK_LAYER);
    if !(party.has_ipv6(target) || target.is_link_local()) || !option.is_of(party) {
        return Err(DropReason::ForgedNeighbour);
    }
    work.exit = Exit::Consumed;
    Ok(())
}

/// Reads the message after checking what both kinds have in common.
#[inline(always)]
fn message<P: Packet>(
    packet: &P,
    party: &Party,
    header: &Header<Addr6>,
) -> Result<Neighbour, DropReason> {
    speaks_as_itself(packet, party)?;
    let in_place = header.transport == MESSAGE_OFFSET as u32;
    if header.hop_limit != UNROUTED || !in_place || header.payload_len < MESSAGE_LEN {
        return Err(DropReason::InvalidPacket);
    }
    packet.load(MESSAGE_OFFSET).ok_or(DropReason::InvalidPacket)
}

/// Reads the first option; one of another kind or length counts as none.
///
/// verifier (all): "bitwise operator &= on pointer prohibited": what an `Option` holds beside
/// `None` is undefined, and the compiler looks at it before it looks at the tag.
#[inline(always)]
fn option<P: Packet>(packet: &P, header: &Header<Addr6>, kind: u8) -> LinkLayerOption {
    if header.payload_len < MESSAGE_LEN + OPTION_LEN {
        return LinkLayerOption::default();
    }
    match packet.load::<LinkLayerOption>(OPTION_OFFSET) {
        Some(option) if option.kind == kind && option.len == 1 => option,
        _ => LinkLayerOption::default(),
    }
}

impl LinkLayerOption {
    /// Tells whether there is such an option.
    #[inline(always)]
    const fn is_there(self) -> bool {
        self.len == 1
    }

    /// Tells whether the option, if it is there, holds the address of this party.
    #[inline(always)]
    fn is_of(self, party: &Party) -> bool {
        !self.is_there() || self.mac == party.mac
    }
}

/// Turns a solicitation into the advertisement that answers it.
#[inline(always)]
fn answer<P: Packet>(
    packet: &mut P,
    party: &Party,
    header: &Header<Addr6>,
    target: Addr6,
    with_option: bool,
) -> Result<(), DropReason> {
    let len = if with_option {
        MESSAGE_LEN + OPTION_LEN
    } else {
        MESSAGE_LEN
    };
    let ip = Ipv6Header {
        version: 0x60,
        flow: [0; 3],
        payload_len: (len as u16).to_be(),
        next_header: proto::ICMP6,
        hop_limit: UNROUTED,
        src: target.wire(),
        dst: header.src.wire(),
    };
    let [a, b, c, d, e, f] = party.gateway_mac;
    let mut sum = target.word_sum() * 2 + header.src.word_sum();
    sum += u64::from((len as u16).to_be()) + u64::from(u16::from(proto::ICMP6).to_be());
    sum += u64::from(u16::from_ne_bytes([ADVERTISEMENT, 0]));
    sum += u64::from(ADVERTISED_FLAGS);
    if with_option {
        sum += u64::from(u16::from_ne_bytes([TARGET_LINK_LAYER, 1]));
        for word in [[a, b], [c, d], [e, f]] {
            sum += u64::from(u16::from_ne_bytes(word));
        }
    }
    let message = Neighbour {
        kind: ADVERTISEMENT,
        code: 0,
        check: !checksum::fold(sum),
        flags: ADVERTISED_FLAGS,
        target: target.wire(),
    };
    let option = LinkLayerOption {
        kind: TARGET_LINK_LAYER,
        len: 1,
        mac: party.gateway_mac,
    };
    let written = packet.store(0, MacPair::new(party.mac, party.gateway_mac))
        && packet.store(ETH_LEN, ip)
        && packet.store(MESSAGE_OFFSET, message)
        && (!with_option || packet.store(OPTION_OFFSET, option));
    if written {
        Ok(())
    } else {
        Err(DropReason::WriteError)
    }
}
