//! The resident agent, in the background.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
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
    /// Where it tells the service manager how it is.
    manager: Manager,
}

/// Is a service manager, which reads at once what it is told.
#[derive(Debug)]
struct Manager {
    told: Receiver<Vec<String>>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bind a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a socket has a timeout");
        let (sender, told) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 1024];
            while !ends.load(Ordering::Relaxed) {
                // Nothing was told meanwhile, or the wait was interrupted.
                let Ok(len) = socket.recv(&mut bytes) else {
                    continue;
                };
                let text = String::from_utf8_lossy(&bytes[..len]);
                drop(sender.send(text.lines().map(str::to_owned).collect()));
            }
        });
        Self {
            told,
            is_over,
            reader: Some(reader),
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
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
        let manager = Manager::listen(&socket);
        let log = machine.folder.join("log");
        command
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stderr(File::create(&log).expect("make a log"));
        let child = place
            .inside(|| command.spawn())
            .expect("start the resident agent");
        let resident = Self {
            child,
            log,
            manager,
        };
        while resident.told() != ["READY=1"] {}
        resident
    }

    /// Waits for what the agent tells the service manager next, less what is only for people.
    pub fn told(&self) -> Vec<String> {
        let mut told = self.told_all();
        told.retain(|state| !state.starts_with("STATUS="));
        told
    }

    /// Waits for what the agent tells the service manager next, one assignment for each line.
    pub fn told_all(&self) -> Vec<String> {
        let told = self.manager.told.recv_timeout(PATIENCE);
        told.unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    /// Throws away what the agent has told the service manager so far.
    pub fn forget_told(&self) {
        while !self.says_nothing_for(Duration::from_millis(100)) {}
    }

    /// Tells whether the agent tells the service manager nothing for a while.
    pub fn says_nothing_for(&self, time: Duration) -> bool {
        self.manager.told.recv_timeout(time).is_err()
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
