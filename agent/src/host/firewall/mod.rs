//! The firewall of this host, as far as it concerns packets between endpoints and elsewhere.
//!
//! BPF host routing hands packets from one device to another below netfilter: whatever a chain
//! of the forward path would do to them is bypassed. Legacy host routing goes through it: a
//! chain that drops what it does not know drops endpoints' packets. Both questions have one
//! answer, found by walking the chains with each [`flow::Flow`] that the node can have.
//!
//! Read-only: dumps of nftables, and of the legacy tables of iptables that exist already.
//! Nothing here ever edits somebody's firewall.
//!
//! Looked at: the hooks prerouting, forward and postrouting of the families ip, ip6 and inet,
//! and the ingress and egress of devices. Not looked at: input and output, which packets for
//! the host itself pass in either mode, and the family bridge, whose hooks lie below a bridge
//! that is a device of ours.
//!
//! # Layout
//! - [`ruleset`]: chains, rules, conditions and effects, whoever wrote them
//! - [`flow`]: which packets are ours, and whether a condition can match them
//! - [`walk`]: what a flow meets on its way through a chain
//! - `text`: chains and rules in the words of their tools
//! - [`nftables`]: the chains of nftables; `expression` reads its rules, `register` what
//!   they compare, `set` their sets
//! - [`iptables`]: the chains of legacy iptables, through `sockopt`
//! - `xtables`: the matches and targets that both know
//! - [`bypass`]: what BPF host routing keeps from the firewall
//! - [`blind`]: rules that never meet the packets that they look for
//! - [`nat`]: who else translates sources on our devices
//! - [`flowtable`]: what carries packets past all of that
//! - [`cure`]: the commands that let endpoints' packets through

pub mod blind;
pub mod bypass;
pub mod cure;
mod expression;
pub mod flow;
pub mod flowtable;
pub mod iptables;
pub mod nat;
pub mod nftables;
mod register;
pub mod ruleset;
mod set;
mod sockopt;
mod text;
pub mod walk;
mod xtables;

pub use flow::{Flow, Traffic};
pub use ruleset::{Chain, Ruleset};

use std::hash::{Hash as _, Hasher};

use super::error::Result;

/// Reads all chains that a packet can meet.
///
/// # Errors
/// When the kernel refuses.
pub fn dump() -> Result<Ruleset> {
    let mut chains = nftables::dump()?;
    chains.extend(iptables::dump()?);
    Ok(Ruleset { chains })
}

/// Adds to a number what changes whenever chains do.
///
/// # Errors
/// When the kernel refuses.
pub fn take(hasher: &mut impl Hasher) -> Result<()> {
    nftables::generation()?.hash(hasher);
    iptables::take(hasher)
}
