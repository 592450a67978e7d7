//! A process in a session of its own, which no terminal can stop, end or hold up.
//!
//! What a shell starts leads a process group, and cannot leave its session. So the process is
//! split. One side stays: it has the terminal, and may be stopped, hung up and killed with it. The
//! other one leaves, and writes into pipes that it never waits for, since a terminal may be held
//! up too: by Ctrl-S, or by a network that is cut.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, pipe};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::error::{Error, Result};

/// Is the side of a split process that one is.
#[derive(Debug)]
pub enum Side {
    /// The one in the session of the caller.
    Stays(Other),
    /// The one in a session of its own, whose output the other one reads.
    Leaves,
}

/// Is the side of a split process that left, as the other one sees it.
#[derive(Debug)]
pub struct Other {
    pub pid: Pid,
    /// What it writes; both end with it.
    pub out: PipeReader,
    pub err: PipeReader,
}

/// Splits the process in two.
///
/// # Errors
/// If it has more than one thread, or the kernel refuses.
pub fn split() -> Result<Side> {
    let failed = |errno| Error::system("split the process", errno);
    let threads = fs::read_dir("/proc/self/task")
        .map_err(|error| Error::file("count threads", &error))?
        .count();
    if threads != 1 {
        return Err(failed(Errno::EBUSY));
    }
    let piped = || pipe().map_err(|error| Error::file("make a pipe", &error));
    let ((out, out_writer), (err, err_writer)) = (piped()?, piped()?);
    #[expect(unsafe_code, reason = "there is no safe call")]
    // SAFETY: there is no other thread, so that no lock is held that the new process would wait
    // for.
    let forked = unsafe { fork() }.map_err(failed)?;
    match forked {
        ForkResult::Parent { child: pid } => Ok(Side::Stays(Other { pid, out, err })),
        ForkResult::Child => {
            leave(&out_writer, &err_writer).map_err(failed)?;
            Ok(Side::Leaves)
        }
    }
}

fn leave(out: &PipeWriter, err: &PipeWriter) -> nix::Result<()> {
    setsid()?;
    for pipe in [out, err] {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let nothing = File::open("/dev/null").map_err(|error| super::error::errno(&error))?;
    dup2_stdin(nothing)?;
    dup2_stdout(out)?;
    dup2_stderr(err)
}
