//! Whether somebody else can write what says what the node shall be.
//!
//! Who can write the file, or put another one in its place, commands the node. The rule is that
//! of sshd for its files: group and others may write neither the file nor its folder (unless that
//! is sticky, as `/tmp` is), and if root reads them, their owner is root or who called `sudo`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Code of a file that others can write.
const EXPOSED: &str = "CIL0110";

/// Permissions of stat(2): group and others may write; only owners may rename in a folder.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Says who reads the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Who may own the file; `None` if it does not matter, for whoever reads it is not root.
    owners: Option<BTreeSet<u32>>,
}

/// Says that others can write a file or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    path: PathBuf,
    fault: String,
    cure: String,
}

impl Reader {
    /// Describes the user of this process.
    pub fn own() -> Self {
        let user = nix::unistd::geteuid();
        // Of the process's own environment: who can set it for root is root.
        let caller = std::env::var("SUDO_UID").ok();
        let caller = caller.and_then(|uid| uid.parse().ok());
        let owners = user
            .is_root()
            .then(|| caller.into_iter().chain([0]).collect());
        Self { owners }
    }

    /// Finds out who else can write a file or a folder.
    pub fn judge(&self, path: &Path, metadata: &Metadata) -> Vec<Exposure> {
        let (mode, owner) = (metadata.mode(), metadata.uid());
        let what = if metadata.is_dir() { "folder" } else { "file" };
        let is_sticky = metadata.is_dir() && mode & STICKY != 0;
        let writers = match (mode & GROUP_WRITES != 0, mode & OTHERS_WRITE != 0) {
            (true, true) => Some("group and others"),
            (true, false) => Some("the group"),
            (false, true) => Some("others"),
            (false, false) => None,
        };
        let shown = path.display();
        let exposure = |fault: String, cure: String| Exposure {
            path: path.to_owned(),
            fault,
            cure,
        };
        let mut found = Vec::new();
        if let Some(writers) = writers.filter(|_| !is_sticky) {
            let bits = mode & 0o7777;
            found.push(exposure(
                format!("{writers} can write the {what} (mode {bits:04o})"),
                format!("chmod go-w {shown}"),
            ));
        }
        if self
            .owners
            .as_ref()
            .is_some_and(|owners| !owners.contains(&owner))
        {
            found.push(exposure(
                format!("the {what} belongs to user {owner}, and root reads it"),
                format!("chown root {shown}"),
            ));
        }
        found
    }
}

impl Exposure {
    /// Returns the text of an error.
    pub fn error(&self) -> String {
        let Self { path, fault, cure } = self;
        let path = path.display();
        format!("{path}: error: {EXPOSED} {fault}\n  = help: {cure}")
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, fault, cure } = self;
        let path = path.display();
        write!(
            f,
            "{EXPOSED} {path}: {fault}, and `apply` refuses it; `{cure}`"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn faults(reader: &Reader, path: &Path, mode: u32) -> Vec<String> {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let found = reader.judge(path, &fs::metadata(path).unwrap());
        found.into_iter().map(|exposure| exposure.fault).collect()
    }

    #[test]
    fn who_else_can_write_is_named_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "").unwrap();
        let reader = Reader { owners: None };

        for (mode, fault) in [
            (0o600, None),
            (0o644, None),
            (0o444, None),
            (0o664, Some("the group can write the file (mode 0664)")),
            (0o646, Some("others can write the file (mode 0646)")),
            (
                0o666,
                Some("group and others can write the file (mode 0666)"),
            ),
        ] {
            assert_eq!(
                faults(&reader, &file, mode),
                Vec::from_iter(fault),
                "{mode:o}"
            );
        }
        let error = reader.judge(&file, &fs::metadata(&file).unwrap())[0].error();
        assert!(
            error.contains("a.toml: error: CIL0110 group and others can write"),
            "{error}"
        );
        assert!(
            error.ends_with(&format!("help: chmod go-w {}", file.display())),
            "{error}"
        );
    }

    #[test]
    fn folder_that_others_can_write_must_be_sticky() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Reader { owners: None };

        let found = faults(&reader, folder.path(), 0o777);
        assert_eq!(found, ["group and others can write the folder (mode 0777)"]);
        assert!(faults(&reader, folder.path(), 0o1777).is_empty());
        assert!(faults(&reader, folder.path(), 0o755).is_empty());
    }

    #[test]
    fn owner_must_be_one_of_those_who_may_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = nix::unistd::geteuid().as_raw();
        let readers = [BTreeSet::from([own]), BTreeSet::from([own + 1])];

        let found = readers.map(|owners| {
            let reader = Reader {
                owners: Some(owners),
            };
            faults(&reader, file.path(), 0o600)
        });

        assert!(found[0].is_empty());
        assert_eq!(
            found[1],
            [format!("the file belongs to user {own}, and root reads it")]
        );
    }
}
