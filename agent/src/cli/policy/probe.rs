//! The port that is tried: one of a protocol, or one message of ICMP.

use super::super::failure::Failure;
use crate::config::diagnostic::quote;
use crate::config::policy::icmp::{self, ICMP, ICMPV6};

/// Is a protocol with what the first packet says in place of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Port {
        protocol: u8,
        port: u16,
    },
    /// A port by its name: what the receiver calls so.
    Named {
        protocol: u8,
        name: String,
    },
}

impl Probe {
    /// Reads `tcp/80`, `tcp/http`, `icmp/8`, `icmp/3/4` or `proto/47`.
    ///
    /// # Errors
    /// If it is none of these.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (word, rest) = text.split_once('/').unwrap_or((text, ""));
        let found = match word {
            "tcp" => port(6, rest),
            "udp" => port(17, rest),
            "sctp" => port(132, rest),
            "icmp" => message(ICMP, rest),
            "icmpv6" => message(ICMPV6, rest),
            "proto" => rest
                .parse()
                .ok()
                .map(|protocol| Self::Port { protocol, port: 0 }),
            _ => None,
        };
        found.ok_or_else(|| {
            Failure::Usage(format!(
                "--port {} is no port of one packet; write `tcp/80`, `udp/dns`, \
                 `icmp/echo-request`, `icmp/3/4` or `proto/47`",
                quote(text)
            ))
        })
    }
}

fn port(protocol: u8, rest: &str) -> Option<Probe> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match rest.parse() {
        Ok(0) => None,
        Ok(port) => Some(Probe::Port { protocol, port }),
        Err(_) => {
            let has_letter = rest.contains(|c: char| c.is_ascii_lowercase());
            (has_letter && rest.chars().all(is_name)).then(|| Probe::Named {
                protocol,
                name: rest.to_owned(),
            })
        }
    }
}

/// Reads a type by its number or its name and, if it is not 0, a code; without either, a ping is
/// meant.
fn message(protocol: u8, rest: &str) -> Option<Probe> {
    let (kind, code) = rest.split_once('/').unwrap_or((rest, "0"));
    let kind = match kind {
        "" => icmp::kind(protocol, "echo-request")?,
        named if named.starts_with(|c: char| c.is_ascii_lowercase()) => {
            icmp::kind(protocol, named)?
        }
        number => number.parse().ok()?,
    };
    let port = u16::from_be_bytes([kind, code.parse().ok()?]);
    Some(Probe::Port { protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_a_name_or_a_message() {
        let parse = |text| Probe::parse(text).ok();
        let port = |protocol, port| Some(Probe::Port { protocol, port });

        assert_eq!(parse("tcp/80"), port(6, 80));
        assert_eq!(parse("icmp/3/4"), port(1, 0x0304));
        assert_eq!(parse("icmp"), port(1, 0x0800));
        assert_eq!(parse("icmpv6/echo-request"), port(58, 0x8000));
        assert_eq!(parse("icmp/destination-unreachable/4"), port(1, 0x0304));
        assert_eq!(parse("icmpv6/destination-unreachable"), port(58, 0x0100));
        assert_eq!(parse("proto/47"), port(47, 0));
        let named = Probe::Named {
            protocol: 17,
            name: "dns".to_owned(),
        };
        assert_eq!(parse("udp/dns"), Some(named));
        for wrong in [
            "",
            "80",
            "tcp",
            "tcp/0",
            "tcp/80-90",
            "icmp/256",
            "icmp/packet-too-big",
            "any/53",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
