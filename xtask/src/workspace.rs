//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask/ lies in the workspace")
}

/// The folder of tools, guests and the BPF build. It is fixed, so that set-up and build agree on it; cargo's own products
/// follow `CARGO_TARGET_DIR`.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where tools of a pinned version are installed: `bin/` below.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The Rust target of the shipped, static binary on this machine.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-musl", env::consts::ARCH)
}
