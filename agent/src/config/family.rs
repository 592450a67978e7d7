//! IPv4 and IPv6, where the rules for both are the same but for numbers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Names a family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Returns the key that holds a value of this family.
    pub fn key(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// Returns the bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Returns the longest prefix with room for the network address, the router, one endpoint
    /// and, in IPv4, the broadcast address.
    pub fn longest_prefix(self) -> u8 {
        self.bits() - 2
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Returns an address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Returns the address that comes `steps` after the first of a prefix, or `None` if that is
/// outside.
pub fn nth(prefix: IpNet, steps: u128) -> Option<IpAddr> {
    let sum = number(prefix.network()).checked_add(steps)?;
    let address = match prefix {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(sum).ok()?)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(sum)),
    };
    prefix.contains(&address).then_some(address)
}

/// Returns the router's address: the first one after the network's own.
pub fn router(prefix: IpNet) -> Option<IpAddr> {
    nth(prefix, 1)
}

/// Returns the highest address that an endpoint may have.
pub fn last_usable(prefix: IpNet) -> u128 {
    match prefix {
        IpNet::V4(prefix) => u128::from(u32::from(prefix.broadcast())).saturating_sub(1),
        IpNet::V6(prefix) => u128::from(prefix.broadcast()),
    }
}

/// Returns how many endpoints a prefix has room for, beside the router.
pub fn capacity(prefix: IpNet) -> u128 {
    // The network's own address and the router's are the first two.
    last_usable(prefix)
        .saturating_sub(number(prefix.network()))
        .saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn the_router_has_the_first_address() {
        assert_eq!(router(net("10.0.1.0/24")), "10.0.1.1".parse().ok());
        assert_eq!(router(net("fd00:1::/64")), "fd00:1::1".parse().ok());
        assert_eq!(router(net("10.0.1.0/32")), None);
    }

    #[test]
    fn room_is_what_is_left_beside_network_broadcast_and_router() {
        assert_eq!(capacity(net("10.0.1.0/24")), 253);
        assert_eq!(capacity(net("10.0.1.0/30")), 1);
        assert_eq!(capacity(net("10.0.1.0/31")), 0);
        assert_eq!(capacity(net("fd00::/126")), 2);
        assert_eq!(
            capacity(net("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126")),
            2
        );
    }
}
