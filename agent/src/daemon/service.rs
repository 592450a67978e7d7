//! What the service manager is told, where there is one that listens (`sd_notify(3)`).
//!
//! Ready means that the datapath carries packets. The watchdog is fed by the loop, whenever it
//! turns and it is time: a loop that hangs is not alive, whatever else of the process is.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// What part of the watchdog's patience passes before it is fed.
const SHARE: u32 = 2;

/// Names where the service manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How long a manager that has too much to read is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Says what the agent is about before the node is set up.
pub fn progress(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// Is the service manager.
#[derive(Debug)]
pub struct Manager {
    watchdog: Option<Watchdog>,
    /// What it was told last.
    status: String,
}

impl Manager {
    /// Asks what the service manager expects.
    pub fn new(now: Instant) -> Self {
        let patience = sd_notify::watchdog_enabled();
        Self {
            watchdog: patience.map(|patience| Watchdog::new(patience, now)),
            status: String::new(),
        }
    }

    /// Says that packets are carried, after the start and after a reload.
    pub fn ready(&mut self, status: String) {
        tell(&[NotifyState::Status(&status), NotifyState::Ready]);
        self.status = status;
    }

    /// Says how the node is, unless that is known.
    pub fn status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Says that the file is read anew; [`Self::ready`] says that it is done, however it ended.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => log::debug!("read the clock for the service manager: {error}"),
        }
    }

    /// Says that the agent ends; the datapath stays.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Returns when the watchdog is to be fed, if there is one.
    pub fn next(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next)
    }

    /// Says that the loop turns, if it is time.
    pub fn turn(&mut self, now: Instant) {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.is_due(now)
        {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Knows when the watchdog is to be fed.
#[derive(Debug)]
struct Watchdog {
    period: Duration,
    next: Instant,
}

impl Watchdog {
    fn new(patience: Duration, now: Instant) -> Self {
        let period = patience / SHARE;
        Self {
            period,
            next: now + period,
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.period;
        }
        is_due
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // The node is kept all the same.
    if let Err(error) = send(states) {
        log::debug!("tell the service manager {states:?}: {error}");
    }
}

/// Sends one message. Unlike the library's own, it does not wait for a manager that does not read.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(path) = env::var_os(SOCKET) else {
        return Ok(());
    };
    let lines: Vec<String> = states.iter().map(|state| format!("{state}\n")).collect();
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(lines.concat().as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdog_is_fed_twice_within_its_patience() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(Duration::from_secs(20), start);

        let fed: Vec<u64> = (0..40)
            .filter(|second| watchdog.is_due(start + Duration::from_secs(*second)))
            .collect();

        assert_eq!(fed, [10, 20, 30]);
    }
}
