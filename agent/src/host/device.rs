//! Devices that the file names: what they are, and which addresses they have.
//!
//! They are somebody else's, save for the addresses that we gave them: nothing here changes them. What must be known of a device decides
//! whether programs can be attached to it and which source addresses its packets get.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::LinkLayerType;

use super::address::Address;
use super::link::Properties;
use crate::plan::object::{DeviceFacts, DeviceKind};

/// Describes those links of a namespace that have one of these names.
pub fn facts(
    names: &[String],
    links: &[Properties],
    addresses: &[Address],
) -> BTreeMap<String, DeviceFacts> {
    let named = links.iter().filter(|link| names.contains(&link.name));
    named
        .map(|link| (link.name.clone(), describe(link, links, addresses)))
        .collect()
}

fn describe(link: &Properties, links: &[Properties], addresses: &[Address]) -> DeviceFacts {
    let master = links.iter().find(|other| Some(other.index) == link.master);
    let of_link = addresses
        .iter()
        .filter(|address| address.link == link.index);
    let (ours, own): (Vec<_>, Vec<_>) = of_link.partition(|address| address.ours);
    DeviceFacts {
        mac: link.mac,
        kind: kind(link.layer),
        master: master.map(|master| master.name.clone()),
        addresses4: sources(&own, |address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }),
        addresses6: sources(&own, |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }),
        own: ours.iter().map(|address| address.address).collect(),
        mtu: link.mtu,
        max_mtu: link.max_mtu,
        up: link.up,
    }
}

fn kind(layer: LinkLayerType) -> DeviceKind {
    if layer == LinkLayerType::Ether {
        DeviceKind::Ethernet
    } else if layer == LinkLayerType::Loopback {
        DeviceKind::Loopback
    } else {
        DeviceKind::NoEthernetHeader
    }
}

/// Returns the addresses of one family that others can answer to, the best one first.
fn sources<A>(addresses: &[&Address], of_family: impl Fn(IpAddr) -> Option<A>) -> Vec<A> {
    let mut usable: Vec<(_, A)> = addresses
        .iter()
        .filter(|address| is_usable(address))
        .filter_map(|address| Some((rank(address), of_family(address.address.addr())?)))
        .collect();
    usable.sort_by_key(|(rank, _)| *rank);
    usable.into_iter().map(|(_, address)| address).collect()
}

fn is_usable(address: &Address) -> bool {
    let of_no_use = match address.address.addr() {
        // A secondary one is as good, though not the first choice.
        IpAddr::V4(_) => AddressFlags::Dadfailed,
        // What is secondary there is temporary: it changes from day to day.
        IpAddr::V6(_) => {
            AddressFlags::Secondary
                | AddressFlags::Deprecated
                | AddressFlags::Tentative
                | AddressFlags::Dadfailed
        }
    };
    address.is_global && !address.flags.intersects(of_no_use)
}

/// Sorts worse addresses behind better ones; of equal ones the kernel's first stays so.
fn rank(address: &Address) -> (bool, bool) {
    let flags = address.flags;
    match address.address.addr() {
        IpAddr::V4(_) => (
            flags.contains(AddressFlags::Deprecated),
            flags.contains(AddressFlags::Secondary),
        ),
        // What is translated goes to the outside, where a unique local address has no answer.
        // What somebody configured outlives what routers advertised.
        IpAddr::V6(address) => (
            is_unique_local(address),
            !flags.contains(AddressFlags::Permanent),
        ),
    }
}

fn is_unique_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xfe00 == 0xfc00
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, flags: AddressFlags) -> Address {
        Address {
            link: 2,
            address: text.parse().unwrap(),
            ours: false,
            flags,
            is_global: true,
            valid_secs: None,
        }
    }

    fn order(addresses: &[Address]) -> Vec<String> {
        let link = Properties {
            index: 2,
            ..Properties::default()
        };
        let facts = describe(&link, &[], addresses);
        let of4 = facts.addresses4.iter().map(ToString::to_string);
        of4.chain(facts.addresses6.iter().map(ToString::to_string))
            .collect()
    }

    #[test]
    fn secondary_address_comes_last() {
        let addresses = [
            address(
                "192.0.2.2/24",
                AddressFlags::Secondary | AddressFlags::Permanent,
            ),
            address("192.0.2.1/24", AddressFlags::Permanent),
            address("198.51.100.1/24", AddressFlags::Permanent),
        ];

        assert_eq!(
            order(&addresses),
            ["192.0.2.1", "198.51.100.1", "192.0.2.2"]
        );
    }

    #[test]
    fn address_of_ours_is_not_one_of_others() {
        let mut lent = address("192.0.2.7/24", AddressFlags::empty());
        lent.ours = true;
        let link = Properties {
            index: 2,
            ..Properties::default()
        };

        let facts = describe(&link, &[], &[lent]);

        assert!(facts.addresses4.is_empty());
        assert_eq!(facts.own, ["192.0.2.7/24".parse().unwrap()]);
    }

    #[test]
    fn address_that_comes_and_goes_is_no_source() {
        let addresses = [
            address("2001:db8::1/64", AddressFlags::Secondary),
            address("2001:db8::2/64", AddressFlags::Deprecated),
            address("2001:db8::3/64", AddressFlags::Tentative),
            address("2001:db8::4/64", AddressFlags::Dadfailed),
            address("fd00::5/64", AddressFlags::Permanent),
            address("2001:db8::6/64", AddressFlags::Managetempaddr),
            address("2001:db8::7/64", AddressFlags::Permanent),
        ];

        assert_eq!(order(&addresses), ["2001:db8::7", "2001:db8::6", "fd00::5"]);
    }

    #[test]
    fn only_links_with_frames_are_ethernet() {
        assert_eq!(kind(LinkLayerType::Ether), DeviceKind::Ethernet);
        assert_eq!(kind(LinkLayerType::Loopback), DeviceKind::Loopback);
        for layer in [LinkLayerType::None, LinkLayerType::Ppp, LinkLayerType::Sit] {
            assert_eq!(kind(layer), DeviceKind::NoEthernetHeader, "{layer:?}");
        }
    }
}
