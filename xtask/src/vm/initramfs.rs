//! The guest's first and only root: programs, kernel modules, a list of commands and `init.sh`.
//!
//! All content is held in memory and written as one archive. Programs must be static: there is no
//! library in the guest.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::guest::Command;

const INIT: &str = include_str!("init.sh");

/// Mount points and folders of the programs that tests run.
const FOLDERS: [&str; 13] = [
    "/bin", "/dev", "/etc", "/modules", "/proc", "/root", "/run", "/sbin", "/sys", "/tests",
    "/tmp", "/usr", "/var",
];

#[derive(Default)]
pub(super) struct Initramfs {
    files: Vec<Entry>,
}

struct Entry {
    path: String,
    content: Vec<u8>,
    executable: bool,
}

impl Initramfs {
    pub(super) fn add_program(&mut self, path: &str, source: &Path) -> Result<()> {
        let content = read(source)?;
        self.push(path, content, true);
        Ok(())
    }

    pub(super) fn add_file(&mut self, path: &str, source: &Path) -> Result<()> {
        let content = read(source)?;
        self.push(path, content, false);
        Ok(())
    }

    /// Adds what every guest has: busybox, its modules with their order, the commands and the first process.
    pub(super) fn add_guest(
        &mut self,
        busybox: &Path,
        modules_folder: &Path,
        modules: &[PathBuf],
        commands: &[Command],
    ) -> Result<()> {
        self.add_program("/bin/busybox", busybox)?;
        let mut order = Vec::new();
        for module in modules {
            let name = module
                .file_name()
                .context("a module has a file name")?
                .to_string_lossy();
            self.add_file(&format!("/modules/{name}"), &modules_folder.join(module))?;
            writeln!(order, "{name}")?;
        }
        self.push("/modules/order", order, false);
        // One line per command: its name, a tab, what the shell runs.
        let mut list = Vec::new();
        for command in commands {
            writeln!(list, "{}\t{}", command.name, command.shell)?;
        }
        self.push("/commands", list, false);
        self.push("/init", INIT.into(), true);
        Ok(())
    }

    pub(super) fn write(&self, image: &Path) -> Result<()> {
        let file = File::create(image).with_context(|| format!("create {}", image.display()))?;
        self.archive(BufWriter::new(file))
            .with_context(|| format!("write {}", image.display()))
    }

    fn archive(&self, sink: impl Write) -> Result<()> {
        let mut archive = Archive::new(sink);
        for folder in FOLDERS {
            archive.directory(folder)?;
        }
        archive.console("/dev/console")?;
        for entry in &self.files {
            if entry.executable {
                archive.program(&entry.path, &entry.content)?;
            } else {
                archive.file(&entry.path, &entry.content)?;
            }
        }
        archive.finish()?;
        Ok(())
    }

    fn push(&mut self, path: &str, content: Vec<u8>, executable: bool) {
        self.files.push(Entry {
            path: path.to_owned(),
            content,
            executable,
        });
    }
}

fn read(source: &Path) -> Result<Vec<u8>> {
    fs::read(source).with_context(|| format!("read {}", source.display()))
}
