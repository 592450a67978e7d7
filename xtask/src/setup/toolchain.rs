//! Parts of the toolchain that rustup adds.
//!
//! `RUSTUP_AUTO_INSTALL=0` keeps rustup from adding what `rust-toolchain.toml` lists, so set-up asks
//! and adds. It works on the toolchain that runs it and never installs another one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Group, announce, megabytes, report};
use crate::process;
use crate::workspace;

/// The sources of `core` are compiled for BPF.
const TO_BUILD: [&str; 1] = ["rust-src"];
const TO_LINT: [&str; 2] = ["rustfmt", "clippy"];

/// Installs missing components and the target of the static binary; returns whether anything was missing.
pub(super) fn install_missing(group: Group) -> Result<bool> {
    let components = rustup(&["component", "list", "--installed"])
        .context("list the toolchain's components (rustup is needed beforehand)")?;
    let targets = rustup(&["target", "list", "--installed"])?;

    let mut wanted = TO_BUILD.to_vec();
    if group != Group::Demo {
        wanted.extend(TO_LINT);
    }
    let mut installed = false;
    for name in wanted {
        if !lists(&components, name) {
            add("component", name)?;
            installed = true;
        }
    }
    let target = workspace::static_target();
    if !lists(&targets, &target) {
        add("target", &target)?;
        installed = true;
    }
    Ok(installed)
}

/// Returns whether rustup's list has the component, which it may show with the host's name behind: `clippy-x86_64-…`.
fn lists(list: &str, name: &str) -> bool {
    list.lines()
        .filter_map(|line| line.trim().strip_prefix(name))
        .any(|rest| rest.is_empty() || rest.starts_with(&format!("-{}", std::env::consts::ARCH)))
}

fn add(kind: &str, name: &str) -> Result<()> {
    let what = format!("toolchain {kind} {name}");
    announce(&what);
    let start = Instant::now();
    let sysroot = process::capture(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(workspace::root()),
    )?;
    let sysroot = Path::new(sysroot.trim());
    let before = size_of_folder(sysroot);
    rustup(&[kind, "add", name])?;
    report(
        &what,
        &megabytes(size_of_folder(sysroot).saturating_sub(before)),
        start,
    );
    Ok(())
}

fn rustup(arguments: &[&str]) -> Result<String> {
    process::capture(
        Command::new("rustup")
            .args(arguments)
            .current_dir(workspace::root()),
    )
}

/// Returns the bytes of all files below; what cannot be read counts nothing, for this is only told.
fn size_of_folder(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| {
            if metadata.is_dir() {
                size_of_folder(&path)
            } else {
                metadata.size()
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_is_found_with_and_without_the_hosts_name() {
        let list = format!(
            "clippy-{}-unknown-linux-gnu\nrust-src\n",
            std::env::consts::ARCH
        );

        assert!(lists(&list, "clippy"));
        assert!(lists(&list, "rust-src"));
    }

    #[test]
    fn component_whose_name_only_begins_alike_is_not_found() {
        assert!(!lists("rust-src\n", "rust"));
    }
}
