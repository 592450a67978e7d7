//! `ciliate try`, in the background: at a terminal, or without one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::machine::Machine;
use super::namespace::Namespace;
use super::{PATIENCE, agent, wait_until};

/// Is a trial that runs; what of it is left is killed with this value.
#[derive(Debug)]
pub struct Trial {
    child: Child,
    /// The other end of its terminal, if it has one.
    terminal: Option<File>,
    folder: PathBuf,
    log: PathBuf,
}

impl Trial {
    /// Starts a trial of a file on a node, without a terminal.
    pub fn start(machine: &Machine, place: &Namespace, node: &str, line: &str) -> Self {
        let mut command = Command::new(agent::binary());
        command.args(line.split_whitespace());
        Self::start_command(machine, place, node, command)
    }

    /// Starts a command that is a trial, or becomes it.
    pub fn start_command(
        machine: &Machine,
        place: &Namespace,
        node: &str,
        mut command: Command,
    ) -> Self {
        let log = machine.folder.join("trial.log");
        let file = File::create(&log).expect("make a log");
        let both = file.try_clone().expect("share a file");
        command.stdin(Stdio::null()).stdout(both).stderr(file);
        let child = place.inside(|| command.spawn()).expect("start a trial");
        Self {
            child,
            terminal: None,
            folder: PathBuf::from("/run/ciliate").join(node).join("trial"),
            log,
        }
    }

    /// Starts a trial at a terminal, as a shell would.
    pub fn at_a_terminal(machine: &Machine, place: &Namespace, node: &str, line: &str) -> Self {
        let (master, slave) = terminal();
        let log = machine.folder.join("trial.log");
        File::create(&log).expect("make a log");
        let mut command = Command::new("setsid");
        let slave = || slave.try_clone().expect("share a terminal");
        command
            .args(["--ctty", "--wait"])
            .arg(agent::binary())
            .args(line.split_whitespace())
            .stdin(slave())
            .stdout(slave())
            .stderr(slave());
        let child = place.inside(|| command.spawn()).expect("start a trial");
        Self {
            child,
            terminal: Some(master),
            folder: PathBuf::from("/run/ciliate").join(node).join("trial"),
            log,
        }
    }

    /// Waits until what is tried is applied.
    #[must_use]
    pub fn wait_for_answer(self) -> Self {
        let mut record = Value::Null;
        wait_until("it waits for an answer", || {
            record = self.record();
            record["phase"] == "waiting"
        });
        self
    }

    /// Returns the record of the trial, if there is one.
    pub fn record(&self) -> Value {
        let text = fs::read(self.folder.join("record.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Returns the process that guards it.
    pub fn guard(&self) -> u32 {
        let pid = self.record()["pid"].as_u64().expect("the trial runs");
        u32::try_from(pid).expect("a pid")
    }

    /// Returns the process that was started.
    pub fn front(&self) -> u32 {
        self.child.id()
    }

    /// Types something.
    pub fn types(&mut self, text: &str) {
        let terminal = self.terminal.as_mut().expect("it has a terminal");
        terminal.write_all(text.as_bytes()).expect("type");
    }

    /// Closes the terminal, as a connection does that is lost.
    pub fn hang_up(&mut self) {
        self.terminal = None;
    }

    /// Returns what the trial has said, unless it has a terminal.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Tells whether the process that was started has ended.
    pub fn is_over(&mut self) -> bool {
        let ended = self.child.try_wait().expect("look at the trial");
        ended.is_some()
    }

    /// Waits for the end, as long as a deadline of some seconds may be away. Returns the exit code;
    /// `None` after a signal.
    pub fn code(&mut self) -> Option<i32> {
        let end = Instant::now() + 3 * PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait for the trial") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the trial should end: {}", self.log());
    }

    /// Kills first the process at the terminal and then the guard, and waits until both are gone.
    pub fn kill(mut self) {
        let guard = self.guard();
        drop(self.child.kill());
        drop(self.child.wait());
        signal(guard, Signal::SIGKILL);
        wait_until("the guard is gone", || !is_alive(guard));
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let guard = self.record()["pid"].as_u64().unwrap_or_default();
        // A record may have outlived its guard.
        let name = fs::read_to_string(format!("/proc/{guard}/comm")).unwrap_or_default();
        if name == "ciliate\n" {
            let guard = i32::try_from(guard).expect("a pid");
            let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Makes a terminal whose ends nobody inherits: it is hung up when the first one is closed.
fn terminal() -> (File, File) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("make a terminal");
    grantpt(&master).expect("grant a terminal");
    unlockpt(&master).expect("unlock a terminal");
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(ptsname_r(&master).expect("name a terminal"));
    (
        OwnedFd::from(master).into(),
        slave.expect("open a terminal"),
    )
}

/// Sends a process a signal.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(pid, signal).expect("send a signal");
}

/// Tells whether a process is there and not only waited for.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
