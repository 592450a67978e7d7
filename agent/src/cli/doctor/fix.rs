//! The files that tell other managers of this machine's network to leave ours alone, written where
//! those managers are. What somebody edited is never overwritten, and nothing is reloaded: the
//! command for that is told.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::host::manager::{network_manager, networkd};

/// Is a file that we would like to be there.
struct Wish {
    /// Below `/etc`, and below `/usr/lib` if a package brought it.
    path: &'static str,
    text: &'static str,
    /// What makes it count.
    reload: Option<&'static str>,
    is_wanted: fn(&Path) -> bool,
}

const WISHES: [Wish; 5] = [
    Wish {
        path: "systemd/network/10-ciliate.network",
        text: include_str!("../../../../image/systemd/network/10-ciliate.network"),
        reload: Some("networkctl reload"),
        is_wanted: networkd::is_used,
    },
    Wish {
        path: "systemd/networkd.conf.d/10-ciliate.conf",
        text: include_str!("../../../../image/systemd/networkd.conf.d/10-ciliate.conf"),
        reload: Some("systemctl restart systemd-networkd"),
        is_wanted: networkd::is_used,
    },
    Wish {
        path: "NetworkManager/conf.d/10-ciliate.conf",
        text: include_str!("../../../../image/NetworkManager/conf.d/10-ciliate.conf"),
        reload: Some("systemctl reload NetworkManager"),
        is_wanted: network_manager::is_used,
    },
    Wish {
        path: "sysctl.d/99-ciliate.conf",
        text: include_str!("../../../../image/sysctl.d/99-ciliate.conf"),
        reload: Some("sysctl --system"),
        is_wanted: |_| true,
    },
    Wish {
        path: "iproute2/rt_protos.d/ciliate.conf",
        text: include_str!("../../../../image/iproute2/rt_protos.d/ciliate.conf"),
        reload: None,
        is_wanted: has_iproute2,
    },
];

/// Says what became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Written,
    /// It says the same already.
    Present,
    /// It says something else, and was left as it is.
    Edited,
    Failed,
}

/// Tells of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fixed {
    pub(super) path: PathBuf,
    pub(super) outcome: Outcome,
    /// The command that makes a written file count.
    pub(super) reload: Option<&'static str>,
    /// Why it could not be written.
    pub(super) error: Option<String>,
}

/// Writes the files that are missing.
pub(super) fn fix(root: &Path) -> Vec<Fixed> {
    let wanted = WISHES.iter().filter(|wish| (wish.is_wanted)(root));
    wanted.map(|wish| grant(root, wish)).collect()
}

fn grant(root: &Path, wish: &Wish) -> Fixed {
    let [own, packaged] = ["etc", "usr/lib"].map(|place| root.join(place).join(wish.path));
    let told = |path: PathBuf, outcome, error| Fixed {
        path,
        outcome,
        reload: wish.reload.filter(|_| outcome == Outcome::Written),
        error,
    };
    // One in /etc that hides that of a package has been put there by somebody.
    for path in [own.clone(), packaged] {
        if path.symlink_metadata().is_ok() {
            let is_same = fs::read_to_string(&path).is_ok_and(|text| text == wish.text);
            let outcome = if is_same {
                Outcome::Present
            } else {
                Outcome::Edited
            };
            return told(path, outcome, None);
        }
    }
    match write(&own, wish.text) {
        Ok(()) => told(own, Outcome::Written, None),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => told(own, Outcome::Edited, None),
        Err(error) => told(own, Outcome::Failed, Some(error.to_string())),
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn has_iproute2(root: &Path) -> bool {
    let places = ["etc/iproute2", "usr/share/iproute2", "usr/lib/iproute2"];
    places.iter().any(|place| root.join(place).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(root: &Path) -> Vec<(String, Outcome)> {
        let name = |fixed: &Fixed| {
            let path = fixed.path.strip_prefix(root).unwrap();
            path.display().to_string()
        };
        let fixed = fix(root);
        fixed.iter().map(|one| (name(one), one.outcome)).collect()
    }

    #[test]
    fn files_are_written_for_managers_that_are_there_and_then_left_alone() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["run/NetworkManager", "etc/iproute2", "usr/lib/sysctl.d"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }

        let first = outcomes(root.path());
        let manager = "etc/NetworkManager/conf.d/10-ciliate.conf";
        fs::write(root.path().join(manager), "# mine\n").unwrap();
        let second = outcomes(root.path());

        let files = [
            manager,
            "etc/sysctl.d/99-ciliate.conf",
            "etc/iproute2/rt_protos.d/ciliate.conf",
        ];
        let all = |outcomes: [Outcome; 3]| {
            let files = files.map(str::to_owned).into_iter();
            files.zip(outcomes).collect::<Vec<_>>()
        };
        assert_eq!(first, all([Outcome::Written; 3]));
        assert_eq!(
            second,
            all([Outcome::Edited, Outcome::Present, Outcome::Present])
        );
        let kept = fs::read_to_string(root.path().join(manager)).unwrap();
        assert_eq!(kept, "# mine\n");
    }
}
