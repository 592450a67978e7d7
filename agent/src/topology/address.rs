//! Addresses of endpoints that ask for none: the lowest free ones, in the order of the file.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::family::{last_usable, nth, number};

/// Gives every endpoint of a node an address of one prefix: its own where it asked for one.
///
/// The result has one entry for each request; `None` means that the prefix is full.
pub(super) fn assign(prefix: IpNet, requests: &[Option<IpAddr>]) -> Vec<Option<IpAddr>> {
    let taken: BTreeSet<IpAddr> = requests.iter().flatten().copied().collect();
    let last = last_usable(prefix);
    // The network's own address and the router's come first.
    let mut free = (2..)
        .map_while(|steps| nth(prefix, steps))
        .take_while(|address| number(*address) <= last)
        .filter(|address| !taken.contains(address));
    requests
        .iter()
        .map(|request| request.or_else(|| free.next()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_lowest_free_addresses_go_round_in_file_order() {
        let prefix = "10.0.1.0/24".parse().expect("a prefix");

        let addresses = assign(
            prefix,
            &[None, Some(ip("10.0.1.3")), None, Some(ip("10.0.1.2"))],
        );

        let expected = ["10.0.1.4", "10.0.1.3", "10.0.1.5", "10.0.1.2"];
        assert_eq!(addresses, expected.map(|text| Some(ip(text))));
    }

    #[test]
    fn the_broadcast_address_is_given_to_nobody() {
        let prefix = "10.0.1.0/30".parse().expect("a prefix");

        assert_eq!(assign(prefix, &[None, None]), [Some(ip("10.0.1.2")), None]);
    }

    #[test]
    fn ipv6_has_no_broadcast_address() {
        let prefix = "fd00::/126".parse().expect("a prefix");

        let addresses = assign(prefix, &[None, None, None]);

        assert_eq!(addresses, [Some(ip("fd00::2")), Some(ip("fd00::3")), None]);
    }
}
