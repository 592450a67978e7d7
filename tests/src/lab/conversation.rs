//! Real sockets that talk to each other between namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::namespace::Namespace;
use super::{PATIENCE, uninterrupted};

/// Returns a socket for datagrams with an address and a port that is free.
pub fn bound(place: &Namespace, address: IpAddr) -> UdpSocket {
    let socket = place
        .inside(|| UdpSocket::bind((address, 0)))
        .expect("bind");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket has a timeout");
    socket
}

/// Sends a datagram each way; both sides must see each other's own address.
pub fn exchange(client: &UdpSocket, server: &UdpSocket) {
    let seen = exchange_with(client, server);
    assert_eq!(seen, client.local_addr().expect("bound"));
}

/// Sends a datagram each way; returns the address that the server saw.
pub fn exchange_with(client: &UdpSocket, server: &UdpSocket) -> SocketAddr {
    let mut bytes = [0; 64];
    client
        .send_to(b"question", server.local_addr().expect("bound"))
        .expect("send");
    let (len, from) =
        uninterrupted(|| server.recv_from(&mut bytes)).expect("the question should arrive");
    assert_eq!(&bytes[..len], b"question");
    server.send_to(b"answer", from).expect("send");
    let len = uninterrupted(|| client.recv(&mut bytes)).expect("the answer should arrive");
    assert_eq!(&bytes[..len], b"answer");
    from
}

/// Sends so many bytes by TCP and returns what arrived.
pub fn transfer(client: &Namespace, server: &Namespace, address: IpAddr, len: usize) -> Vec<u8> {
    transfer_seen(client, server, address, len).0
}

/// Sends so many bytes by TCP; returns what arrived, and the address that the server saw.
pub fn transfer_seen(
    client: &Namespace,
    server: &Namespace,
    address: IpAddr,
    len: usize,
) -> (Vec<u8>, SocketAddr) {
    let listener = server
        .inside(|| TcpListener::bind((address, 0)))
        .expect("listen");
    let target = listener.local_addr().expect("bound");
    let sender = client
        .inside(|| TcpStream::connect_timeout(&target, PATIENCE))
        .expect("connect");
    let sending = thread::spawn(move || {
        let mut sender = sender;
        sender.write_all(&pattern(len)).expect("send");
        sender.shutdown(Shutdown::Write).expect("end the transfer");
    });
    let (mut receiver, from) = listener.accept().expect("accept");
    receiver
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket has a timeout");
    let mut data = Vec::with_capacity(len);
    receiver.read_to_end(&mut data).expect("receive");
    sending.join().expect("the sender ends");
    (data, from)
}

/// Returns bytes that repeat only after a prime number of them.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| (index % 65_521).to_be_bytes()[6] ^ (index % 251).to_be_bytes()[7])
        .collect()
}
