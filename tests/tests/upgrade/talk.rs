//! Streams and connections of every kind, that must not notice what happens to the node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use tests::lab::PATIENCE;
use tests::lab::conversation::bound;
use tests::lab::namespace::Namespace;
use tests::lab::outside::Outside;
use tests::lab::stream::Stream;
use tests::party::Family;

/// What endpoints say to each other and to the world, until it is over.
pub(crate) struct Talk {
    streams: Vec<Stream>,
    translated: Vec<Conversation>,
    connections: Vec<Connection>,
}

impl Talk {
    /// Begins streams between endpoints, in both directions and families, and connections of TCP and
    /// conversations by UDP between endpoints and with the world.
    pub(crate) fn begin(lab: &Outside) -> Self {
        let net = &lab.net;
        let mut talk = Self {
            streams: Vec::new(),
            translated: Vec::new(),
            connections: Vec::new(),
        };
        for family in Family::BOTH {
            let [web, db] = ["web", "db"].map(|name| net.address(name, family));
            talk.streams.push(Stream::start(&net.web, &net.db, db));
            talk.streams.push(Stream::start(&net.db, &net.web, web));
            let far = Outside::far(family);
            talk.streams.push(Stream::start(&net.api, &lab.world, far));
            let mut conversation = Conversation {
                client: bound(&net.web, web),
                server: bound(&lab.world, far),
                seen: None,
            };
            conversation.go_on();
            talk.translated.push(conversation);
            talk.connections
                .push(Connection::open(&net.web, &lab.world, far));
            talk.connections
                .push(Connection::open(&net.web, &net.db, db));
        }
        talk
    }

    /// Says something on every connection; each must still be the same.
    pub(crate) fn go_on(&mut self) {
        for conversation in &mut self.translated {
            conversation.go_on();
        }
        for connection in &mut self.connections {
            connection.go_on();
        }
    }

    /// Ends everything; nothing may be missing.
    pub(crate) fn end(mut self) {
        self.go_on();
        for stream in self.streams {
            stream.expect_complete();
        }
    }
}

/// Is a conversation by UDP through a translation.
struct Conversation {
    client: UdpSocket,
    server: UdpSocket,
    /// The address that the server saw.
    seen: Option<SocketAddr>,
}

impl Conversation {
    /// Sends a datagram each way; the server must see the same address as before.
    fn go_on(&mut self) {
        let mut bytes = [0; 16];
        // The world speaks first where it may: that needs the translation to be known.
        if let Some(seen) = self.seen {
            self.server.send_to(b"more", seen).expect("send");
            self.client
                .recv(&mut bytes)
                .expect("what the world says should arrive");
        }
        let server = self.server.local_addr().expect("bound");
        self.client.send_to(b"question", server).expect("send");
        let (_, from) = self
            .server
            .recv_from(&mut bytes)
            .expect("the question should arrive");
        assert_eq!(
            *self.seen.get_or_insert(from),
            from,
            "the port outside changed"
        );
    }
}

/// Is a connection of TCP.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn open(client: &Namespace, server: &Namespace, address: std::net::IpAddr) -> Self {
        let listener = server
            .inside(|| TcpListener::bind((address, 0)))
            .expect("listen");
        let target = listener.local_addr().expect("bound");
        let client = client
            .inside(|| TcpStream::connect_timeout(&target, PATIENCE))
            .expect("connect");
        let (server, _) = listener.accept().expect("accept");
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))
                .expect("a socket has a timeout");
        }
        Self { client, server }
    }

    fn go_on(&mut self) {
        for (mut from, mut to) in [(&self.server, &self.client), (&self.client, &self.server)] {
            let mut bytes = [0; 4];
            from.write_all(b"more").expect("send");
            to.read_exact(&mut bytes)
                .expect("the connection should live");
        }
    }
}
