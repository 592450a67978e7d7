//! Tools that cargo installs at a pinned version below `target/tools`.
//!
//! Called by set-up; the BPF build and the later test stages take the programs from there. A tool of
//! the user's own, on `PATH` or in cargo's home, is neither used nor replaced.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{announce, megabytes, report};
use crate::{build, process, workspace};

/// A crate with a program, at the version that the workspace is made for.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Links BPF with rustc's own LLVM; later versions need an LLVM of the system.
pub(crate) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.4",
};
/// Checks licences, bans and sources against `deny.toml`.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};
/// Runs the fuzz targets of `tests/fuzz`.
pub(crate) const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
};

impl Tool {
    /// Returns a command that runs the tool; a cargo subcommand takes its own name as first argument.
    pub(crate) fn command(self) -> Command {
        Command::new(workspace::tools().join("bin").join(self.name))
    }

    /// Installs the tool at its version; returns whether it had to.
    pub(super) fn install_unless_present(self) -> Result<bool> {
        if self.is_present() {
            return Ok(false);
        }
        let what = format!("{} {} below target/tools", self.name, self.version);
        announce(&what);
        let start = Instant::now();
        process::run(
            build::cargo()
                // A tool's products are none of the workspace's.
                .env_remove("CARGO_TARGET_DIR")
                .env_remove("RUSTFLAGS")
                .args(["install", "--quiet", "--locked", "--force", "--version"])
                .arg(format!("={}", self.version))
                .arg("--root")
                .arg(workspace::tools())
                .arg(self.name),
        )?;
        let program = workspace::tools().join("bin").join(self.name);
        let size = fs::metadata(&program)
            .with_context(|| format!("read {}", program.display()))?
            .len();
        report(&what, &megabytes(size), start);
        Ok(true)
    }

    /// Asks cargo's own record, for a program need not tell its version.
    fn is_present(self) -> bool {
        let record =
            fs::read_to_string(workspace::tools().join(".crates.toml")).unwrap_or_default();
        record.contains(&format!("\"{} {} ", self.name, self.version))
            && workspace::tools().join("bin").join(self.name).is_file()
    }
}
