//! A kernel and a static busybox out of Debian's packages, kept below `target/vm`.
//!
//! Downloaded by apt from the machine's own sources and unpacked there, never installed. A newer
//! kernel of the series has another package name, so it is fetched when apt's lists offer it; the
//! older folder stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// A kernel package, unpacked.
pub(super) struct Kernel {
    pub(super) package: String,
    pub(super) image: PathBuf,
    /// The folder below `lib/modules`
    pub(super) modules: PathBuf,
}

/// Returns the newest kernel of the series that apt offers.
pub(super) fn obtain(series: &str) -> Result<Kernel> {
    let package = package_of(series)?;
    let folder = unpack(&package)?;
    let version = package.trim_start_matches("linux-image-");
    Ok(Kernel {
        image: folder.join(format!("boot/vmlinuz-{version}")),
        modules: folder.join("lib/modules").join(version),
        package,
    })
}

/// Returns the path of a static busybox; the installed one may be dynamic.
pub(super) fn busybox() -> Result<PathBuf> {
    Ok(unpack("busybox-static")?.join("bin/busybox"))
}

/// Asks apt for the package behind `linux-image-amd64`: its name changes with the kernel's interface.
fn package_of(series: &str) -> Result<String> {
    let depends =
        process::capture(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))?;
    match package_in(&depends, series) {
        Some(package) => Ok(package.to_owned()),
        None => bail!(
            "find kernel {series}: apt offers none: linux-image-amd64 depends on `{}`",
            depends.trim()
        ),
    }
}

fn package_in<'a>(depends: &'a str, series: &str) -> Option<&'a str> {
    let prefix = format!("linux-image-{series}.");
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with(&prefix))
}

/// Downloads and unpacks a package unless that was done before; the folder appears only when it is complete.
fn unpack(package: &str) -> Result<PathBuf> {
    let cache = workspace::target().join("vm");
    let folder = cache.join(package);
    if folder.is_dir() {
        return Ok(folder);
    }
    let scratch = cache.join(format!("{package}.part"));
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
    }
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    println!("guest: downloading {package}");
    // apt's own user cannot write here, which apt only remarks upon.
    process::capture(
        Command::new("apt-get")
            .args(["download", package])
            .current_dir(&scratch),
    )?;
    let archive = archive_in(&scratch)?;
    let tree = scratch.join("tree");
    process::run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&tree),
    )?;
    fs::rename(&tree, &folder).with_context(|| format!("rename {}", tree.display()))?;
    fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
    Ok(folder)
}

fn archive_in(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("list {}: apt-get left no package there", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDS: &str = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";

    #[test]
    fn package_of_the_series_is_found_behind_the_general_one() {
        assert_eq!(
            package_in(DEPENDS, "6.1"),
            Some("linux-image-6.1.0-56-amd64")
        );
    }

    #[test]
    fn series_that_apt_does_not_offer_is_not_found() {
        assert_eq!(package_in(DEPENDS, "6.12"), None);
    }
}
