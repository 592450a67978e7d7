//! Netlink messages of families for which there are no types: nftables and xfrm.
//!
//! A message is its kind and its bytes. `firewall` and `ipsec` read the few attributes that
//! they need; nothing is ever sent but requests to read.

use std::convert::Infallible;
use std::fs;

use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

/// Lists the kernel's own netlink sockets among others; of the namespace of the calling thread.
const SOCKETS: &str = "/proc/thread-self/net/netlink";

/// Length of an attribute's header: length and kind.
const HEADER_LEN: usize = 4;

/// What of a kind is not a flag (nested, byte order).
const KIND_MASK: u16 = 0x3fff;

/// Is a message whose payload is not parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    pub kind: u16,
    pub payload: Vec<u8>,
}

impl Raw {
    /// Returns the attributes behind a fixed header of `header_len` bytes.
    pub fn attributes(&self, header_len: usize) -> Attributes<'_> {
        Attributes(self.payload.get(header_len..).unwrap_or_default())
    }

    /// Appends an attribute that holds a string.
    #[must_use]
    pub fn with_text(mut self, kind: u16, text: &str) -> Self {
        let len = u16::try_from(HEADER_LEN + text.len() + 1).unwrap_or(u16::MAX);
        self.payload.extend(len.to_ne_bytes());
        self.payload.extend(kind.to_ne_bytes());
        self.payload.extend(text.as_bytes());
        self.payload.push(0);
        let padded = self.payload.len().next_multiple_of(4);
        self.payload.resize(padded, 0);
        self
    }
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.payload);
    }
}

impl NetlinkDeserializable for Raw {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self {
            kind: header.message_type,
            payload: payload.to_vec(),
        })
    }
}

/// Is a list of attributes; one that is cut off ends it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// Returns kinds and values.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let number = |at: usize| Some(u16::from_ne_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
            let (len, kind) = (usize::from(number(0)?), number(2)?);
            let value = rest.get(HEADER_LEN..len)?;
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((kind & KIND_MASK, value))
        })
    }

    /// Returns the value of the first attribute of a kind.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// Returns the attributes inside of one.
    #[must_use]
    pub fn nested(self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }

    /// Returns a string.
    pub fn text(self, kind: u16) -> Option<String> {
        self.get(kind).map(text)
    }

    /// Returns a number in the order of the network.
    pub fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// Returns a large number in the order of the network.
    pub fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }
}

/// Returns the string in front of the first zero byte.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// Tells whether the kernel serves a netlink family in this namespace. A socket of one that is
/// a module would load it, and reading must change nothing.
pub fn is_served(family: isize) -> bool {
    let sockets = fs::read_to_string(SOCKETS).unwrap_or_default();
    let (family, kernel) = (family.to_string(), "0");
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(family.as_str()) && words.next() == Some(kernel)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_that_was_appended_is_found_behind_another() {
        let message = Raw::default()
            .with_text(1, "filter")
            .with_text(2, "forward");

        let attributes = message.attributes(0);

        assert_eq!(attributes.text(2).as_deref(), Some("forward"));
        assert_eq!(attributes.get(3), None);
    }

    #[test]
    fn attributes_that_are_cut_off_end_the_list() {
        let message = Raw::default().with_text(1, "filter");

        assert_eq!(Attributes(&message.payload[..6]).iter().count(), 0);
        assert_eq!(Attributes(&[]).iter().count(), 0);
    }

    #[test]
    fn rtnetlink_is_served_everywhere() {
        assert!(is_served(0));
        assert!(!is_served(31));
    }
}
