//! Names of nodes and endpoints.
//!
//! A name becomes a folder, part of a link's name, a word in policies and, by default, the name
//! of a network namespace; so it is lower case, short and cannot be taken for an address or for
//! one of Cilium's entities.

use std::net::IpAddr;

/// Longest name, in characters.
pub const NAME_MAX: usize = 63;

/// Words that policies use for groups of addresses.
const ENTITIES: [&str; 13] = [
    "all",
    "cluster",
    "health",
    "host",
    "ingress",
    "init",
    "kube-apiserver",
    "none",
    "remote-node",
    "unmanaged",
    "world",
    "world-ipv4",
    "world-ipv6",
];

/// Tells what is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Empty,
    TooLong,
    /// A character that is not allowed anywhere.
    Character(char),
    /// Begins or ends with something else than a letter or a digit.
    Edge,
    Address,
    Entity,
}

/// Tells whether policies use the word as an entity.
pub fn is_entity(word: &str) -> bool {
    ENTITIES.contains(&word)
}

/// Tells whether a node or an endpoint can have this name.
pub fn is_valid(name: &str) -> bool {
    fault(name).is_none()
}

/// Returns the first fault of a name.
pub(super) fn fault(name: &str) -> Option<Fault> {
    let (Some(first), Some(last)) = (name.chars().next(), name.chars().last()) else {
        return Some(Fault::Empty);
    };
    let foreign = name.chars().find(|c| !is_inner(*c));
    match foreign {
        Some(c) => Some(Fault::Character(c)),
        None if !is_edge(first) || !is_edge(last) => Some(Fault::Edge),
        None if name.len() > NAME_MAX => Some(Fault::TooLong),
        None if name.parse::<IpAddr>().is_ok() => Some(Fault::Address),
        None if is_entity(name) => Some(Fault::Entity),
        None => None,
    }
}

/// Returns a valid name that resembles a text.
pub fn sanitize(text: &str) -> String {
    let inner: String = text
        .to_lowercase()
        .chars()
        .map(|c| if is_inner(c) { c } else { '-' })
        .take(NAME_MAX)
        .collect();
    let name = inner.trim_matches(|c| !is_edge(c));
    match fault(name) {
        None => name.to_owned(),
        Some(Fault::Entity) => format!("node-{name}"),
        Some(Fault::Address) => format!("node-{}", name.replace('.', "-")),
        Some(Fault::Empty | Fault::TooLong | Fault::Character(_) | Fault::Edge) => {
            "node-1".to_owned()
        }
    }
}

fn is_edge(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_inner(c: char) -> bool {
    is_edge(c) || c == '-' || c == '.'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        let long = "a".repeat(NAME_MAX);
        for good in ["a", "web", "edge-1", "db.prod", "0", "1.2.3", long.as_str()] {
            assert_eq!(fault(good), None, "{good}");
        }
        assert_eq!(fault(""), Some(Fault::Empty));
        assert_eq!(fault(&"a".repeat(64)), Some(Fault::TooLong));
        assert_eq!(fault("Web"), Some(Fault::Character('W')));
        assert_eq!(fault("a/b"), Some(Fault::Character('/')));
        assert_eq!(fault("-a"), Some(Fault::Edge));
        assert_eq!(fault("a."), Some(Fault::Edge));
        assert_eq!(fault("10.0.0.1"), Some(Fault::Address));
        assert_eq!(fault("world"), Some(Fault::Entity));
    }

    #[test]
    fn host_names_become_names() {
        assert_eq!(sanitize("Edge_1.Example.ORG"), "edge-1.example.org");
        assert_eq!(sanitize("host"), "node-host");
        assert_eq!(sanitize("(none)"), "node-none");
        assert_eq!(sanitize("10.0.0.1"), "node-10-0-0-1");
        assert_eq!(sanitize("--"), "node-1");
    }

    proptest! {
        #[test]
        fn a_sanitized_name_is_valid(text in ".{0,80}") {
            prop_assert_eq!(fault(&sanitize(&text)), None);
        }
    }
}
