//! Names of the messages of ICMP, after IANA's registers.

/// Protocol number of ICMP.
pub(crate) const ICMP: u8 = 1;

/// Protocol number of ICMP for IPv6.
pub(crate) const ICMPV6: u8 = 58;

const TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp", 13),
    ("timestamp-reply", 14),
    ("extended-echo-request", 42),
    ("extended-echo-reply", 43),
];

const TYPES_V6: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("multicast-listener-query", 130),
    ("multicast-listener-report", 131),
    ("multicast-listener-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbor-solicitation", 135),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("multicast-listener-report-v2", 143),
    ("extended-echo-request", 160),
    ("extended-echo-reply", 161),
];

/// Returns the number of a message of one of the two protocols.
pub(crate) fn kind(protocol: u8, name: &str) -> Option<u8> {
    let named = types(protocol).iter().find(|(known, _)| *known == name);
    named.map(|(_, number)| *number)
}

/// Lists the names of the messages of a protocol.
pub(super) fn names(protocol: u8) -> impl Iterator<Item = &'static str> {
    types(protocol).iter().map(|(name, _)| *name)
}

fn types(protocol: u8) -> &'static [(&'static str, u8)] {
    if protocol == ICMPV6 { TYPES_V6 } else { TYPES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_has_a_number_in_each_protocol() {
        assert_eq!(kind(ICMP, "echo-request"), Some(8));
        assert_eq!(kind(ICMPV6, "echo-request"), Some(128));
        assert_eq!(kind(ICMP, "packet-too-big"), None);
    }
}
