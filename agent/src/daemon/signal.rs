//! Signals, as flags and a descriptor that wakes `poll`.

use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level::pipe};

/// Asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// TERM or INT: end.
    Stop,
    /// HUP: read the file anew.
    Reload,
    /// USR1: tell the log what the agent knows.
    Dump,
}

/// Receives the signals of this process, whichever thread the kernel chooses for them.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    dump: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn take() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Self {
            wake,
            stop: Arc::default(),
            reload: Arc::default(),
            dump: Arc::default(),
        };
        for (signal, asked) in [
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGHUP, &signals.reload),
            (SIGUSR1, &signals.dump),
        ] {
            // In this order: who is woken must find the flag set.
            flag::register(signal, Arc::clone(asked))?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Returns something that was asked for since the last call; ask again until it is nothing.
    pub fn request(&mut self) -> Option<Request> {
        self.empty();
        if self.stop.load(Ordering::Relaxed) {
            return Some(Request::Stop);
        }
        let take = |asked: &AtomicBool, request| {
            let asked = asked.swap(false, Ordering::Relaxed);
            asked.then_some(request)
        };
        take(&self.reload, Request::Reload).or_else(|| take(&self.dump, Request::Dump))
    }

    /// Takes the bytes that woke us; whatever they were, the flags tell what they mean.
    fn empty(&mut self) {
        let mut bytes = [0; 64];
        loop {
            match self.wake.read(&mut bytes) {
                Ok(len) if len > 0 => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
