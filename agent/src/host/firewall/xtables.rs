//! Matches and targets of iptables, which nftables carries along when iptables stores its rules
//! there, and legacy tables hold by themselves.

use super::ruleset::{Condition, Effect};
use crate::host::raw::Attributes;

/// Attributes of a match or target inside of nftables.
const NAME: u16 = 1;
const REVISION: u16 = 2;
const INFO: u16 = 3;

/// The bit of `RTN_LOCAL` in the match `addrtype`.
const LOCAL_BIT: u16 = 1 << super::register::KIND_LOCAL;

/// Reads a match that nftables carries.
pub(super) fn match_of(data: Attributes<'_>) -> Option<Condition> {
    let name = data.text(NAME)?;
    condition(
        &name,
        data.be32(REVISION).unwrap_or_default(),
        data.get(INFO).unwrap_or_default(),
    )
}

/// Reads a target that nftables carries.
pub(super) fn target_of(data: Attributes<'_>) -> Effect {
    effect(&data.text(NAME).unwrap_or_default())
}

/// Returns what a match asks for; `None` if it asks for nothing.
pub(super) fn condition(name: &str, revision: u32, info: &[u8]) -> Option<Condition> {
    match name {
        "comment" => None,
        "addrtype" if is_local_destination(revision, info) => Some(Condition::LocalDestination),
        _ => Some(Condition::Other(format!("-m {name}"))),
    }
}

/// Returns what a target does.
pub(super) fn effect(name: &str) -> Effect {
    if name == "REJECT" {
        Effect::Drop(name.into())
    } else {
        Effect::Other(name.into())
    }
}

/// Tells whether `addrtype` asks for a local destination only.
fn is_local_destination(revision: u32, info: &[u8]) -> bool {
    let (kinds, flags) = info.split_at(info.len().min(4));
    let half = |at: usize| Some(u16::from_ne_bytes([*kinds.get(at)?, *kinds.get(at + 1)?]));
    // Of revision 0 the flags are two words; of later ones a bit in one, whose others only
    // narrow the match down further.
    let inverted_at = if revision == 0 { 4 } else { 0 };
    let inverted = if revision == 0 { u8::MAX } else { 0b10 };
    let is_inverted = flags
        .get(inverted_at)
        .is_none_or(|flags| flags & inverted != 0);
    half(0) == Some(0) && half(2) == Some(LOCAL_BIT) && !is_inverted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destination_of_the_host_is_told_from_others() {
        let local = [0, 0, 4, 0, 0, 0, 0, 0];
        let not_local = [0, 0, 4, 0, 2, 0, 0, 0];

        assert_eq!(
            condition("addrtype", 1, &local),
            Some(Condition::LocalDestination)
        );
        assert_ne!(
            condition("addrtype", 1, &not_local),
            Some(Condition::LocalDestination)
        );
        assert_ne!(
            condition("addrtype", 1, &[]),
            Some(Condition::LocalDestination)
        );
    }
}
