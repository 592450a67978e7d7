//! Which flow a fragment belongs to.
//!
//! Only the first fragment of a datagram holds ports; the others are matched to it by their
//! identification. A first fragment too short for its transport header, or a later one that
//! would overwrite it, is refused (RFC 1858, RFC 7112), so that no fragment slips past a
//! decision that was made on ports. Fragments that overtake the first one are another matter; see
//! [`crate::reassembly`].

use crate::abi::{Datagram, FlowKey, FragmentKey, Order};
use crate::family::{Address, Header, Part};
use crate::hook::Hook;
use crate::packet::{Packet, proto};
use crate::tables::Tables;
use crate::transport::{self, Transport};
use crate::verdict::DropReason;
use crate::work::Work;

/// Where the checksum of a UDP header stands.
const UDP_CHECK: u32 = 6;

/// Returns the transport header of a packet: its own, or the one of its first fragment.
///
/// # Errors
/// `InvalidPacket`, `TinyFragment`, `FragmentNotFound`.
#[inline(always)]
pub fn transport<A: Address, P: Packet, T: Tables<A>>(
    packet: &P,
    tables: &T,
    header: &Header<A>,
    now_ns: u64,
) -> Result<Transport, DropReason> {
    match header.part {
        Part::Whole if header.payload_len < header_len(header.protocol) => {
            Err(DropReason::InvalidPacket)
        }
        Part::First | Part::Later if hides_ports(header) => Err(DropReason::TinyFragment),
        // Without a checksum nothing would show that the address was damaged (RFC 8200 §8.1).
        Part::Whole | Part::First if is_unchecked(packet, header) => Err(DropReason::InvalidPacket),
        Part::Whole | Part::First => transport::full(packet, header.transport, header.protocol),
        Part::Later => {
            let known = tables.datagram(&key(header));
            match known {
                Some(datagram)
                    if datagram.is_live(now_ns)
                        && matches!(datagram.order(), Order::FirstFirst) =>
                {
                    Ok(Transport {
                        ports: datagram.ports,
                        tag: datagram.tag,
                        ..Transport::default()
                    })
                }
                Some(_) | None => Err(DropReason::FragmentNotFound),
            }
        }
    }
}

/// Tells whether a datagram of IPv6 has no checksum.
#[inline(always)]
fn is_unchecked<A: Address, P: Packet>(packet: &P, header: &Header<A>) -> bool {
    A::IS_IPV6
        && header.protocol == proto::UDP
        && packet.read::<u16>(header.transport + UDP_CHECK) == Some(0)
}

/// Remembers the ports of a first fragment for those that follow. What the node itself sends out of
/// a device is left alone anyhow.
#[inline(never)]
pub fn remember<A: Address, T: Tables<A>>(tables: &mut T, work: &Work<A>) {
    let is_of_node = matches!(work.hook(), Some(Hook::ToNetdev)) && work.sender == work.moment.host;
    if work.header.part == Part::First && !is_of_node {
        let (ports, tag) = (work.key.ports(), work.key.tag());
        let datagram = Datagram::new(ports, tag, Order::FirstFirst, work.moment.now_ns);
        tables.insert_datagram(&key(&work.header), &datagram);
    }
}

/// Tells whether a fragment is so short, or begins so early, that the ports are not where they
/// belong.
#[inline(always)]
pub const fn hides_ports<A>(header: &Header<A>) -> bool {
    let needed = header_len(header.protocol);
    match header.part {
        Part::Whole => false,
        Part::First => header.payload_len < needed,
        Part::Later => (header.fragment_offset as u32) < needed,
    }
}

/// Returns the key of the datagram that a fragment is part of.
#[inline(always)]
pub fn key<A: Address>(header: &Header<A>) -> FragmentKey<A> {
    FragmentKey::new(header.src, header.dst, header.id, header.protocol)
}

/// Returns the key of the flow that a packet belongs to.
#[inline(always)]
pub fn flow_key<A: Address>(header: &Header<A>, transport: &Transport) -> FlowKey<A> {
    FlowKey::new(
        header.src,
        header.dst,
        header.protocol,
        transport.ports,
        transport.tag,
    )
}

/// Returns how many bytes of a transport header must be together in one packet.
#[inline(always)]
const fn header_len(protocol: u8) -> u32 {
    match protocol {
        proto::TCP => 20,
        proto::UDP | proto::UDP_LITE | proto::ICMP | proto::ICMP6 => 8,
        proto::SCTP => 12,
        _ => 0,
    }
}
