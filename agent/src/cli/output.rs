//! Where a verb writes: a reader that has gone is no failure.
//!
//! `ciliate plan | head` ends with the exit code of the plan. What is written after the reader
//! has gone is dropped, and so is what a reader who may not be waited for does not take within a
//! second; every other failure is the caller's.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

/// How long a reader is waited for, all in all, where a write does not wait by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the write is tried meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// Swallows what nobody reads any more.
#[derive(Debug)]
pub struct Output<W> {
    writer: W,
    patience: Duration,
}

impl<W: Write> Output<W> {
    /// Writes to somebody who may go.
    pub fn new(writer: W) -> Self {
        let patience = PATIENCE;
        Self { writer, patience }
    }

    /// Calls until the reader takes it; what is dropped yields `dropped`.
    fn retry<T>(
        &mut self,
        dropped: T,
        mut call: impl FnMut(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match call(&mut self.writer) {
                Err(error) if is_gone(&error) => return Ok(dropped),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.patience.is_zero() {
                        return Ok(dropped);
                    }
                    thread::sleep(PAUSE);
                    self.patience = self.patience.saturating_sub(PAUSE);
                }
                other => return other,
            }
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(bytes.len(), |writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.retry((), Write::flush)
    }
}

/// Tells whether nobody reads any more: the other end of a pipe is closed, or a terminal is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe || error.raw_os_error() == Some(Errno::EIO as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(Errno);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0 as i32))
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(self.0 as i32))
        }
    }

    fn writes(errno: Errno) -> bool {
        let mut output = Output::new(Failing(errno));
        writeln!(output, "text")
            .and_then(|()| output.flush())
            .is_ok()
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure() {
        assert!(writes(Errno::EPIPE), "the other end of a pipe is closed");
        assert!(writes(Errno::EIO), "the terminal is gone");
        assert!(!writes(Errno::ENOSPC));
    }

    #[test]
    fn reader_that_takes_nothing_is_not_waited_for_long() {
        assert!(writes(Errno::EAGAIN));
    }
}
