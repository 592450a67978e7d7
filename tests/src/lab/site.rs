//! Addresses of everybody in the world of a gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::party::Family;

pub const C1: Site = Site::new([10, 9, 0, 11], [0xfd00, 9, 0, 0x11]);
pub const C2: Site = Site::new([10, 9, 0, 12], [0xfd00, 9, 0, 0x12]);
/// The node, as its endpoints see it.
pub const ROUTER: Site = Site::new([10, 9, 0, 1], [0xfd00, 9, 0, 1]);
/// The node, as the world sees it.
pub const UPLINK: Site = Site::new([203, 0, 113, 2], [0x2001, 0xdb8, 1, 2]);
/// The node's other addresses on the same link.
pub const UPLINK_TOO: Site = Site::new([203, 0, 113, 3], [0x2001, 0xdb8, 1, 3]);
pub const X: Site = Site::new([203, 0, 113, 1], [0x2001, 0xdb8, 1, 1]);
pub const ATTACKER: Site = Site::new([203, 0, 113, 66], [0x2001, 0xdb8, 1, 0x66]);
pub const S1: Site = Site::new([198, 51, 100, 1], [0x2001, 0xdb8, 0x51, 1]);
/// The other address of `s1`.
pub const S1_TOO: Site = Site::new([198, 51, 100, 2], [0x2001, 0xdb8, 0x51, 2]);
pub const S2: Site = Site::new([198, 51, 100, 129], [0x2001, 0xdb8, 0x52, 0x129]);

/// Is the addresses of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Site {
    const fn new(v4: [u8; 4], [a, b, c, last]: [u16; 4]) -> Self {
        let [first, second, third, fourth] = v4;
        Self {
            v4: Ipv4Addr::new(first, second, third, fourth),
            v6: Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last),
        }
    }

    pub fn ip(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    pub fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    pub(super) fn has(self, address: IpAddr) -> bool {
        address == self.v4 || address == self.v6
    }
}

/// Returns the family of an address.
pub fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}
