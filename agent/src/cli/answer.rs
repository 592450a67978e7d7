//! What somebody answers to a trial, by a signal.
//!
//! The process in the terminal's session and the guard listen to the same ones: INT and TERM take
//! the trial back, USR1 keeps what is tried, and HUP, which comes when a terminal goes, means
//! nothing.

use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::{flag, low_level::pipe};

/// Says what becomes of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Keep,
    TakeBack,
}

/// Holds the signals back while nobody listens, and lets them through when it is dropped.
#[derive(Debug)]
pub struct Held(SigSet);

impl Held {
    /// Begins to hold them back, in this thread and in what is split off from it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn back() -> nix::Result<Self> {
        let signals = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGHUP,
        ];
        let signals = SigSet::from_iter(signals);
        Ok(Self(signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The mask is one that the kernel gave.
        let _ = self.0.thread_set_mask();
    }
}

/// Receives the signals of this process.
#[derive(Debug)]
pub struct Answers {
    wake: UnixStream,
    keep: Arc<AtomicBool>,
    take_back: Arc<AtomicBool>,
}

impl Answers {
    /// Takes the signals over.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn listen() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let answers = Self {
            wake,
            keep: Arc::default(),
            take_back: Arc::default(),
        };
        let nothing = Arc::default();
        for (signal, asked) in [
            (Signal::SIGINT, &answers.take_back),
            (Signal::SIGTERM, &answers.take_back),
            (Signal::SIGUSR1, &answers.keep),
            (Signal::SIGHUP, &nothing),
        ] {
            // In this order: who is woken must find the flag set.
            flag::register(signal as i32, Arc::clone(asked))?;
            pipe::register(signal as i32, waker.try_clone()?)?;
        }
        Ok(answers)
    }

    /// Returns what was answered since the last call; who takes back goes before who keeps.
    pub fn given(&mut self) -> Option<Answer> {
        let mut bytes = [0; 64];
        loop {
            match self.wake.read(&mut bytes) {
                Ok(len) if len > 0 => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        let is_asked = |flag: &AtomicBool| flag.swap(false, Ordering::Relaxed);
        let (take_back, keep) = (is_asked(&self.take_back), is_asked(&self.keep));
        if take_back {
            Some(Answer::TakeBack)
        } else {
            keep.then_some(Answer::Keep)
        }
    }
}

impl AsFd for Answers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
