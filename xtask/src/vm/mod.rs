//! `cargo xtask vm`: a Debian kernel under QEMU, with the agent, test programs and a lab inside.
//!
//! The kernel and a static busybox come out of Debian's packages, unpacked below `target/vm` and never installed. The guest is
//! a kernel and an initramfs, without disk and network card. It runs a list of commands, reports each exit code on its serial
//! console and powers off. Nothing here needs root, and the guest is ended when it takes too long.

mod cpio;
mod guest;
mod initramfs;
mod kernel;
mod modules;
mod qemu;

use std::time::Instant;

use anyhow::{Result, bail};

use self::guest::Command;
use self::initramfs::Initramfs;
use crate::demo::{LAB_FILE, Lab};
use crate::setup::{self, Group};
use crate::test::Tally;
use crate::{build, workspace};

/// Boots the kernel and runs the usual commands, or the one given, which then decides the exit code.
pub(crate) fn run(series: &str, command: Option<&str>) -> Result<()> {
    setup::run(Group::Test)?;
    let tally = match command {
        None => test(series)?,
        Some(shell) => boot(series, &[Command::new("run", shell)], programs()?)?,
    };
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!(
            "guest with kernel {series}: {} commands failed",
            tally.failed
        );
    }
    Ok(())
}

/// Boots the kernel and runs the agent's lab and the test programs that a guest can run; each command counts as a test.
pub(crate) fn test(series: &str) -> Result<Tally> {
    let lab = Lab::read(&workspace::root().join(LAB_FILE))?;
    let mut commands = guest::kernel_commands();
    commands.extend(guest::test_commands());
    commands.extend(guest::lab_commands(&lab)?);
    boot(series, &commands, programs()?)
}

/// Gathers the agent, its lab and the test programs.
fn programs() -> Result<Initramfs> {
    let mut files = Initramfs::default();
    files.add_program("/bin/ciliate", &build::static_binary()?)?;
    files.add_file("/lab.toml", &workspace::root().join(LAB_FILE))?;
    let tests = build::static_tests()?;
    for name in guest::TESTS {
        let Some(test) = tests.iter().find(|test| test.name == name) else {
            bail!("guest: package tests has no test file {name}");
        };
        files.add_program(&format!("/tests/{name}"), &test.path)?;
    }
    Ok(files)
}

fn boot(series: &str, commands: &[Command], mut files: Initramfs) -> Result<Tally> {
    let start = Instant::now();
    let kernel = kernel::obtain(series)?;
    let modules = modules::resolve(&kernel.modules, &guest::MODULES)?;
    println!("guest: {}, {} modules", kernel.package, modules.len());
    files.add_guest(&kernel::busybox()?, &kernel.modules, &modules, commands)?;
    let image = workspace::target().join("vm/initramfs.cpio");
    files.write(&image)?;

    let results = qemu::boot(&kernel.image, &image)?;
    let tally = guest::judge(commands, &results);
    println!("guest: {:.1} s", start.elapsed().as_secs_f32());
    Ok(tally)
}
