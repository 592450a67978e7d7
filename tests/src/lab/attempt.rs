//! One attempt to speak with somebody, and what became of it.

use std::io::{Error, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::estate::Estate;
use super::uninterrupted;
use crate::party::Family;

/// How long an answer may take where one should come.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an answer is waited for where none should come.
const MOMENT: Duration = Duration::from_millis(150);
/// How many attempts are under way at a time.
const WIDTH: usize = 48;
/// Gives each packet of SCTP a tag of its own.
static TAGS: AtomicU32 = AtomicU32::new(1);

/// Says how somebody is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Tcp(u16),
    Udp(u16),
    /// A datagram of so many bytes to a port.
    Large(u16, usize),
    Echo,
    /// The first packet of SCTP to a port, to a socket that takes all of them: kernels without
    /// SCTP carry it as well.
    Sctp(u16),
}

/// Says what became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered.
    Passes,
    /// Nothing came.
    Silence,
    /// An error came, which says that somebody on the way refuses.
    Told,
}

/// Is an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub means: Means,
    pub family: Family,
    /// What should become of it.
    pub expected: Fate,
}

impl Means {
    /// Reads `tcp/80`, `udp/53`, `sctp/9` or `icmp`.
    pub fn parse(text: &str) -> Self {
        let (word, port) = text.split_once('/').unwrap_or((text, "0"));
        let port = port.parse().expect("a port");
        match word {
            "tcp" => Self::Tcp(port),
            "udp" => Self::Udp(port),
            "large" => Self::Large(port, 4_000),
            "sctp" => Self::Sctp(port),
            "icmp" => Self::Echo,
            _ => panic!("{text} should be a protocol"),
        }
    }
}

/// Makes many attempts, and fails with all that did not become what they should.
pub fn expect_all(estate: &Estate, what: &str, attempts: &[Attempt<'_>]) {
    let wrong: Vec<_> = make_all(estate, attempts)
        .into_iter()
        .zip(attempts)
        .filter(|(fate, attempt)| *fate != attempt.expected)
        .map(|(fate, attempt)| format!("{fate:?}: {attempt:?}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{what}, {} of {} attempts end otherwise:\n{}",
        wrong.len(),
        attempts.len(),
        wrong.join("\n")
    );
}

/// Makes many attempts: those that should be answered one by one, for flows that wait for their
/// first answer may push each other out, and then the others, several at a time.
fn make_all(estate: &Estate, attempts: &[Attempt<'_>]) -> Vec<Fate> {
    let is_quick = |attempt: &Attempt<'_>| attempt.expected == Fate::Passes;
    let quick: Vec<_> = attempts
        .iter()
        .map(|attempt| is_quick(attempt).then(|| make(estate, attempt)))
        .collect();
    let others = attempts.iter().filter(|attempt| !is_quick(attempt));
    let others: Vec<_> = others.collect();
    let mut slow = Vec::new();
    for some in others.chunks(WIDTH) {
        thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|attempt| scope.spawn(|| make(estate, attempt)))
                .collect();
            let ended = running.into_iter();
            slow.extend(ended.map(|one| one.join().expect("an attempt ends")));
        });
    }
    let mut slow = slow.into_iter();
    quick
        .into_iter()
        .map(|fate| fate.or_else(|| slow.next()).expect("each was made"))
        .collect()
}

/// Makes one attempt.
pub fn make(estate: &Estate, attempt: &Attempt<'_>) -> Fate {
    let wait = if attempt.expected == Fate::Silence {
        MOMENT
    } else {
        PATIENCE
    };
    let [near, far] = [attempt.from, attempt.to].map(|name| estate.address(name, attempt.family));
    // Nodes have several addresses, and choose.
    let near = (attempt.from == "other").then_some(near);
    let from = estate.place(attempt.from);
    let result = match attempt.means {
        Means::Tcp(port) => from.inside(|| tcp((far, port).into(), near, wait)),
        Means::Udp(port) => from.inside(|| udp((far, port).into(), near, wait, 8)),
        Means::Large(port, len) => from.inside(|| udp((far, port).into(), near, wait, len)),
        Means::Echo => from.inside(|| echo(far, wait)),
        Means::Sctp(port) => {
            let receiver = estate.place(attempt.to).inside(|| raw(far, wait));
            from.inside(|| sctp(&receiver, (far, port).into()))
        }
    };
    match result {
        Ok(()) => Fate::Passes,
        Err(error) => fate(&error),
    }
}

fn fate(error: &Error) -> Fate {
    // A program of the node whose packet is dropped at the device learns it from the call.
    if error.raw_os_error() == Some(Errno::ENOBUFS as i32) {
        return Fate::Silence;
    }
    let kind = error.kind();
    if matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock) {
        return Fate::Silence;
    }
    let is_told = matches!(
        kind,
        ErrorKind::HostUnreachable | ErrorKind::PermissionDenied
    );
    assert!(
        is_told,
        "an attempt should end with an answer, silence or a refusal: {error}"
    );
    Fate::Told
}

fn tcp(to: SocketAddr, from: Option<IpAddr>, wait: Duration) -> Result<(), Error> {
    assert_eq!(from, None, "TCP is not bound");
    let mut stream = TcpStream::connect_timeout(&to, wait)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Both sides have closed, and nothing is sent again later.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn udp(to: SocketAddr, from: Option<IpAddr>, wait: Duration, len: usize) -> Result<(), Error> {
    let socket = UdpSocket::bind((from.unwrap_or(any(to.ip())), 0))?;
    ask(&socket, to, wait, &vec![7; len])
}

fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0; 16].into(),
    }
}

/// Sends a question and waits for an answer as long.
fn ask(socket: &UdpSocket, to: SocketAddr, wait: Duration, question: &[u8]) -> Result<(), Error> {
    socket.set_read_timeout(Some(wait))?;
    socket.connect(to)?;
    socket.send(question)?;
    let len = uninterrupted(|| socket.recv(&mut vec![0; 1 << 16]))?;
    assert_eq!(len, question.len(), "all of it should come back");
    Ok(())
}

/// Sends an echo request by a socket for these (icmp(7)).
fn echo(to: IpAddr, wait: Duration) -> Result<(), Error> {
    let (protocol, kind) = match to {
        IpAddr::V4(_) => (SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (SockProtocol::IcmpV6, 128),
    };
    let socket = open(to, SockType::Datagram, protocol);
    ask(&socket, (to, 0).into(), wait, &[kind, 0, 0, 0, 0, 0, 0, 1])
}

/// Opens a socket that takes every packet of SCTP for an address.
fn raw(address: IpAddr, wait: Duration) -> UdpSocket {
    let socket = open(address, SockType::Raw, SockProtocol::Sctp);
    socket.set_read_timeout(Some(wait)).expect("set a timeout");
    socket
}

fn open(like: IpAddr, kind: SockType, protocol: SockProtocol) -> UdpSocket {
    let family = match like {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let opened: OwnedFd =
        socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).expect("open a socket");
    opened.into()
}

/// Sends a packet with a tag of its own, which must arrive.
fn sctp(receiver: &UdpSocket, to: SocketAddr) -> Result<(), Error> {
    let sender = open(to.ip(), SockType::Raw, SockProtocol::Sctp);
    let own = TAGS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let (port, sum) = (to.port().to_be_bytes(), [0; 4]);
    // A chunk that begins a connection, without what it should carry.
    let packet = [&[39, 15], &port[..], &own, &sum, &[1, 0, 0, 4]].concat();
    sender.connect(SocketAddr::new(to.ip(), 0))?;
    sender.send(&packet)?;
    let mut bytes = [0; 256];
    loop {
        let len = uninterrupted(|| receiver.recv(&mut bytes))?;
        if bytes[..len].ends_with(&packet) {
            return Ok(());
        }
    }
}
