//! Files in several folders, of which the first one that has a name counts (`standard-conf(7)`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the administrator, this boot and packages put files, in the order in which they count.
const PLACES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];

/// Lists the files of a folder such as `sysctl.d` in the order of their names.
pub(super) fn files(root: &Path, folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for place in PLACES {
        let entries = fs::read_dir(root.join(place).join(folder));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|found| found == extension) {
                found.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    found.into_values().collect()
}

/// Reads a file; one that cannot be read says nothing, as for who it is made for.
pub(super) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_file_hides_that_of_a_package() {
        let root = tempfile::tempdir().unwrap();
        for (folder, name) in [
            ("etc/x.d", "20-b.conf"),
            ("usr/lib/x.d", "20-b.conf"),
            ("usr/lib/x.d", "10-a.conf"),
            ("run/x.d", "30-c.other"),
        ] {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), "").unwrap();
        }

        let found = files(root.path(), "x.d", "conf");

        let expected = ["usr/lib/x.d/10-a.conf", "etc/x.d/20-b.conf"];
        assert_eq!(found, expected.map(|path| root.path().join(path)));
    }
}
