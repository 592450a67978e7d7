//! Words for classes of identities, those that there are and those of Cilium that there are not.

use std::fmt;

use super::Entity;

/// Words of Cilium that mean nothing without a cluster, each with the reason and with advice.
const FOREIGN: [(&str, &str, &str); 4] = [
    (
        "ingress",
        "is for an ingress controller, which is not here",
        "write the name of the endpoint that forwards",
    ),
    (
        "init",
        "is for endpoints without labels yet; those of a file have theirs from the start",
        "select them by what they lack, as in `{ app = false }`",
    ),
    (
        "kube-apiserver",
        "is for Kubernetes, which is not here",
        "write the address of that server",
    ),
    (
        "unmanaged",
        "is for pods that no agent manages; whatever is not in the file belongs to the world",
        "write `world`",
    ),
];

impl Entity {
    /// Lists all of them.
    pub const ALL: [Self; 9] = [
        Self::Host,
        Self::World,
        Self::WorldIpv4,
        Self::WorldIpv6,
        Self::RemoteNode,
        Self::Cluster,
        Self::Health,
        Self::All,
        Self::None,
    ];

    /// Returns the entity that a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.word() == word)
    }

    /// Returns the word that files use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::RemoteNode => "remote-node",
            Self::Cluster => "cluster",
            Self::Health => "health",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Says why a word of Cilium is no entity here, and what to write in its place.
pub(super) fn foreign(word: &str) -> Option<(&'static str, &'static str)> {
    let entry = FOREIGN.iter().find(|(foreign, ..)| *foreign == word);
    entry.map(|(_, reason, advice)| (*reason, *advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::name;

    #[test]
    fn nobody_is_called_like_an_entity() {
        let foreign = FOREIGN.iter().map(|(word, ..)| *word);
        for word in Entity::ALL.map(Entity::word).into_iter().chain(foreign) {
            assert!(name::is_entity(word), "{word}");
        }
    }

    #[test]
    fn words_and_entities_are_the_same() {
        for entity in Entity::ALL {
            assert_eq!(Entity::from_word(entity.word()), Some(entity));
            assert_eq!(foreign(entity.word()), None);
        }
    }
}
