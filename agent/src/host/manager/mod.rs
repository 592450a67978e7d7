//! Other programs that manage this machine's network, as far as their files say what they will do to
//! our links. Read-only; nothing is asked of the programs themselves.
//!
//! # Layout
//! - [`networkd`], [`network_manager`]: whether they leave our links and routes alone
//! - [`sysctl_d`]: what is set anew at boot and by `sysctl --system`
//! - `folder`: which of several folders a file counts in
//! - `ini`: sections of assignments
//! - [`pattern`]: names with wildcards

mod folder;
mod ini;
pub mod network_manager;
pub mod networkd;
pub mod pattern;
pub mod sysctl_d;

use std::path::Path;

/// Tells whether a service runs, by what it leaves in `/run`, or is started at boot.
fn is_used(root: &Path, runtime: &str, unit: &str) -> bool {
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    root.join(runtime).exists() || wants.join(unit).symlink_metadata().is_ok()
}
