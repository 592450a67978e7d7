//! Asks a resident agent, by its control socket.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::protocol::{Reply, Request};

/// Says why an agent did not answer.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("no agent answers at {}", .0.display())]
    NoAgent(PathBuf),
    #[error("ask the agent at {}: {source}", path.display())]
    Failed { path: PathBuf, source: io::Error },
    /// It may not be asked, or answered that it will not.
    #[error("ask the agent at {}: {why}", .0.display(), why = .1)]
    NotPermitted(PathBuf, String),
}

/// Asks the agent whose socket this is, and waits this long for the answer.
///
/// # Errors
/// If there is none, or it does not answer.
pub fn ask(path: &Path, request: Request, patience: Duration) -> Result<Reply, AskError> {
    match exchange(path, request, patience) {
        Ok(Reply::Error { message }) => Err(AskError::NotPermitted(path.to_owned(), message)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(AskError::NotPermitted(path.to_owned(), error.to_string()))
        }
        Ok(reply) => Ok(reply),
        // None was started, or one was killed, or it could not make so long a path.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput
            ) =>
        {
            Err(AskError::NoAgent(path.to_owned()))
        }
        Err(source) => Err(AskError::Failed {
            path: path.to_owned(),
            source,
        }),
    }
}

fn exchange(path: &Path, request: Request, patience: Duration) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    match stream.write_all(line.as_bytes()) {
        // It hung up before we asked, and has said why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other?,
    }
    line.clear();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it hung up"));
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Answers the first client with this, and hangs up before it can ask.
    fn answer(reply: &'static str) -> Result<Reply, AskError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
        });
        let reply = ask(&path, Request::Status, PATIENCE);
        agent.join().unwrap();
        reply
    }

    #[test]
    fn refusal_is_read_also_if_it_comes_before_the_request() {
        for _ in 0..50 {
            let reply = answer("{\"reply\":\"error\",\"message\":\"no\"}\n");
            assert!(
                matches!(&reply, Err(AskError::NotPermitted(_, why)) if why == "no"),
                "{reply:?}"
            );
        }
    }

    #[test]
    fn answer_that_is_none_is_told() {
        for reply in ["", "{}\n", "{\"reply\":"] {
            let reply = answer(reply);
            assert!(matches!(reply, Err(AskError::Failed { .. })), "{reply:?}");
        }
    }

    #[test]
    fn path_without_an_agent_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("left");
        drop(UnixListener::bind(&left).unwrap());
        let long = folder.path().join("x".repeat(108));

        for path in [left, long, folder.path().join("missing")] {
            let reply = ask(&path, Request::Status, PATIENCE);
            assert!(
                matches!(&reply, Err(AskError::NoAgent(at)) if *at == path),
                "{reply:?}"
            );
        }
    }
}
