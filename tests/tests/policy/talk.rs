//! A conversation by TCP and one by UDP between the same two, which a policy may interrupt.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use tests::lab::conversation::bound;
use tests::lab::estate::Estate;
use tests::lab::{PATIENCE, uninterrupted};
use tests::party::Family;

/// How long something is waited for that should not come.
const MOMENT: Duration = Duration::from_millis(150);
/// Shortest wait there is.
const INSTANT: Duration = Duration::from_millis(1);

/// Is both conversations; each end has said as much as the other has heard, if nothing stopped it.
pub(crate) struct Talk {
    /// The client's end and the server's.
    streams: [TcpStream; 2],
    sockets: [UdpSocket; 2],
    /// Where the ends send datagrams to.
    targets: [SocketAddr; 2],
    /// How many bytes of each end have not been heard yet.
    unheard: [usize; 2],
}

impl Talk {
    /// Begins both conversations, which must be allowed.
    pub(crate) fn start(net: &Estate, client: &str, server: &str, family: Family) -> Self {
        let address = net.address(server, family);
        let listener = net.place(server).inside(|| TcpListener::bind((address, 0)));
        let listener = listener.expect("listen");
        let target = listener.local_addr().expect("bound");
        let stream = net
            .place(client)
            .inside(|| TcpStream::connect_timeout(&target, PATIENCE));
        let stream = stream.expect("connect");
        let (other, _) = listener.accept().expect("accept");
        let near = bound(net.place(client), net.address(client, family));
        let far = bound(net.place(server), address);
        let far_target = far.local_addr().expect("bound");
        near.send_to(b"hello", far_target).expect("send");
        let (_, seen) = uninterrupted(|| far.recv_from(&mut [0; 8])).expect("the greeting arrives");
        Self {
            streams: [stream, other],
            sockets: [near, far],
            targets: [far_target, seen],
            unheard: [0; 2],
        }
    }

    /// Speaks both ways; everything must arrive.
    pub(crate) fn expect_to_pass(&mut self) {
        // The flow takes the fast path after the first of these.
        for _ in 0..4 {
            for end in [0, 1] {
                self.say(end);
                assert!(
                    self.hears_datagram(1 - end, PATIENCE),
                    "datagram of end {end}"
                );
            }
            self.expect_streams();
        }
    }

    /// Speaks both ways in several conversations; nothing may arrive.
    pub(crate) fn expect_to_stop(talks: &mut [Self], what: &str) {
        for talk in &mut *talks {
            for end in [0, 1] {
                talk.say(end);
            }
        }
        // What comes is there a moment after the last was sent.
        let mut wait = MOMENT;
        for talk in talks {
            for end in [0, 1] {
                let (target, heard) = (talk.targets[0], talk.hears_segment(1 - end, wait));
                wait = INSTANT;
                assert!(!heard, "segment of end {end}, {target}, {what}");
                let heard = talk.hears_datagram(1 - end, wait);
                assert!(!heard, "datagram of end {end}, {target}, {what}");
            }
        }
    }

    /// Expects that what was not heard of TCP still comes, and that everything passes again.
    pub(crate) fn expect_to_go_on(&mut self) {
        self.expect_streams();
        self.expect_to_pass();
    }

    fn say(&mut self, end: usize) {
        self.streams[end].write_all(b"word").expect("write");
        self.unheard[end] += 4;
        let sent = self.sockets[end].send_to(b"word", self.targets[end]);
        assert_eq!(sent.expect("send"), 4);
    }

    fn expect_streams(&mut self) {
        for end in [0, 1] {
            let mut bytes = vec![0; self.unheard[end]];
            self.streams[1 - end]
                .set_read_timeout(Some(PATIENCE))
                .expect("set a timeout");
            let heard = self.streams[1 - end].read_exact(&mut bytes);
            heard.unwrap_or_else(|error| panic!("segments of end {end} should come: {error}"));
            self.unheard[end] = 0;
        }
    }

    fn hears_segment(&mut self, end: usize, wait: Duration) -> bool {
        self.streams[end]
            .set_read_timeout(Some(wait))
            .expect("set a timeout");
        match uninterrupted(|| self.streams[end].read(&mut [0; 64])) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("the connection should not end: {error}"),
        }
    }

    fn hears_datagram(&self, end: usize, wait: Duration) -> bool {
        self.sockets[end]
            .set_read_timeout(Some(wait))
            .expect("set a timeout");
        uninterrupted(|| self.sockets[end].recv(&mut [0; 64])).is_ok()
    }
}
