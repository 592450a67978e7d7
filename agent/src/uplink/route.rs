//! The classless routes of an answer (RFC 3442): a prefix in as few bytes as it needs, a router.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::plan::lease::LeaseRoute;

/// Reads the option; `None` if it is damaged, which counts as not given.
pub(super) fn classless(mut bytes: &[u8]) -> Option<Vec<LeaseRoute>> {
    let mut routes = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let given = usize::from(*len).div_ceil(8);
        let (network, rest) = rest.split_at_checked(given)?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut address = [0; 4];
        address.get_mut(..given)?.copy_from_slice(network);
        let prefix = Ipv4Net::new(address.into(), *len).ok()?.trunc();
        let router = Ipv4Addr::from(*router);
        routes.push(LeaseRoute {
            prefix,
            via: (!router.is_unspecified()).then_some(router),
        });
        bytes = rest;
    }
    (!routes.is_empty()).then_some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, via: Option<[u8; 4]>) -> LeaseRoute {
        LeaseRoute {
            prefix: prefix.parse().unwrap(),
            via: via.map(Ipv4Addr::from),
        }
    }

    /// The descriptors are those of RFC 3442, page 4.
    #[test]
    fn prefixes_take_as_many_bytes_as_they_need() {
        let via = [192, 0, 2, 1];
        let mut bytes = Vec::new();
        for descriptor in [
            &[0][..],
            &[8, 10],
            &[24, 10, 0, 0],
            &[16, 10, 17],
            &[24, 10, 27, 129],
            &[25, 10, 229, 0, 128],
            &[32, 10, 198, 122, 47],
        ] {
            bytes.extend(descriptor);
            bytes.extend(via);
        }

        let prefixes = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/24",
            "10.17.0.0/16",
            "10.27.129.0/24",
            "10.229.0.128/25",
            "10.198.122.47/32",
        ];
        let routes = prefixes.map(|prefix| route(prefix, Some(via)));
        assert_eq!(classless(&bytes), Some(routes.to_vec()));
    }

    #[test]
    fn router_of_zeros_is_the_network_itself() {
        let routes = classless(&[16, 169, 254, 0, 0, 0, 0]);

        assert_eq!(routes, Some(vec![route("169.254.0.0/16", None)]));
    }

    #[test]
    fn damaged_option_is_none() {
        for bytes in [
            &[][..],
            &[33, 1, 2, 3, 4, 5, 1, 2, 3, 4],
            &[24, 10, 0],
            &[0, 1, 2, 3],
        ] {
            assert_eq!(classless(bytes), None, "{bytes:?}");
        }
    }
}
