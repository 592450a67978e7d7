//! What a client asks, as an IPv4 packet (RFC 2131, 4.4; RFC 2132).

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr,
    EthernetAddress, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UDP_HEADER_LEN, UdpPacket,
    UdpRepr,
};

use crate::plan::object::Mac;

/// Options of RFC 2132 and RFC 3442, by number.
pub(super) const MASK: u8 = 1;
pub(super) const ROUTER: u8 = 3;
pub(super) const NAME_SERVERS: u8 = 6;
const HOST_NAME: u8 = 12;
pub(super) const DOMAIN: u8 = 15;
pub(super) const MTU: u8 = 26;
pub(super) const LEASE_TIME: u8 = 51;
pub(super) const KIND: u8 = 53;
pub(super) const SERVER: u8 = 54;
pub(super) const RENEW_TIME: u8 = 58;
pub(super) const REBIND_TIME: u8 = 59;
pub(super) const CLASSLESS_ROUTES: u8 = 121;

/// What a server is asked to tell. Where it has both, RFC 3442 wants the classless routes first.
const PARAMETERS: [u8; 8] = [
    CLASSLESS_ROUTES,
    MASK,
    ROUTER,
    NAME_SERVERS,
    DOMAIN,
    MTU,
    RENEW_TIME,
    REBIND_TIME,
];

/// Longest answer that is taken: what one Ethernet frame holds.
const ANSWER_LEN_MAX: u16 = 1500;

/// Old relays drop messages that are shorter (RFC 951).
const MESSAGE_LEN_MIN: usize = 300;

const HOP_LIMIT: u8 = 64;

/// Asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
}

/// Is what a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: Kind,
    /// Tells its answers from others.
    pub xid: u32,
    /// How long the client has been trying.
    pub secs: u16,
    pub mac: Mac,
    /// The address that the client has and uses, or the unspecified one.
    pub own: Ipv4Addr,
    /// The address that it would like.
    pub wish: Option<Ipv4Addr>,
    /// The server whose offer it takes.
    pub server: Option<Ipv4Addr>,
    /// Where the packet goes.
    pub to: Ipv4Addr,
    /// Whether the answer shall be sent to everybody.
    pub broadcast: bool,
    pub host_name: Option<&'a str>,
}

impl Message<'_> {
    /// Returns the packet.
    ///
    /// # Panics
    /// If the name of the host is longer than an option, which no file gives.
    pub fn packet(&self) -> Vec<u8> {
        let host_name = self.host_name.map(|name| DhcpOption {
            kind: HOST_NAME,
            data: name.as_bytes(),
        });
        let additional: Vec<DhcpOption<'_>> = host_name.into_iter().collect();
        let dhcp = self.dhcp(&additional);
        let payload_len = dhcp.buffer_len().max(MESSAGE_LEN_MIN);
        let ip = Ipv4Repr {
            src_addr: self.own,
            dst_addr: self.to,
            next_header: IpProtocol::Udp,
            payload_len: UDP_HEADER_LEN + payload_len,
            hop_limit: HOP_LIMIT,
        };
        let udp = UdpRepr {
            src_port: DHCP_CLIENT_PORT,
            dst_port: DHCP_SERVER_PORT,
        };
        let checksums = ChecksumCapabilities::default();
        let mut bytes = vec![0; ip.buffer_len() + ip.payload_len];
        let mut packet = Ipv4Packet::new_unchecked(bytes.as_mut_slice());
        ip.emit(&mut packet, &checksums);
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &IpAddress::Ipv4(self.own),
            &IpAddress::Ipv4(self.to),
            payload_len,
            |payload| {
                dhcp.emit(&mut DhcpPacket::new_unchecked(payload))
                    .expect("there is room for all options");
            },
            &checksums,
        );
        bytes
    }

    fn dhcp<'a>(&self, additional: &'a [DhcpOption<'a>]) -> DhcpRepr<'a> {
        let mac = EthernetAddress(self.mac.0);
        let nowhere = Ipv4Addr::UNSPECIFIED;
        DhcpRepr {
            message_type: match self.kind {
                Kind::Discover => DhcpMessageType::Discover,
                Kind::Request => DhcpMessageType::Request,
            },
            transaction_id: self.xid,
            secs: self.secs,
            client_hardware_address: mac,
            client_ip: self.own,
            your_ip: nowhere,
            server_ip: nowhere,
            router: None,
            subnet_mask: None,
            relay_agent_ip: nowhere,
            broadcast: self.broadcast,
            requested_ip: self.wish,
            client_identifier: Some(mac),
            server_identifier: self.server,
            parameter_request_list: Some(&PARAMETERS),
            dns_servers: None,
            max_size: Some(ANSWER_LEN_MAX),
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: additional,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message<'static> {
        Message {
            kind: Kind::Discover,
            xid: 0x1234_5678,
            secs: 3,
            mac: Mac([2, 0, 0, 0, 0, 7]),
            own: Ipv4Addr::UNSPECIFIED,
            wish: Some(Ipv4Addr::new(192, 0, 2, 7)),
            server: None,
            to: Ipv4Addr::BROADCAST,
            broadcast: true,
            host_name: Some("edge-1"),
        }
    }

    #[test]
    fn packet_has_the_checksums_and_ports_of_a_client() {
        let bytes = message().packet();

        let ip = Ipv4Packet::new_checked(bytes.as_slice()).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(ip.dst_addr(), Ipv4Addr::BROADCAST);
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((udp.src_port(), udp.dst_port()), (68, 67));
    }

    #[test]
    fn message_says_what_is_wished_and_who_asks() {
        let bytes = message().packet();

        let dhcp = DhcpPacket::new_checked(&bytes[28..]).unwrap();
        let found = DhcpRepr::parse(&dhcp).unwrap();
        assert_eq!(found.transaction_id, 0x1234_5678);
        assert_eq!(found.requested_ip, Some(Ipv4Addr::new(192, 0, 2, 7)));
        assert!(found.broadcast);
        assert!(bytes.len() >= 28 + MESSAGE_LEN_MIN);
        let name = dhcp.options().find(|option| option.kind == HOST_NAME);
        assert_eq!(name.unwrap().data, b"edge-1");
    }
}
