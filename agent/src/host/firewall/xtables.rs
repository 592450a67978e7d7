//! Matches and targets of iptables, which nftables carries along when iptables stores its rules
//! there, and legacy tables hold by themselves.

use super::ruleset::{Condition, Effect, Span};
use super::set::address;
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
pub(super) fn target_of(version6: bool, data: Attributes<'_>) -> Effect {
    effect(
        version6,
        &data.text(NAME).unwrap_or_default(),
        data.be32(REVISION).unwrap_or_default(),
        data.get(INFO).unwrap_or_default(),
    )
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
pub(super) fn effect(version6: bool, name: &str, revision: u32, info: &[u8]) -> Effect {
    match name {
        "REJECT" => Effect::Drop(name.into()),
        "DNAT" => Effect::Translate(translation(version6, revision, info)),
        "SNAT" => source(name, version6, revision == 0 && !version6, info),
        "MASQUERADE" => source(name, version6, !version6, info),
        _ => Effect::Other(name.into()),
    }
}

/// Returns the addresses to which `DNAT` sends packets.
fn translation(version6: bool, revision: u32, info: &[u8]) -> Option<Span> {
    let len = if version6 { 16 } else { 4 };
    // Behind the flags; of revision 0, which knows no IPv6, the number of ranges comes first.
    let (first_at, last_at) = if revision == 0 { (8, 12) } else { (4, 20) };
    let at = |at: usize| address(info.get(at..at + len)?);
    let (first, last) = (at(first_at)?, at(last_at)?);
    Some(Span { first, last })
}

/// Reads a translation of the source. The old layout (`nf_nat_ipv4_multi_range_compat`) is that of
/// IPv4 only: number of ranges, flags, two addresses, two ports; the other one (`nf_nat_range`) has
/// room for addresses of 16 bytes, and no number.
fn source(name: &str, version6: bool, is_old: bool, info: &[u8]) -> Effect {
    const HAS_ADDRESSES: u32 = 1;
    const HAS_PORTS: u32 = 2;
    let (flags_at, first_at, last_at, ports_at) = if is_old {
        (4, 8, 12, 16)
    } else {
        (0, 4, 20, 36)
    };
    let len = if version6 { 16 } else { 4 };
    let flags = info.get(flags_at..).and_then(<[u8]>::first_chunk);
    let flags = flags.copied().map_or(0, u32::from_ne_bytes);
    let ip = |at: usize| address(info.get(at..at + len)?);
    let port = |at: usize| {
        let bytes = info.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    };
    let to = ip(first_at).zip(ip(last_at));
    let ports = port(ports_at).zip(port(ports_at + 2));
    Effect::TranslateSource {
        word: name.into(),
        to: to
            .filter(|_| flags & HAS_ADDRESSES != 0)
            .map(|(first, last)| Span { first, last }),
        ports: ports.filter(|_| flags & HAS_PORTS != 0),
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

    #[test]
    fn destination_of_a_translation_is_read() {
        let info = [
            &[1, 0, 0, 0, 172, 17, 0, 2][..],
            &[0; 12],
            &[172, 17, 0, 3],
            &[0; 16],
        ]
        .concat();

        let Effect::Translate(Some(span)) = effect(false, "DNAT", 2, &info) else {
            panic!("should be a translation");
        };
        assert_eq!(span.to_string(), "172.17.0.2/31");
        assert_eq!(effect(false, "DNAT", 2, &[]), Effect::Translate(None));
    }
}
