//! Names and MAC addresses of links.
//!
//! Both derive from names only, so that a restart finds its links again and a new endpoint
//! changes nothing for the others.

use sha2::{Digest as _, Sha256};

use crate::plan::object::Mac;

/// Longest name of a link (`IFNAMSIZ` of Linux without the zero byte).
const LINK_NAME_MAX: usize = 15;

/// What the name of every host-side link begins with.
const PREFIX: &str = "lxc";

/// Bytes of a digest in the name of a link whose endpoint's name is too long.
const DIGEST_LEN: usize = 6;

/// Returns the name of the host-side link of an endpoint.
pub fn link_name(endpoint: &str) -> String {
    if PREFIX.len() + endpoint.len() <= LINK_NAME_MAX {
        return format!("{PREFIX}{endpoint}");
    }
    let digest = Sha256::digest(endpoint);
    format!("{PREFIX}{}", hex::encode(&digest[..DIGEST_LEN]))
}

/// Returns the address of a link that plays a role for a name, on a node: locally administered
/// (bit 1 of the first byte) and unicast (bit 0).
pub fn mac(node: &str, role: &str, name: &str) -> Mac {
    // Names contain no zero byte, so different triples give different texts.
    let digest = Sha256::digest(format!("{node}\0{role}\0{name}"));
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    bytes[0] = (bytes[0] & 0xfc) | 0x02;
    Mac(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_readable_in_the_link_name() {
        assert_eq!(link_name("web"), "lxcweb");
        assert_eq!(link_name("twelve-chars"), "lxctwelve-chars");
    }

    #[test]
    fn long_names_become_digits_of_their_digest() {
        // printf thirteen-char | sha256sum
        assert_eq!(link_name("thirteen-char"), "lxc3adc6cba4867");
        assert_eq!(link_name(&"a".repeat(63)).len(), LINK_NAME_MAX);
    }

    #[test]
    fn addresses_are_local_and_unicast_and_differ_by_role() {
        let one = mac("edge-1", "lxc", "web");

        assert_eq!(one.0[0] & 0x03, 0x02);
        assert_ne!(one, mac("edge-1", "eth0", "web"));
        assert_ne!(one, mac("edge-2", "lxc", "web"));
        assert_ne!(one, mac("edge-1", "lxc", "db"));
    }
}
