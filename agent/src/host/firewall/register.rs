//! What a register of an nftables rule holds, and what a comparison of it means.

use nix::net::if_::if_indextoname;

use super::ruleset::{Condition, Names, Span, Spans};
use super::set::{Set, address};
use crate::host::raw::text;

/// Space for a link's name in the kernel; a comparison of fewer bytes is one of a beginning.
const NAME_LEN: usize = 16;

/// `RTN_LOCAL`, the kind of an address that is this host's.
pub(super) const KIND_LOCAL: u32 = 2;

/// Is what a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    Name {
        incoming: bool,
    },
    Index {
        incoming: bool,
    },
    /// An address, or its leading bytes, under a mask if there is one.
    Address {
        source: bool,
        version6: bool,
        mask: Vec<u8>,
    },
    /// The version of IP as a number of a family, or as an Ethernet protocol.
    Version,
    /// A value that the rule itself holds.
    Value(Vec<u8>),
    /// What kind of address the destination is.
    DestinationKind,
    /// Something that is not followed.
    Other(String),
}

impl Loaded {
    /// Returns what it means that the register equals (or not) a value.
    pub(super) fn compared(&self, inverted: bool, value: &[u8]) -> Condition {
        match self {
            Self::Name { incoming } => {
                let name = text(value);
                let rest = if value.len() < NAME_LEN { "*" } else { "" };
                names(*incoming, vec![format!("{name}{rest}")], inverted)
            }
            Self::Index { incoming } => match number(value).map(if_indextoname) {
                Some(Ok(name)) => {
                    let name = name.to_string_lossy().into_owned();
                    names(*incoming, vec![name], inverted)
                }
                // A link that is gone: nothing comes from there.
                _ => names(*incoming, Vec::new(), inverted),
            },
            Self::Address { .. } => self.ranged(inverted, value, value),
            Self::Version => version(value, inverted),
            Self::Value(_) => Condition::Other("immediate …".into()),
            Self::DestinationKind if !inverted && number(value) == Some(KIND_LOCAL) => {
                Condition::LocalDestination
            }
            Self::DestinationKind => Condition::Other("fib daddr type …".into()),
            Self::Other(word) => Condition::Other(format!("{word} …")),
        }
    }

    /// Returns what it means that the register is (or not) between two values.
    pub(super) fn ranged(&self, inverted: bool, first: &[u8], last: &[u8]) -> Condition {
        let span = if let Self::Address { version6, mask, .. } = self {
            let len = if *version6 { 16 } else { 4 };
            span(first, last, mask, len)
        } else {
            None
        };
        self.within(inverted, span.map(|span| vec![span]))
    }

    /// Returns what it means that the register is at least, or at most, a value.
    pub(super) fn bounded(&self, at_least: bool, value: &[u8]) -> Condition {
        let bound = if at_least { 0xff } else { 0 };
        let bound = vec![bound; value.len()];
        if at_least {
            self.ranged(false, value, &bound)
        } else {
            self.ranged(false, &bound, value)
        }
    }

    /// Returns what it means that the register is one of these addresses, if they are known.
    pub(super) fn within(&self, inverted: bool, spans: Option<Vec<Span>>) -> Condition {
        let (Self::Address { source, .. }, Some(spans)) = (self, spans) else {
            return Condition::Other(format!("{} …", self.word()));
        };
        let spans = Spans { spans, inverted };
        if *source {
            Condition::Source(spans)
        } else {
            Condition::Destination(spans)
        }
    }

    /// Returns what it means that the register is in a set.
    pub(super) fn among(&self, inverted: bool, set: &Set) -> Condition {
        if let (Self::Name { incoming }, Some(patterns)) = (self, set.names()) {
            names(*incoming, patterns, inverted)
        } else {
            self.within(inverted, set.spans())
        }
    }

    /// Returns the same under a mask, if it is an address.
    pub(super) fn masked(&self, mask: &[u8]) -> Option<Self> {
        if let Self::Address {
            source, version6, ..
        } = self
        {
            Some(Self::Address {
                source: *source,
                version6: *version6,
                mask: mask.to_vec(),
            })
        } else {
            None
        }
    }

    /// Returns the same without what is known of it.
    pub(super) fn unknown(&self) -> Self {
        Self::Other(self.word().into())
    }

    /// Returns the word for what was loaded.
    fn word(&self) -> &str {
        match self {
            Self::Name { incoming: true } => "iifname",
            Self::Name { incoming: false } => "oifname",
            Self::Index { incoming: true } => "iif",
            Self::Index { incoming: false } => "oif",
            Self::Address { source: true, .. } => "saddr",
            Self::Address { source: false, .. } => "daddr",
            Self::Version => "meta nfproto",
            Self::DestinationKind => "fib daddr type",
            Self::Value(_) => "immediate",
            Self::Other(word) => word,
        }
    }
}

/// Joins the two comparisons that make a range: at least, then at most.
pub(super) fn joined(first: &Condition, second: &Condition) -> Option<Condition> {
    let only = |spans: &Spans| match spans.spans.as_slice() {
        [span] if !spans.inverted => Some(*span),
        _ => None,
    };
    let join = |first: &Spans, second: &Spans| {
        let (low, high) = (only(first)?, only(second)?);
        let spans = vec![Span {
            first: low.first.max(high.first),
            last: low.last.min(high.last),
        }];
        let inverted = false;
        low.overlaps(high).then_some(Spans { spans, inverted })
    };
    if let (Condition::Source(first), Condition::Source(second)) = (first, second) {
        join(first, second).map(Condition::Source)
    } else if let (Condition::Destination(first), Condition::Destination(second)) = (first, second)
    {
        join(first, second).map(Condition::Destination)
    } else {
        None
    }
}

fn names(incoming: bool, patterns: Vec<String>, inverted: bool) -> Condition {
    let names = Names { patterns, inverted };
    if incoming {
        Condition::Incoming(names)
    } else {
        Condition::Outgoing(names)
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn version(value: &[u8], inverted: bool) -> Condition {
    match value {
        [2] | [0x08, 0x00] => Condition::Version6(inverted),
        [10] | [0x86, 0xdd] => Condition::Version6(!inverted),
        _ => Condition::Other("meta protocol …".into()),
    }
}

/// Returns the addresses between two (of which only leading bytes may be given) under a mask;
/// `None` if the mask has holes, or is there for more than one address.
fn span(first: &[u8], last: &[u8], mask: &[u8], len: usize) -> Option<Span> {
    if first.len() > len || first.len() != last.len() {
        return None;
    }
    let mask = if mask.is_empty() {
        vec![0xff; first.len()]
    } else {
        mask.to_vec()
    };
    let is_prefix = mask.windows(2).all(|pair| pair[0] == 0xff || pair[1] == 0)
        && mask
            .iter()
            .all(|byte| byte.leading_ones() + byte.trailing_zeros() >= 8);
    let is_whole = mask.iter().all(|byte| *byte == 0xff) && mask.len() == len;
    if !is_prefix || mask.len() != first.len() || first != last && !is_whole {
        return None;
    }
    let mut low = first.to_vec();
    let mut high: Vec<u8> = last
        .iter()
        .zip(&mask)
        .map(|(byte, mask)| byte | !mask)
        .collect();
    low.resize(len, 0);
    high.resize(len, 0xff);
    Some(Span {
        first: address(&low)?,
        last: address(&high)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(mask: &[u8]) -> Loaded {
        Loaded::Address {
            source: true,
            version6: false,
            mask: mask.to_vec(),
        }
    }

    fn prefix(condition: &Condition) -> String {
        if let Condition::Source(spans) = condition {
            spans.spans[0].to_string()
        } else {
            format!("{condition:?}")
        }
    }

    #[test]
    fn leading_bytes_are_a_prefix() {
        let condition = source(&[]).compared(false, &[10, 1]);

        assert_eq!(prefix(&condition), "10.1.0.0/16");
    }

    #[test]
    fn mask_makes_a_prefix_unless_it_has_holes() {
        let twelve = source(&[0xff, 0xf0, 0, 0]).compared(false, &[172, 16, 0, 0]);
        let odd = source(&[0xff, 0x0f, 0, 0]).compared(false, &[172, 0, 0, 0]);

        assert_eq!(prefix(&twelve), "172.16.0.0/12");
        assert_eq!(odd, Condition::Other("saddr …".into()));
    }

    #[test]
    fn fewer_bytes_than_a_name_has_are_its_beginning() {
        let incoming = Loaded::Name { incoming: true };

        assert_eq!(
            incoming.compared(false, b"docker"),
            names(true, vec!["docker*".into()], false)
        );
        assert_eq!(
            incoming.compared(true, b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"),
            names(true, vec!["eth0".into()], true)
        );
    }
}
