//! Peers and ports in words, as the file writes them.

use std::collections::BTreeMap;

use crate::config::policy::{Entity, Peer, Ports, Requirement, Selector};

/// How many of a list are shown.
const SHOWN: usize = 4;

/// Returns peers in words: the beginning of a long list.
pub fn peers(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "everybody".to_owned();
    }
    list(peers.len(), peers.iter().map(peer))
}

/// Returns ports in words: the beginning of a long list.
pub fn all_ports(ports: &[Ports]) -> String {
    if ports.is_empty() {
        return "every port".to_owned();
    }
    list(ports.len(), ports.iter().map(self::ports))
}

fn list(count: usize, words: impl Iterator<Item = String>) -> String {
    let shown: Vec<_> = words.take(SHOWN).collect();
    let more = count - shown.len();
    let shown = shown.join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    }
}

/// Returns a peer in words.
pub fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Entity(entity) => self::entity(*entity).to_owned(),
        Peer::Selector(selector) => self::selector(selector),
        Peer::Endpoint(name) => name.clone(),
        Peer::Node(name) => format!("node {name}"),
        Peer::Cidr { prefix, except } if except.is_empty() => prefix.to_string(),
        Peer::Cidr { prefix, except } => {
            let except = list(except.len(), except.iter().map(ToString::to_string));
            format!("{prefix} except {except}")
        }
    }
}

/// Returns the word for an entity.
pub fn entity(entity: Entity) -> &'static str {
    match entity {
        Entity::Host => "host",
        Entity::World => "world",
        Entity::WorldIpv4 => "world-ipv4",
        Entity::WorldIpv6 => "world-ipv6",
        Entity::RemoteNode => "remote-node",
        Entity::Cluster => "cluster",
        Entity::Health => "health",
        Entity::All => "all",
        Entity::None => "none",
    }
}

/// Returns a selector in words.
pub fn selector(selector: &Selector) -> String {
    let requirements = requirements(&selector.requirements);
    match &selector.not {
        Some(not) if requirements.is_empty() => format!("{{ not {} }}", self::requirements(not)),
        Some(not) => format!("{{ {requirements}, not {} }}", self::requirements(not)),
        None if requirements.is_empty() => "every endpoint".to_owned(),
        None => format!("{{ {requirements} }}"),
    }
}

fn requirements(requirements: &BTreeMap<String, Requirement>) -> String {
    let words = requirements
        .iter()
        .map(|(key, requirement)| match requirement {
            Requirement::In(values) => {
                let values: Vec<_> = values.iter().map(String::as_str).collect();
                format!("{key}={}", values.join("|"))
            }
            Requirement::Exists => key.clone(),
            Requirement::Absent => format!("no {key}"),
        });
    words.collect::<Vec<_>>().join(", ")
}

/// Returns labels in words.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let words = labels.iter().map(|(key, value)| format!("{key}={value}"));
    words.collect::<Vec<_>>().join(",")
}

/// Returns a set of ports in words.
pub fn ports(ports: &Ports) -> String {
    match ports {
        Ports::Range {
            protocol,
            first,
            last,
        } if first == last => format!("{}/{first}", self::protocol(*protocol)),
        Ports::Range {
            protocol,
            first,
            last,
        } => format!("{}/{first}-{last}", self::protocol(*protocol)),
        Ports::Named { protocol, name } => format!("{}/{name}", self::protocol(*protocol)),
        Ports::Icmp {
            protocol,
            kind,
            code: None,
        } => format!("{}/{kind}", self::protocol(*protocol)),
        Ports::Icmp {
            protocol,
            kind,
            code: Some(code),
        } => format!("{}/{kind}/{code}", self::protocol(*protocol)),
        Ports::Protocol(protocol) => self::protocol(*protocol),
    }
}

/// Returns the word for a protocol.
pub fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("proto/{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, requirement: Requirement) -> (String, Requirement) {
        (key.to_owned(), requirement)
    }

    #[test]
    fn a_selector_reads_like_the_file() {
        let values = ["web", "api"].map(str::to_owned).into();
        let selector = Selector {
            requirements: [
                requirement("app", Requirement::In(values)),
                requirement("old", Requirement::Absent),
            ]
            .into(),
            not: Some([requirement("tier", Requirement::Exists)].into()),
        };

        assert_eq!(
            super::selector(&selector),
            "{ app=api|web, no old, not tier }"
        );
        assert_eq!(super::selector(&Selector::default()), "every endpoint");
    }

    #[test]
    fn a_long_list_is_cut() {
        let cidr = |at| Peer::Cidr {
            prefix: format!("10.{at}.0.0/16").parse().expect("a prefix"),
            except: Vec::new(),
        };
        let list: Vec<_> = (0..100_000).map(|at| cidr(at % 256)).collect();

        assert_eq!(
            peers(&list),
            "10.0.0.0/16, 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16 and 99996 more"
        );
    }

    #[test]
    fn ports_read_like_the_file() {
        let words = [
            Ports::Range {
                protocol: 6,
                first: 80,
                last: 80,
            },
            Ports::Range {
                protocol: 17,
                first: 1,
                last: 9,
            },
            Ports::Icmp {
                protocol: 58,
                kind: 128,
                code: None,
            },
            Ports::Protocol(47),
        ];

        assert_eq!(all_ports(&words), "tcp/80, udp/1-9, icmpv6/128, proto/47");
        assert_eq!(all_ports(&[]), "every port");
    }
}
