//! Translation of a packet: other addresses and ports, and checksums that stay as right, or as
//! wrong, as they were (RFC 1624).
//!
//! A transport checksum is updated before the bytes that it covers change; a device may have to
//! complete it later, which only the kernel knows ([`Packet::update_check`]). The checksum of an
//! IPv4 header is never left to a device.

use crate::abi::FlowKey;
use crate::checksum;
use crate::family::{Address, Header, Part};
use crate::packet::{CheckChange, Packet, Ports, proto};

/// Returns what a translation adds to checksums: by its addresses, and by its ports.
#[inline(always)]
pub fn sums<A: Address>(key: &FlowKey<A>, out: &FlowKey<A>) -> [u16; 2] {
    let ends = |key: &FlowKey<A>| key.src().word_sum() + key.dst().word_sum();
    let [old, new] = [key.ports(), out.ports()];
    let ports = |[src, dst]: [u16; 2]| {
        // An echo has its identifier once.
        let dst = if key.is_echo() { 0 } else { dst };
        u64::from(src) + u64::from(dst)
    };
    [
        checksum::sum_difference(ends(key), ends(out)),
        checksum::sum_difference(ports(old), ports(new)),
    ]
}

/// Translates a packet without options, whose transport header is where it usually is.
#[inline(always)]
pub fn plain<A: Address, P: Packet>(packet: &mut P, out: &FlowKey<A>, sums: [u16; 2]) -> bool {
    let [addresses, _] = sums;
    let transport = A::TRANSPORT as u32;
    let change = change::<A>(out.proto(), sums);
    let Some(check) = check_offset(out.proto()) else {
        return false;
    };
    if !packet.update_check(transport + check, change) {
        return false;
    }
    let has_ports = if out.is_echo() {
        packet.store(A::TRANSPORT + ECHO_ID, out.ports()[0])
    } else {
        packet.store(A::TRANSPORT, wire_ports(out))
    };
    has_ports && A::set_ends(packet, [out.src(), out.dst()], addresses)
}

/// Translates any packet of a flow; only a first fragment has ports and a transport checksum.
#[inline(never)]
pub fn full<A: Address, P: Packet>(
    packet: &mut P,
    header: &Header<A>,
    key: &FlowKey<A>,
    out: &FlowKey<A>,
) -> bool {
    let sums = sums(key, out);
    let has_transport = !matches!(header.part, Part::Later);
    if A::IS_IPV6 && !has_transport {
        // Nothing in this packet makes up for its addresses.
        packet.adjust_sum(sums[0].into());
    }
    if has_transport
        && let Some(check) = check_offset(header.protocol)
        && !packet.update_check(header.transport + check, change::<A>(header.protocol, sums))
    {
        return false;
    }
    if has_transport && key.ports() != out.ports() && !set_ports(packet, header.transport, out) {
        return false;
    }
    A::set_ends(packet, [out.src(), out.dst()], sums[0])
}

/// Gives a fragment of a masqueraded datagram an identification of its sender's own: endpoints that
/// share an address must not share these (RFC 6864 §5.3.2, RFC 7857 §9).
///
/// Each sender has a mask, by the index of its link, and no two masks are equal: the factor is odd.
#[inline(always)]
pub fn own_identification<A: Address, P: Packet>(
    packet: &mut P,
    header: &Header<A>,
    sender: u32,
) -> bool {
    let mask = (sender as u16).wrapping_mul(0x9e37);
    matches!(header.part, Part::Whole) || A::set_identification(packet, header, mask)
}

/// Writes the ports of a flow, or the identifier of an echo, into the transport header at any
/// offset.
#[inline(always)]
pub fn set_ports<A: Address, P: Packet>(packet: &mut P, transport: u32, out: &FlowKey<A>) -> bool {
    if out.is_echo() {
        packet.write(transport + ECHO_ID as u32, out.ports()[0])
    } else {
        packet.write(transport, wire_ports(out))
    }
}

/// Returns where in a transport header its checksum stands, for protocols whose checksum a change
/// of addresses or ports changes.
#[inline(always)]
pub const fn check_offset(protocol: u8) -> Option<u32> {
    match protocol {
        proto::TCP => Some(16),
        proto::UDP | proto::UDP_LITE => Some(6),
        proto::ICMP | proto::ICMP6 => Some(2),
        _ => None,
    }
}

/// Tells whether a protocol has ports that can be translated. The checksum of SCTP would have to
/// be computed anew.
#[inline(always)]
pub const fn has_free_ports(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::UDP_LITE)
}

/// Where the identifier of an echo stands in its message.
const ECHO_ID: usize = 4;

#[inline(always)]
fn wire_ports<A>(key: &FlowKey<A>) -> Ports {
    let [src, dst] = key.ports();
    Ports { src, dst }
}

/// ICMP for IPv4 is the only one whose checksum does not cover the addresses.
#[inline(always)]
pub fn change<A: Address>(protocol: u8, [addresses, ports]: [u16; 2]) -> CheckChange {
    CheckChange {
        addresses: if protocol == proto::ICMP {
            0
        } else {
            addresses
        },
        ports,
        is_udp: matches!(protocol, proto::UDP | proto::UDP_LITE),
        is_ipv6: A::IS_IPV6,
    }
}
