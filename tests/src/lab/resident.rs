//! The resident agent, in the background.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent;
use super::machine::Machine;
use super::namespace::Namespace;
use super::{PATIENCE, wait_until};

/// Is `ciliate run`, which ends with this value.
#[derive(Debug)]
pub struct Resident {
    child: Child,
    log: PathBuf,
}

impl Resident {
    /// Starts the agent with a file, and waits until it says that it is ready.
    pub fn start(machine: &Machine, place: &Namespace, file: &str) -> Self {
        let mut command = Command::new(agent::binary());
        command.args(["run", file]);
        Self::start_command(machine, place, command)
    }

    /// Starts a command that is the agent, or becomes it, and waits until it is ready.
    pub fn start_command(machine: &Machine, place: &Namespace, mut command: Command) -> Self {
        let socket = machine.folder.join("notify");
        drop(fs::remove_file(&socket));
        let manager = UnixDatagram::bind(&socket).expect("bind a socket");
        manager
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket has a timeout");
        let log = machine.folder.join("log");
        command
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stderr(File::create(&log).expect("make a log"));
        let child = place
            .inside(|| command.spawn())
            .expect("start the resident agent");
        let resident = Self { child, log };
        let mut state = [0; 64];
        let len = loop {
            match manager.recv(&mut state) {
                Ok(len) => break len,
                // A wait with a timeout is not resumed after a stop (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}: {}", resident.log()),
            }
        };
        assert_eq!(&state[..len], b"READY=1\n");
        resident
    }

    /// Returns what the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("read the log")
    }

    /// Waits until the agent has logged this text.
    pub fn expect_log(&self, text: &str) {
        wait_until(&format!("the agent logs {text:?}"), || {
            self.log().contains(text)
        });
    }

    /// Waits for so long until the agent has logged this text.
    pub fn expect_log_within(&self, text: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.log().contains(text) {
            let log = self.log();
            assert!(
                Instant::now() < deadline,
                "should log {text:?} within {patience:?}: {log}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, signal).expect("send a signal");
    }

    /// Sends the agent a signal that ends it. Returns its exit code; `None` if it was killed.
    pub fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.exit_code()
    }

    /// Waits for the end of the agent.
    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("wait for the agent") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the agent should end: {}", self.log());
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
