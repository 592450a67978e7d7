//! How many bindings a node has room for, and what one endpoint may have of that.

use crate::plan::object::{Filtering, Mapping};

/// Fewest entries of the tables of bindings, where the file gives none.
pub(super) const ENTRIES_MIN: u32 = 32_768;

/// Tells how many bindings of each family a node has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Entries of the table.
    pub(super) entries: u32,
    /// Most bindings at once.
    bindings: u32,
}

impl Room {
    /// Measures the room that a range of ports gives, with a table of so many entries if the file
    /// says that.
    ///
    /// A binding is two entries. With endpoint-independent mapping each has a port of its own;
    /// where only those may answer who were spoken to, each of them is an entry as well, and there
    /// is room for two of them with every binding.
    pub(super) fn new(
        (first, last): (u16, u16),
        kind: (Mapping, Filtering),
        given: Option<u32>,
    ) -> Self {
        let ports = u32::from(last) + 1 - u32::from(first);
        let (each, most) = match kind {
            (Mapping::Symmetric, _) => (2, u32::MAX),
            (Mapping::EndpointIndependent, Filtering::EndpointIndependent) => (2, ports),
            (Mapping::EndpointIndependent, Filtering::Address) => (4, ports),
        };
        let entries = given.unwrap_or_else(|| (each * ports).max(ENTRIES_MIN));
        let bindings = (entries / each).min(most);
        Self { entries, bindings }
    }

    /// Returns how many bindings one endpoint may have where the file does not say: half of what
    /// there is room for, so that none can take everything (RFC 6888, REQ-4).
    pub(super) fn share(self) -> u32 {
        self.bindings / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: (u16, u16) = (49_152, 65_535);

    fn room(mapping: Mapping, ports: (u16, u16), given: Option<u32>) -> (u32, u32) {
        let room = Room::new(ports, (mapping, Filtering::Address), given);
        (room.entries, room.share())
    }

    #[test]
    fn share_of_an_endpoint_is_half_of_what_the_table_holds() {
        assert_eq!(room(Mapping::Symmetric, PORTS, None), (32_768, 8_192));
        assert_eq!(
            room(Mapping::Symmetric, PORTS, Some(262_144)),
            (262_144, 65_536)
        );
    }

    #[test]
    fn share_of_an_endpoint_is_half_of_the_range_where_each_binding_takes_a_port() {
        let mapping = Mapping::EndpointIndependent;

        assert_eq!(room(mapping, PORTS, None), (65_536, 8_192));
        assert_eq!(room(mapping, (61_000, 61_127), None), (32_768, 64));
        assert_eq!(room(mapping, PORTS, Some(4_096)), (4_096, 512));
    }
}
