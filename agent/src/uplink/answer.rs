//! What a server says, read from an IPv4 packet (RFC 2131, RFC 2132).
//!
//! An option that is given in several parts is put together first (RFC 3396); options in the fields
//! for file names are not looked for. The checksum of UDP is not verified: on a virtual link it is
//! left to a device that never sees the packet, and the transaction's number tells strangers.
//!
//! A server says what it likes: what is taken from here cannot hurt a reader. An address is one that
//! a host can have, and a domain has the letters of one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DhcpMessageType, DhcpOpCode, DhcpPacket, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket,
};

use super::message::{
    CLASSLESS_ROUTES, DOMAIN, KIND, LEASE_TIME, MASK, MTU, NAME_SERVERS, REBIND_TIME, RENEW_TIME,
    ROUTER, SERVER,
};
use super::route::classless;
use crate::plan::lease::{Lease, LeaseRoute, Moment, Term};
use crate::plan::object::Mac;

/// What begins the options of DHCP.
const MAGIC: u32 = 0x6382_5363;

/// Stands for a lease that never ends.
const FOR_EVER: u32 = u32::MAX;

/// Longest name of a domain.
const DOMAIN_LEN_MAX: usize = 253;

/// Tells what a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Offer,
    Ack,
    Nak,
}

/// Is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: Kind,
    pub xid: u32,
    /// Whom it is for.
    pub mac: Mac,
    pub server: Option<Ipv4Addr>,
    /// The address that is offered or lent.
    pub address: Ipv4Addr,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Answer {
    /// Reads a packet; `None` if it is no answer of a DHCP server.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(bytes).ok()?;
        let header = Ipv4Repr::parse(&ip, &ChecksumCapabilities::default()).ok()?;
        if header.next_header != IpProtocol::Udp || ip.more_frags() || ip.frag_offset() != 0 {
            return None;
        }
        let udp = UdpPacket::new_checked(ip.payload()).ok()?;
        if udp.dst_port() != DHCP_CLIENT_PORT {
            return None;
        }
        let dhcp = DhcpPacket::new_checked(udp.payload()).ok()?;
        if dhcp.opcode() != DhcpOpCode::Reply || dhcp.magic_number() != MAGIC {
            return None;
        }
        let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for option in dhcp.options() {
            options.entry(option.kind).or_default().extend(option.data);
        }
        let kind = match DhcpMessageType::from(*options.get(&KIND)?.first()?) {
            DhcpMessageType::Offer => Kind::Offer,
            DhcpMessageType::Ack => Kind::Ack,
            DhcpMessageType::Nak => Kind::Nak,
            DhcpMessageType::Discover
            | DhcpMessageType::Request
            | DhcpMessageType::Decline
            | DhcpMessageType::Release
            | DhcpMessageType::Inform
            | DhcpMessageType::Unknown(_) => return None,
        };
        Some(Self {
            kind,
            xid: dhcp.transaction_id(),
            mac: Mac(dhcp.client_hardware_address().0),
            server: options
                .get(&SERVER)
                .and_then(|bytes| addresses(bytes).next()),
            address: dhcp.your_ip(),
            options,
        })
    }

    /// Returns what is lent from a moment on; `None` if nobody could have it. `from` is who sent
    /// the answer's frame.
    pub fn lease(&self, from: Mac, asked: Moment) -> Option<Lease> {
        let address = self.network()?;
        let secs = self.number(LEASE_TIME).filter(|secs| *secs > 0)?;
        Some(Lease {
            address,
            server: self.server?,
            server_mac: from,
            routes: self.routes(),
            mtu: self.mtu(),
            name_servers: self.list(NAME_SERVERS),
            domain: self.domain(),
            obtained: asked,
            term: (secs != FOR_EVER).then(|| self.term(secs, asked)),
        })
    }

    /// Returns the address with its network, if a host can have it.
    fn network(&self) -> Option<Ipv4Net> {
        let address = self.address;
        let mask = self.list(MASK).first().copied();
        let network = match mask {
            Some(mask) => Ipv4Net::with_netmask(address, mask).ok()?,
            None => Ipv4Net::new(address, class_len(address)).ok()?,
        };
        let has_ends = network.prefix_len() < 31;
        let is_end = has_ends && (address == network.network() || address == network.broadcast());
        let is_host = !address.is_unspecified()
            && !address.is_loopback()
            && !address.is_multicast()
            && !address.is_broadcast();
        (is_host && !is_end && network.prefix_len() > 0).then_some(network)
    }

    /// Returns the routes: the classless ones alone, where there are any (RFC 3442).
    fn routes(&self) -> Vec<LeaseRoute> {
        let given = self.options.get(&CLASSLESS_ROUTES);
        given.and_then(|bytes| classless(bytes)).unwrap_or_else(|| {
            let router = self.list(ROUTER).into_iter().next();
            let everywhere = router.map(|router| LeaseRoute {
                prefix: Ipv4Net::default(),
                via: Some(router),
            });
            everywhere.into_iter().collect()
        })
    }

    /// Returns the moments of a lease; those that make no sense become the usual parts of it.
    fn term(&self, secs: u32, asked: Moment) -> Term {
        let whole = Moment::from_secs(secs.into());
        let given = |option| {
            self.number(option)
                .map(|secs| Moment::from_secs(secs.into()))
        };
        let rebind = given(REBIND_TIME).filter(|rebind| *rebind < whole);
        let rebind = rebind.unwrap_or(whole * 7 / 8);
        let renew = given(RENEW_TIME).filter(|renew| *renew < rebind);
        let renew = renew.unwrap_or((whole / 2).min(rebind));
        Term {
            secs,
            renew: asked + renew,
            rebind: asked + rebind,
            expires: asked + whole,
        }
    }

    fn mtu(&self) -> Option<u32> {
        let bytes = self.options.get(&MTU)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes).into())
    }

    fn domain(&self) -> Option<String> {
        let text = String::from_utf8(self.options.get(&DOMAIN)?.clone()).ok()?;
        let text = text.trim_end_matches('\0');
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_domain =
            !text.is_empty() && text.len() <= DOMAIN_LEN_MAX && text.bytes().all(is_allowed);
        is_domain.then(|| text.to_owned())
    }

    fn number(&self, option: u8) -> Option<u32> {
        let bytes = self.options.get(&option)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    /// Returns the addresses in an option that hosts can have, or masks.
    fn list(&self, option: u8) -> Vec<Ipv4Addr> {
        let bytes = self.options.get(&option);
        let found = addresses(bytes.map_or(&[], Vec::as_slice));
        found.filter(|address| !address.is_unspecified()).collect()
    }
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks.iter().copied().map(Ipv4Addr::from)
}

/// Returns the length of an address's prefix where the server gives none: that of its class.
fn class_len(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use smoltcp::wire::{
        DhcpOption, DhcpRepr, EthernetAddress, IpAddress, UDP_HEADER_LEN, UdpRepr,
    };

    use super::super::wait::Chance;
    use super::*;

    pub(in crate::uplink) const SERVER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    pub(in crate::uplink) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
    pub(in crate::uplink) const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
    pub(in crate::uplink) const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// Returns the packet of an answer with these options, beside those that each has.
    pub(in crate::uplink) fn packet(kind: Kind, xid: u32, options: &[(u8, &[u8])]) -> Vec<u8> {
        let nowhere = Ipv4Addr::UNSPECIFIED;
        let additional: Vec<_> = options
            .iter()
            .map(|(kind, data)| DhcpOption { kind: *kind, data })
            .collect();
        let dhcp = DhcpRepr {
            message_type: match kind {
                Kind::Offer => DhcpMessageType::Offer,
                Kind::Ack => DhcpMessageType::Ack,
                Kind::Nak => DhcpMessageType::Nak,
            },
            transaction_id: xid,
            secs: 0,
            client_hardware_address: EthernetAddress(MAC.0),
            client_ip: nowhere,
            your_ip: if kind == Kind::Nak { nowhere } else { ADDRESS },
            server_ip: nowhere,
            router: None,
            subnet_mask: None,
            relay_agent_ip: nowhere,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(SERVER_IP),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &additional,
        };
        let ip = Ipv4Repr {
            src_addr: SERVER_IP,
            dst_addr: Ipv4Addr::BROADCAST,
            next_header: IpProtocol::Udp,
            payload_len: UDP_HEADER_LEN + dhcp.buffer_len(),
            hop_limit: 64,
        };
        let udp = UdpRepr {
            src_port: 67,
            dst_port: 68,
        };
        let checksums = ChecksumCapabilities::default();
        let mut bytes = vec![0; ip.buffer_len() + ip.payload_len];
        let mut packet = Ipv4Packet::new_unchecked(bytes.as_mut_slice());
        ip.emit(&mut packet, &checksums);
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &IpAddress::Ipv4(ip.src_addr),
            &IpAddress::Ipv4(ip.dst_addr),
            dhcp.buffer_len(),
            |payload| dhcp.emit(&mut DhcpPacket::new_unchecked(payload)).unwrap(),
            &checksums,
        );
        bytes
    }

    /// What every lease of these tests has.
    pub(in crate::uplink) const PLAIN: [(u8, &[u8]); 3] = [
        (MASK, &[255, 255, 255, 0]),
        (ROUTER, &[192, 0, 2, 1]),
        (LEASE_TIME, &[0, 0, 0, 80]),
    ];

    fn lease(options: &[(u8, &[u8])]) -> Option<Lease> {
        let answer = Answer::read(&packet(Kind::Ack, 1, options)).unwrap();
        answer.lease(SERVER_MAC, Moment::from_secs(100))
    }

    fn with(more: &[(u8, &'static [u8])]) -> Lease {
        lease(&[&PLAIN[..], more].concat()).unwrap()
    }

    #[test]
    fn lease_has_network_router_and_the_usual_moments() {
        let lease = with(&[]);

        assert_eq!(lease.address, "192.0.2.7/24".parse().unwrap());
        assert_eq!((lease.server, lease.server_mac), (SERVER_IP, SERVER_MAC));
        let everywhere = LeaseRoute {
            prefix: Ipv4Net::default(),
            via: Some(SERVER_IP),
        };
        assert_eq!(lease.routes, [everywhere]);
        let term = lease.term.unwrap();
        let secs = [term.renew, term.rebind, term.expires].map(|moment| moment.as_secs());
        assert_eq!(secs, [140, 170, 180]);
    }

    #[test]
    fn server_may_choose_the_moments_if_they_are_in_order() {
        let term = |renew: &'static [u8], rebind: &'static [u8]| {
            let term = with(&[(RENEW_TIME, renew), (REBIND_TIME, rebind)])
                .term
                .unwrap();
            [term.renew, term.rebind].map(|moment| moment.as_secs())
        };

        assert_eq!(term(&[0, 0, 0, 10], &[0, 0, 0, 20]), [110, 120]);
        assert_eq!(term(&[0, 0, 0, 30], &[0, 0, 0, 20]), [120, 120]);
        assert_eq!(term(&[0, 0, 0, 30], &[0, 0, 1, 0]), [130, 170]);
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let lease = with(&[(CLASSLESS_ROUTES, &[8, 10, 192, 0, 2, 2])]);

        let route = LeaseRoute {
            prefix: "10.0.0.0/8".parse().unwrap(),
            via: Some(Ipv4Addr::new(192, 0, 2, 2)),
        };
        assert_eq!(lease.routes, [route]);
    }

    #[test]
    fn option_in_two_parts_is_put_together() {
        let lease = with(&[
            (CLASSLESS_ROUTES, &[8, 10, 192]),
            (CLASSLESS_ROUTES, &[0, 2, 2]),
        ]);

        assert_eq!(lease.routes.len(), 1);
        assert_eq!(lease.routes[0].via, Some(Ipv4Addr::new(192, 0, 2, 2)));
    }

    #[test]
    fn lease_may_never_end() {
        let options = [(MASK, &[255, 255, 255, 0][..]), (LEASE_TIME, &[255; 4])];

        assert_eq!(lease(&options).unwrap().term, None);
    }

    #[test]
    fn what_nobody_could_have_is_no_lease() {
        let time: (u8, &[u8]) = (LEASE_TIME, &[0, 0, 0, 80]);
        for options in [
            &[(MASK, &[255, 255, 255, 0][..])][..],
            &[(MASK, &[255, 255, 255, 0]), (LEASE_TIME, &[0; 4])],
            // The address is the broadcast address of this network.
            &[(MASK, &[255, 255, 255, 248]), time],
            &[(MASK, &[255, 0, 255, 0]), time],
        ] {
            assert_eq!(lease(options), None, "{options:?}");
        }
    }

    #[test]
    fn domain_that_would_write_lines_of_its_own_is_refused() {
        let domain = |text: &'static [u8]| with(&[(DOMAIN, text)]).domain;

        assert_eq!(domain(b"example.net\0"), Some("example.net".to_owned()));
        assert_eq!(domain(b"a\nnameserver 10.0.0.1"), None);
        assert_eq!(domain(b""), None);
    }

    #[test]
    fn other_options_are_read_and_an_absent_mask_is_that_of_the_class() {
        let lease = lease(&[
            (LEASE_TIME, &[0, 0, 0, 80]),
            (MTU, &[5, 0xb4]),
            (NAME_SERVERS, &[192, 0, 2, 53, 0, 0, 0, 0, 192, 0, 2, 54, 9]),
        ])
        .unwrap();

        assert_eq!(lease.address.prefix_len(), 24);
        assert_eq!(lease.mtu, Some(1460));
        let last = lease.name_servers.iter().map(|server| server.octets()[3]);
        assert_eq!(last.collect::<Vec<_>>(), [53, 54]);
    }

    /// Whatever a server or somebody else on the network sends is read without a panic.
    #[test]
    fn damaged_options_are_read_without_a_panic() {
        let routes: (u8, &[u8]) = (CLASSLESS_ROUTES, &[8, 10, 192, 0, 2, 2]);
        let whole = packet(Kind::Ack, 1, &[&PLAIN[..], &[routes]].concat());
        let mut chance = Chance::new(1);
        for _ in 0..100_000 {
            let mut damaged = whole.clone();
            for _ in 0..3 {
                let [at, value, ..] = chance.number().to_be_bytes();
                let options = &mut damaged[28 + 240..];
                let at = usize::from(at) % options.len();
                options[at] = value;
            }
            if let Some(answer) = Answer::read(&damaged) {
                answer.lease(SERVER_MAC, Moment::MAX / 2);
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_no_answer() {
        let whole = packet(Kind::Ack, 1, &PLAIN);
        assert!(Answer::read(&whole).is_some());
        for len in 0..28 + 240 {
            assert_eq!(Answer::read(&whole[..len]), None, "{len}");
        }
        for at in [9, 10, 20 + 3, 28, 28 + 236] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            assert_eq!(Answer::read(&damaged), None, "{at}");
        }
    }
}
