//! QEMU: boots a kernel with an initramfs and reads the serial console.
//!
//! `/dev/kvm` may exist and still not work, so hardware virtualisation counts only when the guest's first process has spoken
//! within a few seconds; else software emulation takes over. Every wait has an end, and it ends this child only.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

struct Accelerator {
    name: &'static str,
    cpu: &'static str,
    /// How long the kernel may take until the first process speaks
    boot: Duration,
}

const KVM: Accelerator = Accelerator {
    name: "kvm",
    cpu: "host",
    boot: Duration::from_secs(10),
};
const TCG: Accelerator = Accelerator {
    name: "tcg",
    cpu: "max",
    boot: Duration::from_mins(2),
};

/// How long the commands may take altogether.
const LIMIT: Duration = Duration::from_mins(10);

/// The initramfs and what it unpacks to are both in memory for a while.
const MEMORY_MIB: u32 = 1536;

const UP: &str = "VM-UP: ";
const RESULT: &str = "VM-RESULT: ";
const DONE: &str = "VM-DONE";

/// Boots and returns names and exit codes of the commands.
///
/// # Errors
/// The guest does not come up, does not end in time, or ends before it has run all commands.
pub(super) fn boot(kernel: &Path, initramfs: &Path) -> Result<Vec<(String, i32)>> {
    let kvm = File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if kvm {
        match run(&KVM, kernel, initramfs)? {
            Ended::Done(results) => return Ok(results),
            Ended::NeverUp => println!("guest: kvm does not work here: software emulation instead"),
        }
    }
    match run(&TCG, kernel, initramfs)? {
        Ended::Done(results) => Ok(results),
        Ended::NeverUp => bail!(
            "boot {}: the guest said nothing within {:?}",
            kernel.display(),
            TCG.boot
        ),
    }
}

enum Ended {
    Done(Vec<(String, i32)>),
    NeverUp,
}

fn run(accelerator: &Accelerator, kernel: &Path, initramfs: &Path) -> Result<Ended> {
    println!("guest: booting with {}", accelerator.name);
    let mut child = Guest(start(accelerator, kernel, initramfs)?);
    let lines = console(&mut child.0)?;
    let log_path = workspace::target().join("vm/console.log");
    let mut log =
        File::create(&log_path).with_context(|| format!("create {}", log_path.display()))?;

    let start = Instant::now();
    let mut deadline = start + accelerator.boot;
    let mut is_up = false;
    let mut results = Vec::new();
    loop {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(_) if !is_up => return Ok(Ended::NeverUp),
            Err(RecvTimeoutError::Timeout) => bail!(
                "run the guest: not done within {LIMIT:?}: see {}",
                log_path.display()
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("run the guest: it ended early: see {}", log_path.display())
            }
        };
        writeln!(log, "{line}").with_context(|| format!("write {}", log_path.display()))?;
        if line.starts_with(UP) {
            println!("guest: up after {:.1} s", start.elapsed().as_secs_f32());
            is_up = true;
            deadline = Instant::now() + LIMIT;
        }
        if line.starts_with(DONE) {
            return Ok(Ended::Done(results));
        }
        if let Some(result) = result_in(&line) {
            results.push(result);
        } else if is_up {
            println!("  | {line}");
        }
    }
}

fn start(accelerator: &Accelerator, kernel: &Path, initramfs: &Path) -> Result<Child> {
    let errors = workspace::target().join("vm/qemu.log");
    Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            accelerator.name,
            "-cpu",
            accelerator.cpu,
            "-smp",
            "2",
        ])
        .args(["-m", &MEMORY_MIB.to_string()])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&errors).with_context(|| format!("create {}", errors.display()))?)
        .spawn()
        .context("run qemu-system-x86_64")
}

/// Reads the console in a thread of its own, for a read has no time limit.
fn console(child: &mut Child) -> Result<Receiver<String>> {
    let stdout = child.stdout.take().context("the console is piped")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn result_in(line: &str) -> Option<(String, i32)> {
    let (name, code) = line.strip_prefix(RESULT)?.rsplit_once(' ')?;
    Some((name.to_owned(), code.parse().ok()?))
}

/// Ends the child when it goes out of scope, whatever the reason.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when the child has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_line_gives_name_and_exit_code() {
        assert_eq!(
            result_in("VM-RESULT: lab up 71"),
            Some(("lab up".to_owned(), 71))
        );
        assert_eq!(result_in("VM-RUN: lab up"), None);
    }
}
