//! The control socket: who may ask, what they asked, and the answers, as far as they are taken.
//!
//! Nothing here waits: a client that sends no whole line or does not read is left behind after a
//! while. Each gets one answer. The file's mode keeps others from connecting; who connects all the
//! same (the socket was handed over, or its mode was changed) is asked for its credentials.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, getsockopt,
    listen, socket,
};
use nix::unistd::{getegid, geteuid};

use super::caller::{Caller, is_full};
use super::protocol::{Reply, Request};
use super::warning;
use crate::host::{Error, Result};

/// Mode of the socket.
const MODE: u32 = 0o660;

/// Most clients at a time.
const CLIENTS_MAX: usize = 16;

/// How long nobody is listened to after a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(1);

/// Is the socket with its clients.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Caller>,
    /// The number of the next client.
    next: u64,
    /// Until then nobody is listened to, for want of descriptors: who waits would wake the loop
    /// again and again.
    deaf: Option<Instant>,
}

/// Is a request, and whose it is.
#[derive(Debug)]
pub struct Asked {
    client: u64,
    pub request: Request,
}

impl Control {
    /// Makes the socket; one that an agent left behind is replaced. The caller holds the lock that
    /// keeps other agents away.
    ///
    /// # Errors
    /// If the path is longer than a socket's may be, or the kernel refuses.
    pub fn open(path: &Path) -> Result<Self> {
        let what = |operation: &str| format!("{operation} {}", path.display());
        let system = |operation: &str| {
            let what = what(operation);
            move |errno| Error::system(what, errno)
        };
        let address = UnixAddr::new(path).map_err(system("make control socket"))?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file(what("remove"), &error));
            }
            _ => {}
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(system("make control socket"))?;
        bind(socket.as_raw_fd(), &address).map_err(system("make control socket"))?;
        // Nobody can connect before it listens.
        fs::set_permissions(path, Permissions::from_mode(MODE))
            .map_err(|error| Error::file(what("set mode of"), &error))?;
        listen(&socket, Backlog::MAXCONN).map_err(system("listen on"))?;
        Ok(Self {
            listener: UnixListener::from(socket),
            path: path.to_owned(),
            clients: Vec::new(),
            next: 0,
            deaf: None,
        })
    }

    /// Lists what is waited for.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let clients = self.clients.iter().map(Caller::source);
        let listener = self.deaf.is_none().then(|| self.listener.as_fd());
        clients.chain(listener.map(|listener| (listener, PollFlags::POLLIN)))
    }

    /// Returns when the next client is left behind, or when clients are listened to again.
    pub fn next(&self) -> Option<Instant> {
        let deadlines = self.clients.iter().map(Caller::deadline);
        deadlines.chain(self.deaf).min()
    }

    /// Takes what clients have sent and sends what they take. Returns what they ask for.
    pub fn requests(&mut self, now: Instant) -> Vec<Asked> {
        self.accept(now);
        let mut asked = Vec::new();
        for client in &mut self.clients {
            if let Some(line) = client.line() {
                match serde_json::from_slice(&line) {
                    Ok(request) => asked.push(Asked {
                        client: client.number,
                        request,
                    }),
                    Err(error) => client.refuse(format!("no request: {error}"), now),
                }
            }
            client.send();
        }
        self.clients.retain(|client| client.is_there(now));
        asked
    }

    /// Answers a request.
    pub fn answer(&mut self, asked: &Asked, reply: &Reply, now: Instant) {
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|client| client.number == asked.client) {
            client.answer(reply, now);
            client.send();
        }
        self.clients.retain(|client| client.is_there(now));
    }

    fn accept(&mut self, now: Instant) {
        if self.deaf.is_some_and(|deaf| now < deaf) {
            return;
        }
        self.deaf = None;
        // Not without end, should somebody connect without end.
        for _ in 0..2 * CLIENTS_MAX {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_full(&error) => return,
                Err(_) => {
                    self.deaf = Some(now + PAUSE);
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let refusal = self.refusal(&stream);
            let mut client = Caller::new(self.next, stream, now);
            self.next += 1;
            if let Some(message) = refusal {
                client.refuse(message, now);
                // What does not fit at once is not sent.
                client.send();
            } else {
                self.clients.push(client);
            }
        }
    }

    /// Says why somebody is not listened to.
    fn refusal(&self, stream: &UnixStream) -> Option<String> {
        let peer = match getsockopt(stream, PeerCredentials) {
            Ok(peer) => peer,
            Err(errno) => return Some(format!("ask for credentials: {}", errno.desc())),
        };
        if !may_ask(&peer) {
            let (code, user, pid) = (warning::STRANGER, peer.uid(), peer.pid());
            log::warn!("{code}: process {pid} of user {user} may not speak with the agent");
            return Some(format!("user {user} may not speak with the agent"));
        }
        (self.clients.len() >= CLIENTS_MAX)
            .then(|| format!("{CLIENTS_MAX} others speak with the agent"))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next agent replaces what stays.
        drop(fs::remove_file(&self.path));
    }
}

/// Tells whether somebody may ask: root, our user, and the members of our group.
fn may_ask(peer: &UnixCredentials) -> bool {
    let group = getegid().as_raw();
    peer.uid() == 0
        || peer.uid() == geteuid().as_raw()
        || peer.gid() == group
        || groups(peer.pid()).contains(&group)
}

/// Returns the further groups of a process; none if it is gone.
fn groups(pid: i32) -> Vec<u32> {
    procfs::process::Process::new(pid)
        .and_then(|process| process.status())
        .map_or_else(|_| Vec::new(), |status| status.groups)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::Shutdown;

    use super::*;
    use crate::daemon::caller::{PATIENCE, REQUEST_MAX};

    fn open() -> (tempfile::TempDir, PathBuf, Control) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl.sock");
        let control = Control::open(&path).unwrap();
        (folder, path, control)
    }

    fn connect(path: &Path, request: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        stream
    }

    fn reply(stream: UnixStream) -> String {
        let mut line = String::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn socket_is_for_owner_and_group_and_goes_with_the_agent() {
        let (_folder, path, control) = open();

        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(control);
        assert!(!path.exists());
        fs::write(&path, "left behind").unwrap();
        assert!(Control::open(&path).is_ok(), "what was left is replaced");
    }

    #[test]
    fn request_in_pieces_is_answered_once() {
        let (_folder, path, mut control) = open();
        let now = Instant::now();

        let mut client = connect(&path, br#"{"requ"#);
        assert!(control.requests(now).is_empty());
        client.write_all(b"est\":\"confirm\"}\nmore").unwrap();
        let asked = control.requests(now);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].request, Request::Confirm);
        assert!(control.requests(now).is_empty(), "one answer for each");
        control.answer(&asked[0], &Reply::Confirm { confirmed: false }, now);

        assert_eq!(
            reply(client),
            "{\"reply\":\"confirm\",\"confirmed\":false}\n"
        );
        assert!(control.clients.is_empty(), "the agent hangs up");
    }

    #[test]
    fn what_is_no_request_is_told() {
        let (_folder, path, mut control) = open();

        for nonsense in ["\n", "{}\n", "{\"request\":\"explode\"}\n", "\u{0}\u{0}\n"] {
            let client = connect(&path, nonsense.as_bytes());
            assert!(control.requests(Instant::now()).is_empty());
            let reply = reply(client);
            assert!(
                reply.starts_with("{\"reply\":\"error\",\"message\":\"no request: "),
                "{reply}"
            );
        }
    }

    #[test]
    fn long_request_is_refused_before_it_ends() {
        let (_folder, path, mut control) = open();

        let client = connect(&path, &[b' '; 3 * REQUEST_MAX]);
        assert!(control.requests(Instant::now()).is_empty());

        assert!(reply(client).contains("a request has at most 4096 bytes"));
        assert!(control.clients.is_empty());
    }

    #[test]
    fn more_clients_than_there_may_be_are_told_and_old_ones_make_room_in_the_end() {
        let (_folder, path, mut control) = open();
        let now = Instant::now();

        let _silent: Vec<_> = (0..CLIENTS_MAX).map(|_| connect(&path, b"")).collect();
        let client = connect(&path, b"");
        assert!(control.requests(now).is_empty());
        assert!(reply(client).contains("16 others speak with the agent"));
        assert_eq!(control.next(), Some(now + PATIENCE));

        assert!(control.requests(now + PATIENCE).is_empty());
        assert!(control.clients.is_empty());
    }

    #[test]
    fn client_that_does_not_read_is_left_behind_and_keeps_nobody() {
        let (_folder, path, mut control) = open();
        let now = Instant::now();
        let request = b"{\"request\":\"status\"}\n";
        let message = "x".repeat(4 << 20);

        let deaf = connect(&path, request);
        let asked = control.requests(now);
        control.answer(&asked[0], &Reply::Error { message }, now);
        assert_eq!(control.clients.len(), 1, "it has not read");

        let other = connect(&path, request);
        let asked = control.requests(now);
        control.answer(&asked[0], &Reply::Confirm { confirmed: true }, now);
        assert!(reply(other).contains("true"));
        assert!(control.requests(now + PATIENCE).is_empty());
        assert!(control.clients.is_empty(), "left behind");
        drop(deaf);
    }

    #[test]
    fn client_that_goes_is_forgotten() {
        let (_folder, path, mut control) = open();
        let now = Instant::now();

        let client = connect(&path, b"{");
        client.shutdown(Shutdown::Both).unwrap();
        assert!(control.requests(now).is_empty());

        assert!(control.clients.is_empty());
    }

    #[test]
    fn path_that_is_too_long_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(108));

        let error = Control::open(&path).err().expect("too long").to_string();

        assert!(error.starts_with("make control socket /"), "{error}");
    }

    #[test]
    fn strangers_may_not_ask() {
        assert!(may_ask(&UnixCredentials::new()), "our own");
        // Of the first process, as far as groups go.
        assert!(groups(-1).is_empty());
    }
}
