//! Sets and verdict maps of nftables, as far as their elements are names or addresses.
//!
//! Read are anonymous sets and those of link names. The elements of a named set of addresses
//! may be a hundred thousand, and may change at any moment: it counts as unknown.

use std::net::IpAddr;

use super::expression::verdict;
use super::ruleset::{Effect, Span};
use crate::host::raw::{Attributes, text};

/// Set attributes.
const TABLE: u16 = 1;
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const DATA_TYPE: u16 = 6;

/// Set flags.
const ANONYMOUS: u32 = 1;
const INTERVAL: u32 = 4;
const CONCATENATED: u32 = 0x80;

/// Types of keys, by which `nft` tells what bytes mean.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_LINK_NAME: u32 = 41;

/// The type of data that is a verdict (`NFT_DATA_VERDICT`).
const DATA_VERDICT: u32 = 0xffff_ff00;

/// Element attributes.
const ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;

/// Element flags.
const INTERVAL_END: u32 = 1;

/// The attribute inside a key that holds its bytes.
const VALUE: u16 = 1;

/// Is a set that a rule may look something up in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) name: String,
    is_interval: bool,
    /// Whether its elements shall be read.
    pub(super) is_readable: bool,
    pub(super) elements: Vec<Element>,
}

/// Is an element of a set, or a mark where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    ends: bool,
    pub(super) verdict: Option<Effect>,
}

impl Set {
    /// Reads the description of a set, without its elements.
    pub(super) fn read(family: u8, attributes: Attributes<'_>) -> Option<Self> {
        let flags = attributes.be32(FLAGS).unwrap_or_default();
        let key_type = attributes.be32(KEY_TYPE).unwrap_or_default();
        let is_anonymous = flags & ANONYMOUS != 0;
        let of_addresses = [TYPE_IPV4, TYPE_IPV6].contains(&key_type);
        let of_verdicts = attributes.be32(DATA_TYPE) == Some(DATA_VERDICT);
        let is_wanted = key_type == TYPE_LINK_NAME || of_verdicts || of_addresses && is_anonymous;
        Some(Self {
            family,
            table: attributes.text(TABLE)?,
            name: attributes.text(NAME)?,
            is_interval: flags & INTERVAL != 0,
            is_readable: is_wanted && flags & CONCATENATED == 0,
            elements: Vec::new(),
        })
    }

    /// Takes the elements of one part of a dump; the kernel's order is that of a hash.
    pub(super) fn take(&mut self, attributes: Attributes<'_>) {
        for (kind, element) in attributes.nested(ELEMENTS).iter() {
            let element = Attributes(element);
            if kind != ELEMENT {
                continue;
            }
            // The element for everything else has no key.
            let key = element.nested(ELEMENT_KEY).get(VALUE).unwrap_or_default();
            self.elements.push(Element {
                key: key.to_vec(),
                ends: element.be32(ELEMENT_FLAGS).unwrap_or_default() & INTERVAL_END != 0,
                verdict: verdict(element.nested(ELEMENT_DATA)),
            });
        }
        // Where one interval ends and the next begins, the end comes first.
        let place = |element: &Element| (element.key.clone(), !element.ends);
        self.elements.sort_by_cached_key(place);
    }

    /// Returns the elements as names of links, if they are plain names.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        let plain = self.is_readable && !self.is_interval;
        plain.then(|| {
            self.elements
                .iter()
                .map(|element| text(&element.key))
                .collect()
        })
    }

    /// Returns the elements as addresses.
    pub(super) fn spans(&self) -> Option<Vec<Span>> {
        if !self.is_readable {
            return None;
        }
        let mut spans = Vec::new();
        let mut elements = self.elements.iter().peekable();
        while let Some(element) = elements.next() {
            if element.ends {
                continue;
            }
            let first = address(&element.key)?;
            let last = match elements.peek() {
                _ if !self.is_interval => first,
                Some(end) if end.ends => before(address(&end.key)?),
                _ => address(&vec![0xff; element.key.len()])?,
            };
            spans.push(Span { first, last });
        }
        Some(spans)
    }
}

/// Reads an address of either family.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let of4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    of4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(address.to_bits().saturating_sub(1).into()),
        IpAddr::V6(address) => IpAddr::V6(address.to_bits().saturating_sub(1).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(key: [u8; 4], ends: bool) -> Element {
        Element {
            key: key.to_vec(),
            ends,
            verdict: None,
        }
    }

    #[test]
    fn intervals_that_touch_stay_apart() {
        let set = Set {
            is_interval: true,
            is_readable: true,
            elements: vec![
                element([10, 0, 0, 0], false),
                element([10, 1, 0, 0], true),
                element([10, 1, 0, 0], false),
                element([10, 2, 0, 0], true),
                element([240, 0, 0, 0], false),
            ],
            ..Set::default()
        };

        let spans: Vec<String> = set
            .spans()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();

        assert_eq!(spans, ["10.0.0.0/16", "10.1.0.0/16", "240.0.0.0/4"]);
    }
}
