//! A DHCP server that says what a test wants, and remembers what it was asked.
//!
//! It answers everybody, and lends one address. Times are as short as a test likes, which real
//! servers do not allow.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::namespace::Namespace;

/// Kinds of messages (RFC 2132, 9.6).
pub const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// Where options begin.
const OPTIONS: usize = 240;

/// How often the thread looks whether it shall end.
const PERIOD: Duration = Duration::from_millis(20);

/// Is what the server does.
#[derive(Clone, Debug)]
pub struct Script {
    pub address: Ipv4Addr,
    pub lease_secs: u32,
    /// When more time is to be asked for.
    pub renew_secs: u32,
    pub rebind_secs: u32,
    /// Options beside the mask and the times.
    pub options: Vec<(u8, Vec<u8>)>,
    /// How many questions are lost before one is answered.
    pub loses: u32,
    /// How late an answer comes.
    pub delay: Duration,
    /// Whether nothing is answered.
    pub is_silent: bool,
    /// Whether every wish is refused.
    pub refuses: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(192, 0, 2, 77),
            lease_secs: 600,
            renew_secs: 300,
            rebind_secs: 500,
            options: vec![(3, vec![192, 0, 2, 1])],
            loses: 0,
            delay: Duration::ZERO,
            is_silent: false,
            refuses: false,
        }
    }
}

/// Is what the server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub kind: u8,
    /// The address that the client uses already.
    pub own: Ipv4Addr,
    pub wish: Option<Ipv4Addr>,
    pub broadcast: bool,
    pub host_name: Option<String>,
}

/// Is the server, which ends with this value.
#[derive(Debug)]
pub struct DhcpServer {
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DhcpServer {
    /// Serves on `eth0` of a namespace, as 192.0.2.1.
    pub fn start(place: &Namespace, script: Script) -> Self {
        let socket = place.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:67").expect("bind the port of servers");
            setsockopt(&socket.as_fd(), sockopt::BindToDevice, &"eth0".into())
                .expect("serve on one link");
            socket
        });
        socket.set_broadcast(true).expect("speak to everybody");
        socket
            .set_read_timeout(Some(PERIOD))
            .expect("set a timeout");
        let mut server = Self {
            script: Arc::new(Mutex::new(script)),
            asked: Arc::default(),
            end: Arc::default(),
            thread: None,
        };
        let (script, asked, end) = (
            Arc::clone(&server.script),
            Arc::clone(&server.asked),
            Arc::clone(&server.end),
        );
        server.thread = Some(thread::spawn(move || {
            let mut bytes = [0; 1500];
            while !end.load(Ordering::Relaxed) {
                let Ok((len, _)) = socket.recv_from(&mut bytes) else {
                    continue;
                };
                if let Some(question) = read(&bytes[..len]) {
                    asked.lock().expect("the list").push(question.clone());
                    let answer = judge(&script, &question);
                    if let Some((kind, script)) = answer {
                        thread::sleep(script.delay);
                        let answer = write(kind, &bytes[..len], &script);
                        let to = SocketAddr::from((Ipv4Addr::BROADCAST, 68));
                        // A link that went takes the answer along.
                        drop(socket.send_to(&answer, to));
                    }
                }
            }
        }));
        server
    }

    /// Returns what the server does from here on.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("the script")
    }

    /// Returns what the server was asked until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the list").clone()
    }
}

impl Drop for DhcpServer {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Says what is answered, if anything is.
fn judge(script: &Mutex<Script>, question: &Asked) -> Option<(u8, Script)> {
    let mut script = script.lock().expect("the script");
    if script.is_silent {
        return None;
    }
    if script.loses > 0 {
        script.loses -= 1;
        return None;
    }
    let wished = question.wish.unwrap_or(question.own);
    let kind = match question.kind {
        DISCOVER => OFFER,
        REQUEST if script.refuses || wished != script.address => NAK,
        REQUEST => ACK,
        _ => return None,
    };
    Some((kind, script.clone()))
}

fn read(bytes: &[u8]) -> Option<Asked> {
    let mut rest = bytes.get(OPTIONS..)?;
    let mut asked = Asked {
        kind: 0,
        own: address(&bytes[12..16])?,
        wish: None,
        broadcast: bytes[10] & 0x80 != 0,
        host_name: None,
    };
    while let [number, len, more @ ..] = rest {
        let (value, after) = more.split_at_checked(usize::from(*len))?;
        match number {
            12 => asked.host_name = String::from_utf8(value.to_vec()).ok(),
            50 => asked.wish = address(value),
            53 => asked.kind = *value.first()?,
            255 => break,
            _ => {}
        }
        rest = after;
    }
    Some(asked)
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    Some(bytes.into())
}

/// Answers a question, whose beginning an answer has too.
fn write(kind: u8, question: &[u8], script: &Script) -> Vec<u8> {
    let mut bytes = question[..OPTIONS].to_vec();
    bytes[0] = 2;
    bytes[236..240].copy_from_slice(&MAGIC);
    let mut add = |number: u8, value: &[u8]| {
        let len = u8::try_from(value.len()).expect("a short option");
        bytes.extend([number, len]);
        bytes.extend(value);
    };
    add(53, &[kind]);
    add(54, &[192, 0, 2, 1]);
    if kind != NAK {
        add(1, &[255, 255, 255, 0]);
        add(51, &script.lease_secs.to_be_bytes());
        add(58, &script.renew_secs.to_be_bytes());
        add(59, &script.rebind_secs.to_be_bytes());
        for (number, value) in &script.options {
            add(*number, value);
        }
        bytes[16..20].copy_from_slice(&script.address.octets());
    }
    bytes.push(255);
    bytes
}
