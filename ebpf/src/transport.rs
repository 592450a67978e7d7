//! What lies behind the IP header, as far as a flow is concerned: ports, identifier, TCP flags.
//!
//! `plain` serves the fast path and accepts only packets that need no thought; `full` serves the
//! slow path and names what is wrong with the others.

use crate::packet::{IcmpStart, Packet, Ports, TcpStart, proto};
use crate::verdict::DropReason;

/// TCP flags (RFC 9293 §3.1).
pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

/// Holds what a transport header says about its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Source and destination port in the order of the wire; an echo's identifier twice.
    pub ports: [u16; 2],
    /// Type of a message of ICMP.
    pub tag: u8,
    /// Code of a message of ICMP.
    pub code: u8,
    pub tcp_flags: u8,
    /// Whether this is an ICMP error, which quotes another packet.
    pub is_error: bool,
}

/// Reads the header of a packet that continues a flow.
///
/// Returns ports, tag and the length of the header in bytes; `None` for whatever opens, ends or
/// diverts a flow.
#[inline(always)]
pub fn plain<P: Packet>(packet: &P, offset: usize, protocol: u8) -> Option<([u16; 2], u8, u32)> {
    match protocol {
        proto::TCP => {
            let tcp: TcpStart = packet.load(offset)?;
            if tcp.flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0 {
                return None;
            }
            Some((
                [tcp.src_port, tcp.dst_port],
                0,
                u32::from(tcp.offset >> 4) * 4,
            ))
        }
        proto::UDP => {
            let ports: Ports = packet.load(offset)?;
            Some(([ports.src, ports.dst], 0, 8))
        }
        proto::ICMP | proto::ICMP6 => {
            let icmp: IcmpStart = packet.load(offset)?;
            is_echo(protocol, icmp.kind).then_some(([icmp.id, icmp.id], icmp.kind, 8))
        }
        _ => None,
    }
}

/// Reads the header at any offset.
///
/// # Errors
/// `InvalidPacket` if the header is cut off.
#[inline(always)]
pub fn full<P: Packet>(packet: &P, offset: u32, protocol: u8) -> Result<Transport, DropReason> {
    let mut transport = Transport::default();
    match protocol {
        proto::TCP => {
            let tcp: TcpStart = packet.read(offset).ok_or(DropReason::InvalidPacket)?;
            if tcp.offset >> 4 < 5 {
                return Err(DropReason::InvalidPacket);
            }
            transport.ports = [tcp.src_port, tcp.dst_port];
            transport.tcp_flags = tcp.flags;
        }
        proto::UDP | proto::UDP_LITE | proto::SCTP => {
            transport.ports = ports(packet, offset)?;
        }
        proto::ICMP | proto::ICMP6 => {
            let icmp: IcmpStart = packet.read(offset).ok_or(DropReason::InvalidPacket)?;
            (transport.tag, transport.code) = (icmp.kind, icmp.code);
            if is_echo(protocol, icmp.kind) {
                transport.ports = [icmp.id, icmp.id];
            }
            transport.is_error = is_error(protocol, icmp.kind);
        }
        _ => {}
    }
    Ok(transport)
}

/// Reads the ports of a header of which an ICMP error quotes only the first eight bytes.
#[inline(always)]
pub fn quoted<P: Packet>(packet: &P, offset: u32, protocol: u8) -> Result<Transport, DropReason> {
    match protocol {
        proto::TCP => {
            let ports = ports(packet, offset)?;
            Ok(Transport {
                ports,
                ..Transport::default()
            })
        }
        _ => full(packet, offset, protocol),
    }
}

#[inline(always)]
fn ports<P: Packet>(packet: &P, offset: u32) -> Result<[u16; 2], DropReason> {
    let ports: Ports = packet.read(offset).ok_or(DropReason::InvalidPacket)?;
    Ok([ports.src, ports.dst])
}

#[inline(always)]
const fn is_echo(protocol: u8, kind: u8) -> bool {
    matches!(
        (protocol, kind),
        (proto::ICMP, 0 | 8) | (proto::ICMP6, 128 | 129)
    )
}

/// Tells whether a type is an error: RFC 1122 §3.2.2 for ICMP, RFC 4443 §2.1 for ICMPv6.
#[inline(always)]
const fn is_error(protocol: u8, kind: u8) -> bool {
    matches!(
        (protocol, kind),
        (proto::ICMP, 3 | 4 | 5 | 11 | 12) | (proto::ICMP6, 0..128)
    )
}
