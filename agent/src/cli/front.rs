//! The side of `ciliate try` that stays in the terminal's session.
//!
//! It shows what the guard writes, and tells it what the operator answers: by a line (nothing or
//! `y` keeps, anything else takes back), or by a signal. It decides nothing, and may be stopped,
//! hung up or killed at any time: then nobody answers by the terminal, and that is all.

use std::io::{self, IsTerminal as _, PipeReader, Read as _, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{FlushArg, tcflush};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, read, tcgetpgrp};

use super::answer::{Answer, Answers};
use super::exit;
use super::failure::Failure;
use crate::host::{Error, session::Other};

/// The longest line that is an answer, and the most that is shown at once, in bytes.
const LINE_LEN: usize = 4096;

/// Waits for the end of the guard. Returns its exit code.
///
/// # Errors
/// If signals cannot be received, or the guard was killed.
pub fn wait(
    guard: Other,
    mut answers: Answers,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    let mut keyboard = Keyboard::open();
    let (mut text, mut log) = (Some(guard.out), Some(guard.err));
    while text.is_some() || log.is_some() {
        let ready = wait_for([
            Some(answers.as_fd()),
            keyboard
                .as_ref()
                .map(|_| io::stdin())
                .as_ref()
                .map(AsFd::as_fd),
            text.as_ref().map(AsFd::as_fd),
            log.as_ref().map(AsFd::as_fd),
        ])?;
        let mut answer = answers.given();
        if ready[1]
            && let Some(keys) = &mut keyboard
        {
            match keys.answer() {
                Ok(line) => answer = answer.or(line),
                Err(_) => keyboard = None,
            }
        }
        if ready[2] {
            text = text.and_then(|from| show(from, out));
        }
        if ready[3] {
            log = log.and_then(|from| show(from, err));
        }
        if let Some(answer) = answer {
            tell(guard.pid, answer);
        }
    }
    end(guard.pid)
}

/// Tells whether somebody at a terminal can answer: not a job in the background, which would be
/// stopped if it looked.
pub fn is_there() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin) == Ok(getpgrp())
}

/// Reads the answers of the terminal that the process was started from.
struct Keyboard(Vec<u8>);

impl Keyboard {
    fn open() -> Option<Self> {
        is_there().then(|| {
            // What was typed before there was a question is no answer.
            let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
            Self(Vec::new())
        })
    }

    /// Reads what is typed; an error if the terminal has gone.
    fn answer(&mut self) -> Result<Option<Answer>, Errno> {
        let mut bytes = [0; LINE_LEN];
        match read(io::stdin(), &mut bytes) {
            Ok(0) => return Err(Errno::EIO),
            Ok(len) => self.0.extend(&bytes[..len]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
        let Some(end) = self.0.iter().position(|byte| *byte == b'\n') else {
            self.0.truncate(LINE_LEN);
            return Ok(None);
        };
        let line: Vec<u8> = self.0.drain(..=end).collect();
        Ok(Some(meaning(&line)))
    }
}

/// Returns what a line means.
fn meaning(line: &[u8]) -> Answer {
    match line.trim_ascii() {
        b"" | b"y" | b"Y" | b"yes" => Answer::Keep,
        _ => Answer::TakeBack,
    }
}

/// Waits until one of these can be read, or a signal comes; tells which of them can.
fn wait_for<const N: usize>(sources: [Option<BorrowedFd<'_>>; N]) -> Result<[bool; N], Failure> {
    let mut fds: Vec<PollFd<'_>> = sources
        .iter()
        .flatten()
        .map(|source| PollFd::new(*source, PollFlags::POLLIN))
        .collect();
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(Error::system("wait for the guard", errno).into()),
    }
    let mut polled = fds.iter();
    Ok(sources
        .map(|source| source.is_some_and(|_| polled.next().and_then(PollFd::any) == Some(true))))
}

/// Shows what can be read; returns nothing if nothing more will come.
fn show(mut from: PipeReader, to: &mut dyn Write) -> Option<PipeReader> {
    let mut bytes = [0; LINE_LEN];
    match from.read(&mut bytes) {
        Ok(0) | Err(_) => None,
        Ok(len) => {
            // What cannot be shown has nobody to read it.
            let _ = to.write_all(&bytes[..len]).and_then(|()| to.flush());
            Some(from)
        }
    }
}

fn tell(guard: Pid, answer: Answer) {
    let signal = match answer {
        Answer::Keep => Signal::SIGUSR1,
        Answer::TakeBack => Signal::SIGINT,
    };
    // It is our child: until we have waited for it, nobody else has its number.
    let _ = kill(guard, signal);
}

/// Returns the exit code of the guard.
fn end(guard: Pid) -> Result<u8, Failure> {
    loop {
        match waitpid(guard, None) {
            Ok(WaitStatus::Exited(_, code)) => {
                return Ok(u8::try_from(code).unwrap_or(exit::KERNEL));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => return Err(Failure::GuardKilled(signal)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::system("wait for the guard", errno).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_line_and_yes_keep_and_anything_else_takes_back() {
        for line in ["\n", "y\n", " Y \r\n", "yes\n"] {
            assert_eq!(meaning(line.as_bytes()), Answer::Keep, "{line:?}");
        }
        for line in ["n\n", "no\n", "ls -l\n", "yy\n"] {
            assert_eq!(meaning(line.as_bytes()), Answer::TakeBack, "{line:?}");
        }
    }
}
