//! What nobody announces of a node's surroundings, as a number that changes with it.
//!
//! A look at everything costs milliseconds. Most of what it sees is announced when it changes; of
//! the rest, this takes what a change would show in: values of sysctls, the generation of
//! nftables, the rules of legacy iptables without their counters, policies of xfrm. Elements that
//! packets add to sets of nftables do not show.

use std::hash::{Hash as _, Hasher};

use super::error::Result;
use super::surroundings::SYSCTLS;
use super::{firewall, ipsec, sysctl};

/// Adds the surroundings of a node, and these sysctls, to a number.
///
/// # Errors
/// When the kernel refuses.
pub fn take<'a>(
    sysctls: impl IntoIterator<Item = &'a str>,
    hasher: &mut impl Hasher,
) -> Result<()> {
    for path in sysctls.into_iter().chain(SYSCTLS) {
        sysctl::read(path)?.hash(hasher);
    }
    firewall::take(hasher)?;
    ipsec::take(hasher)
}
