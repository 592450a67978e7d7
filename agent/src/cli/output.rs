//! Where a verb writes: a reader that has gone is no failure.
//!
//! `ciliate plan | head` ends with the exit code of the plan. What is written after the reader
//! has gone is dropped; every other failure is the caller's.

use std::io::{self, ErrorKind, Write};

/// Swallows what nobody reads any more.
#[derive(Debug)]
pub struct Output<W>(pub W);

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure() {
        let mut gone = Output(Failing(ErrorKind::BrokenPipe));
        assert!(writeln!(gone, "text").and_then(|()| gone.flush()).is_ok());

        let mut full = Output(Failing(ErrorKind::StorageFull));
        assert!(writeln!(full, "text").is_err());
    }
}
