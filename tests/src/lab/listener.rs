//! Sockets that answer whoever gets through to them, until they are dropped.
//!
//! TCP accepts and closes, UDP sends back what it got. One thread serves all sockets of a place.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::Namespace;

/// Ports that answer.
pub const TCP_PORTS: [u16; 7] = [22, 80, 443, 5432, 8000, 8005, 8011];
pub const UDP_PORTS: [u16; 3] = [53, 123, 5353];

/// How soon the thread notices that it is over, in milliseconds.
const TURN_MS: u16 = 50;

/// Is the sockets of one place.
pub struct Listeners {
    is_over: Arc<AtomicBool>,
}

struct Sockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Listeners {
    /// Listens at some addresses of a place.
    pub fn start(place: &Namespace, addresses: &[IpAddr]) -> Self {
        let sockets = place.inside(|| Sockets::open(addresses));
        let is_over = Arc::new(AtomicBool::new(false));
        thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    sockets.serve();
                }
            }
        });
        Self { is_over }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Sockets {
    fn open(addresses: &[IpAddr]) -> Self {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for address in addresses {
            tcp.extend(TCP_PORTS.map(|port| TcpListener::bind((*address, port)).expect("listen")));
            udp.extend(UDP_PORTS.map(|port| UdpSocket::bind((*address, port)).expect("bind")));
        }
        for socket in &tcp {
            socket.set_nonblocking(true).expect("never wait");
        }
        for socket in &udp {
            socket.set_nonblocking(true).expect("never wait");
        }
        Self { tcp, udp }
    }

    /// Answers what has come, or waits a moment for it.
    fn serve(&self) {
        let tcp = self.tcp.iter().map(AsFd::as_fd);
        let fds = tcp.chain(self.udp.iter().map(AsFd::as_fd));
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // An interruption is no more than a turn without work.
        let _ = poll(&mut fds, PollTimeout::from(TURN_MS));
        let ready = |fd: &PollFd<'_>| fd.any() == Some(true);
        let (tcp, udp) = fds.split_at(self.tcp.len());
        for (socket, _) in self.tcp.iter().zip(tcp).filter(|(_, fd)| ready(fd)) {
            while socket.accept().is_ok() {}
        }
        for (socket, _) in self.udp.iter().zip(udp).filter(|(_, fd)| ready(fd)) {
            answer(socket);
        }
    }
}

/// Sends back what a socket has received.
fn answer(socket: &UdpSocket) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match socket.recv_from(&mut bytes) {
            // What policy does with the answer is seen by the one who asked.
            Ok((len, from)) => drop(socket.send_to(&bytes[..len], from)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // An error of an earlier answer.
            Err(_) => {}
        }
    }
}
