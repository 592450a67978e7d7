//! Programs that serve in the background, and a small server for curl.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use super::namespace::Namespace;
use super::{PATIENCE, wait_until};

/// Is a program that ends with this value.
#[derive(Debug)]
pub struct Service {
    child: Child,
}

impl Service {
    /// Starts a command line in a namespace, and waits until it listens to a port of TCP.
    pub fn start(place: &Namespace, line: &str, port: u16) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command has words"));
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = place
            .inside(|| command.spawn())
            .unwrap_or_else(|error| panic!("start {line}: {error}"));
        let service = Self { child };
        wait_until(&format!("{line} listens"), || {
            !place.run(&format!("ss -Htln sport = :{port}")).is_empty()
        });
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Is a server of HTTP/1.1 for one request: it gives what it has, or takes what it is given.
#[derive(Debug)]
pub struct Page {
    pub address: SocketAddr,
    thread: JoinHandle<(SocketAddr, Vec<u8>)>,
}

impl Page {
    /// Listens at an address; `body` is what a GET is answered with.
    pub fn serve(place: &Namespace, address: IpAddr, body: Vec<u8>) -> Self {
        let listener = place
            .inside(|| TcpListener::bind((address, 0)))
            .expect("listen");
        let address = listener.local_addr().expect("bound");
        let thread = thread::spawn(move || {
            let (stream, from) = listener.accept().expect("accept");
            stream
                .set_read_timeout(Some(PATIENCE))
                .expect("a socket has a timeout");
            (from, answer(&stream, &body))
        });
        Self { address, thread }
    }

    /// Waits for the end of the request; returns who asked, and what a PUT brought.
    pub fn end(self) -> (SocketAddr, Vec<u8>) {
        self.thread.join().expect("the server ends")
    }
}

/// Answers a request; returns its body.
fn answer(mut stream: &TcpStream, body: &[u8]) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("read the request");
    let is_get = line.starts_with("GET ");
    let mut length = 0;
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).expect("read a header");
        let header = line.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        } else if header == "expect: 100-continue" {
            stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .expect("ask for the body");
        }
    }
    let mut taken = vec![0; length];
    reader.read_exact(&mut taken).expect("read the body");
    let given = if is_get { body } else { &[] };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", given.len());
    stream.write_all(head.as_bytes()).expect("answer");
    stream.write_all(given).expect("give the body");
    taken
}
