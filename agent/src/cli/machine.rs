//! What `init` needs to know about the machine that it runs on. It only reads.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Holds the facts that a first file depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub hostname: String,
    /// Addresses of all links, with the lengths of their networks.
    pub addresses: Vec<IpNet>,
    /// Destinations of the routes.
    pub routes: Vec<IpNet>,
    /// The Ethernet device of the default route.
    pub device: Option<String>,
}

impl Machine {
    /// Reads the facts from the kernel.
    ///
    /// # Errors
    /// If the addresses cannot be listed.
    pub fn read() -> io::Result<Self> {
        Ok(Self {
            hostname: hostname().unwrap_or_default(),
            addresses: getifaddrs()?
                .filter_map(|link| prefix(ip(&link.address?)?, ip(&link.netmask?)?))
                .collect(),
            routes: routes(),
            device: default_device().filter(|device| is_ethernet(device)),
        })
    }
}

/// Returns the machine's name.
pub fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

fn prefix(address: IpAddr, mask: IpAddr) -> Option<IpNet> {
    IpNet::with_netmask(address, mask).ok()
}

/// A family that the kernel does not have has no routes.
fn routes() -> Vec<IpNet> {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    let (v4, v6) = (table("/proc/net/route"), table("/proc/net/ipv6_route"));
    let v4 = v4.lines().filter_map(route4);
    v4.chain(v6.lines().filter_map(route6)).collect()
}

/// Returns the device of the default route, that of IPv4 if there is one.
fn default_device() -> Option<String> {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    let is_default = |prefix: Option<IpNet>| prefix.is_some_and(|net| net.prefix_len() == 0);
    let (v4, v6) = (table("/proc/net/route"), table("/proc/net/ipv6_route"));
    let v4 = v4.lines().filter(|line| is_default(route4(line)));
    let v6 = v6.lines().filter(|line| is_default(route6(line)));
    let first_word = v4.filter_map(|line| line.split_whitespace().next());
    // IPv6 has an unreachable default route on `lo`.
    let last_word = v6.filter_map(|line| line.split_whitespace().next_back());
    let mut devices = first_word.chain(last_word).filter(|device| *device != "lo");
    devices.next().map(str::to_owned)
}

/// Tells whether packets of a device have an Ethernet header (`ARPHRD_ETHER`).
fn is_ethernet(device: &str) -> bool {
    let kind = fs::read_to_string(format!("/sys/class/net/{device}/type"));
    kind.is_ok_and(|kind| kind.trim() == "1")
}

/// Reads a line of `/proc/net/route`: the second and the eighth word are destination and mask,
/// as hexadecimal numbers in the byte order of the machine.
fn route4(line: &str) -> Option<IpNet> {
    let words: Vec<_> = line.split_whitespace().collect();
    let address = |word: &str| {
        let number = u32::from_str_radix(word, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    prefix(
        address(words.get(1)?)?.into(),
        address(words.get(7)?)?.into(),
    )
}

/// Reads a line of `/proc/net/ipv6_route`: destination and length come first, in hexadecimal.
fn route6(line: &str) -> Option<IpNet> {
    let mut words = line.split_whitespace();
    let address = u128::from_str_radix(words.next()?, 16).ok()?;
    let len = u8::from_str_radix(words.next()?, 16).ok()?;
    IpNet::new(Ipv6Addr::from(address).into(), len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_tables_of_proc_are_understood() {
        let line = if cfg!(target_endian = "little") {
            "eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0"
        } else {
            "eth0 C0000200 00000000 0001 0 0 0 FFFFFF00 0 0 0"
        };
        assert_eq!(route4(line), "192.0.2.0/24".parse().ok());
        assert_eq!(
            route4("Iface Destination Gateway Flags RefCnt Use Metric Mask"),
            None
        );
        assert_eq!(
            route6("fd000001000000000000000000000000 40 0 00 0 00000100 0 0 1 eth0"),
            "fd00:1::/64".parse().ok()
        );
    }
}
