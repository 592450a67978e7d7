//! Somebody who is connected to the control socket: the request, and the answer as far as it is
//! taken. Nothing here waits.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::protocol::Reply;

/// Longest request, in bytes, with its newline.
pub(super) const REQUEST_MAX: usize = 4096;

/// How long a client may take to ask, and how long to read the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Is somebody who is connected.
pub(super) struct Caller {
    /// Tells it from others.
    pub number: u64,
    stream: UnixStream,
    stage: Stage,
    /// When it is left behind.
    deadline: Instant,
}

/// Tells how far a client has come.
enum Stage {
    /// It has sent this much of its request.
    Asks(Vec<u8>),
    /// Its request is being answered.
    Waits,
    /// This is left of its answer.
    Reads(Vec<u8>),
}

impl Caller {
    /// Listens to who has just connected; the stream never waits.
    pub(super) fn new(number: u64, stream: UnixStream, now: Instant) -> Self {
        Self {
            number,
            stream,
            stage: Stage::Asks(Vec::new()),
            deadline: now + PATIENCE,
        }
    }

    /// Returns what is waited for.
    pub(super) fn source(&self) -> (BorrowedFd<'_>, PollFlags) {
        let flags = match self.stage {
            Stage::Asks(_) | Stage::Waits => PollFlags::POLLIN,
            Stage::Reads(_) => PollFlags::POLLOUT,
        };
        (self.stream.as_fd(), flags)
    }

    /// Returns when it is left behind.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Reads what has come; returns the request when it is whole.
    pub(super) fn line(&mut self) -> Option<Vec<u8>> {
        let Stage::Asks(request) = &mut self.stage else {
            return None;
        };
        let mut bytes = [0; 512];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    self.leave();
                    return None;
                }
                Ok(len) => request.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.leave();
                    return None;
                }
            }
            if let Some(end) = request.iter().position(|byte| *byte == b'\n')
                && end < REQUEST_MAX
            {
                let line = request[..end].to_vec();
                self.stage = Stage::Waits;
                return Some(line);
            }
            if request.len() >= REQUEST_MAX {
                let message = format!("a request has at most {REQUEST_MAX} bytes");
                self.refuse(message, Instant::now());
                return None;
            }
        }
    }

    /// Says why there is no other answer.
    pub(super) fn refuse(&mut self, message: String, now: Instant) {
        self.answer(&Reply::Error { message }, now);
    }

    /// Answers the request.
    pub(super) fn answer(&mut self, reply: &Reply, now: Instant) {
        // Types of ours have no keys that JSON could not say.
        let mut line = serde_json::to_vec(reply).unwrap_or_default();
        line.push(b'\n');
        self.stage = Stage::Reads(line);
        self.deadline = now + PATIENCE;
    }

    /// Sends as much of the answer as is taken.
    pub(super) fn send(&mut self) {
        while let Stage::Reads(left) = &mut self.stage
            && !left.is_empty()
        {
            match self.stream.write(left) {
                Ok(len) => drop(left.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => return,
                Err(_) => return self.leave(),
            }
        }
    }

    /// Has nothing more to do with the client.
    fn leave(&mut self) {
        self.stage = Stage::Reads(Vec::new());
    }

    /// Tells whether there is more to do with it.
    pub(super) fn is_there(&self, now: Instant) -> bool {
        let is_done = matches!(&self.stage, Stage::Reads(left) if left.is_empty());
        !is_done && now < self.deadline
    }
}

/// Tells whether there is nothing to take, or no room, for now.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}
