//! No two endpoints of a node share a network namespace, whichever way it is written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::by_node;
use crate::config::diagnostic::{Diagnostic, Kind, quote};
use crate::config::draft::Draft;

pub(super) fn check(draft: &Draft, errors: &mut Vec<Diagnostic>) {
    for (_, endpoints) in by_node(draft) {
        let mut seen = BTreeMap::new();
        for endpoint in endpoints {
            let Some(netns) = endpoint.netns.given() else {
                continue;
            };
            let is_default = endpoint.name.given().map(Spanned::span) == Some(netns.span());
            let path = plain(&netns.get_ref().path());
            let Some((first, first_is_default)) = seen.get(&path) else {
                seen.insert(path, (netns.span(), is_default));
                continue;
            };
            if is_default && *first_is_default {
                // Both derive from the same name, which is reported as a duplicate.
                continue;
            }
            let written = netns.get_ref().to_string();
            let message = format!("two endpoints have the namespace {}", quote(&written));
            errors.push(
                Diagnostic::new(Kind::DuplicateNetns, netns.span(), message)
                    .other(Range::clone(first), "first used here"),
            );
        }
    }
}

/// Returns a path without what does not matter: double slashes, dots, and `/var/run`, which is
/// `/run` on every current system.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                plain.push(component);
            }
        }
    }
    match plain.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_has_one_plain_path() {
        for path in [
            "/run/netns/a",
            "/run//netns/./a",
            "/var/run/netns/a",
            "/run/x/../netns/a",
        ] {
            assert_eq!(plain(Path::new(path)), Path::new("/run/netns/a"), "{path}");
        }
    }
}
