//! A blocking requester for netlink: rtnetlink, and whatever family a message type speaks.
//!
//! One socket, one request at a time: send, then read until the acknowledgement or the end of
//! the dump with our sequence number. The messages come from rtnetlink's builders; only the
//! transport is ours, so that no runtime is needed and the extended acknowledgement is kept.
//!
//! A socket belongs to the namespace in which it was opened, whichever thread uses it later.
//! Strict checking is on: the kernel applies the filters of a dump request instead of ignoring
//! them. A dump that the kernel marks as inconsistent is repeated. An answer that cannot be
//! parsed is an error: skipping it would make an object vanish from the observed state.

use std::fmt::Display;
use std::marker::PhantomData;

use nix::errno::Errno;
use nix::libc::MSG_TRUNC;
use rtnetlink::packet_core::{
    DecodeError, DoneMessage, ErrorMessage, NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::error::{Error, Result};

/// Space for one datagram: twice the most that the kernel puts into one part of a dump.
const RECEIVE_LEN: usize = 64 * 1024;

/// Socket buffer in bytes: room for a burst of answers, also where `rmem_default` is small.
const SOCKET_BUFFER_LEN: usize = 1024 * 1024;

/// How often a dump is repeated when the table changes meanwhile.
const DUMP_ATTEMPTS: u32 = 16;

/// Length of a message header, and the step to which messages are padded.
const HEADER_LEN: usize = 16;
const ALIGN: usize = 4;

/// Number of the attribute that holds the text of an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Opens a socket on which the kernel announces what these groups are about (`RTNLGRP_*`), in the
/// namespace of the calling thread and in all that have a number there, as those of endpoints do
/// while their links exist. It does not block, and keeps no other namespace alive.
///
/// # Errors
/// When the process may open no more files, or is not privileged.
pub fn multicast(groups: &[u32]) -> Result<Socket> {
    let failed = |error: std::io::Error| Error::file("open netlink socket", &error);
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
    socket.set_rx_buf_sz(SOCKET_BUFFER_LEN).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.set_listen_all_namespaces(true).map_err(failed)?;
    for group in groups {
        socket.add_membership(*group).map_err(failed)?;
    }
    socket.set_non_blocking(true).map_err(failed)?;
    Ok(socket)
}

/// Talks to the kernel about the network objects of one namespace.
pub struct Netlink<M = RouteNetlinkMessage> {
    socket: Socket,
    sequence: u32,
    request: Vec<u8>,
    reply: Vec<u8>,
    message: PhantomData<fn(M) -> M>,
}

/// Is what a family's messages must be able to do.
pub trait Message: NetlinkSerializable + NetlinkDeserializable + Clone {}

impl<M: NetlinkSerializable + NetlinkDeserializable + Clone> Message for M {}

impl Netlink {
    /// Opens a socket for rtnetlink in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn open() -> Result<Self> {
        Self::open_family(NETLINK_ROUTE)
    }
}

impl<M: Message> Netlink<M> {
    /// Opens a socket for a netlink family, such as `NETLINK_NETFILTER`, in the namespace of
    /// the calling thread.
    ///
    /// # Errors
    /// When the kernel lacks the family, or the process may open no more files.
    pub fn open_family(family: isize) -> Result<Self> {
        let failed = |error: std::io::Error| Error::file("open netlink socket", &error);
        let socket = Socket::new(family).map_err(failed)?;
        socket.set_ext_ack(true).map_err(failed)?;
        socket.set_cap_ack(true).map_err(failed)?;
        socket.set_netlink_get_strict_chk(true).map_err(failed)?;
        socket.set_rx_buf_sz(SOCKET_BUFFER_LEN).map_err(failed)?;
        Ok(Self {
            socket,
            sequence: 0,
            request: Vec::new(),
            reply: Vec::with_capacity(RECEIVE_LEN),
            message: PhantomData,
        })
    }

    /// Changes something: sends a request with `flags` and waits for its acknowledgement.
    ///
    /// # Errors
    /// When the kernel refuses; `what` is the operation and the object.
    pub fn execute(&mut self, message: M, flags: u16, what: impl Display) -> Result<()> {
        log::trace!("{what}");
        self.exchange(message, NLM_F_ACK | flags, &what).map(drop)
    }

    /// Reads one object.
    ///
    /// # Errors
    /// When there is no such object ([`Error::is_gone`]).
    pub fn get(&mut self, message: M, what: impl Display) -> Result<Vec<M>> {
        Ok(self.exchange(message, NLM_F_ACK, &what)?.messages)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// When the kernel refuses, or the table never stops changing.
    pub fn dump(&mut self, message: &M, what: impl Display) -> Result<Vec<M>> {
        for _ in 0..DUMP_ATTEMPTS {
            let reply = self.exchange(message.clone(), NLM_F_DUMP, &what)?;
            if !reply.interrupted {
                return Ok(reply.messages);
            }
        }
        Err(Error::Interrupted {
            what: what.to_string(),
            attempts: DUMP_ATTEMPTS,
        })
    }

    fn exchange(&mut self, message: M, flags: u16, what: &dyn Display) -> Result<Reply<M>> {
        self.send(message, flags, what)?;
        let mut reply = Reply::default();
        while !self.receive(&mut reply, what)? {}
        Ok(reply)
    }

    fn send(&mut self, message: M, flags: u16, what: &dyn Display) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();

        self.request.clear();
        self.request.resize(message.buffer_len(), 0);
        message.serialize(&mut self.request);
        self.socket
            .send_to(&self.request, &SocketAddr::new(0, 0), 0)
            .map_err(|error| Error::file(what.to_string(), &error))?;
        Ok(())
    }

    /// Reads one datagram into `reply`; returns whether the answer is complete.
    fn receive(&mut self, reply: &mut Reply<M>, what: &dyn Display) -> Result<bool> {
        self.reply.clear();
        let (len, sender) = loop {
            match self.socket.recv_from(&mut self.reply, MSG_TRUNC) {
                Ok(received) => break received,
                Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
                Err(error) => return Err(Error::file(what.to_string(), &error)),
            }
        };
        if sender.port_number() != 0 {
            // Any process may write to a netlink socket; only port 0 is the kernel.
            return Ok(false);
        }
        if len > self.reply.len() {
            return Err(Error::Unreadable {
                what: what.to_string(),
                detail: format!("a datagram of {len} bytes"),
            });
        }
        reply.read(&self.reply, self.sequence, what)
    }
}

/// Collects the parts of an answer.
struct Reply<M> {
    messages: Vec<M>,
    interrupted: bool,
}

impl<M> Default for Reply<M> {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            interrupted: false,
        }
    }
}

impl<M: Message> Reply<M> {
    /// Takes the messages of one datagram; returns whether the last one was among them.
    fn read(&mut self, mut datagram: &[u8], sequence: u32, what: &dyn Display) -> Result<bool> {
        let unreadable = |error: DecodeError| Error::Unreadable {
            what: what.to_string(),
            detail: error.to_string(),
        };
        while datagram.len() >= HEADER_LEN {
            let buffer = NetlinkBuffer::new_checked(datagram).map_err(unreadable)?;
            let len = buffer.length() as usize;
            let (part, ours) = (&datagram[..len], buffer.sequence_number() == sequence);
            datagram = &datagram[len.next_multiple_of(ALIGN).min(datagram.len())..];
            if ours {
                let message = NetlinkMessage::deserialize(part).map_err(unreadable)?;
                if self.take(message, what)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn take(&mut self, message: NetlinkMessage<M>, what: &dyn Display) -> Result<bool> {
        let flags = message.header.flags;
        self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => {
                self.messages.push(message);
                Ok(false)
            }
            NetlinkPayload::Error(error) => refusal(&error, flags, what).map_or(Ok(true), Err),
            NetlinkPayload::Done(done) => failed_dump(&done, what).map_or(Ok(true), Err),
            NetlinkPayload::Overrun(_) => Err(Error::Unreadable {
                what: what.to_string(),
                detail: "the socket's buffer overflowed".into(),
            }),
            // Padding; the enumeration is open, and an unknown kind ends nothing.
            NetlinkPayload::Noop | _ => Ok(false),
        }
    }
}

fn refusal(error: &ErrorMessage, flags: u16, what: &dyn Display) -> Option<Error> {
    error.code?;
    // The header of the request comes first, and all of the request unless it was cut off.
    let echoed = if flags & NLM_F_CAPPED != 0 {
        HEADER_LEN
    } else {
        NetlinkBuffer::new_checked(&error.header)
            .map_or(error.header.len(), |request| request.length() as usize)
    };
    let attributes = error.header.get(echoed.next_multiple_of(ALIGN)..);
    Some(Error::Refused {
        what: what.to_string(),
        errno: Errno::from_raw(error.raw_code().saturating_abs()),
        kernel: attributes.and_then(extended_ack),
    })
}

fn failed_dump(done: &DoneMessage, what: &dyn Display) -> Option<Error> {
    (done.code < 0).then(|| Error::Refused {
        what: what.to_string(),
        errno: Errno::from_raw(done.code.saturating_abs()),
        kernel: extended_ack(&done.extended_ack),
    })
}

/// Returns the text of an extended acknowledgement.
fn extended_ack(attributes: &[u8]) -> Option<String> {
    let message = NlasIterator::new(attributes)
        .map_while(std::result::Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    let text = String::from_utf8_lossy(message.value());
    Some(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_extended_acknowledgement_is_found_behind_other_attributes() {
        let attributes = [
            8, 0, 2, 0, 1, 2, 3, 4, // NLMSGERR_ATTR_OFFS
            10, 0, 1, 0, b'n', b'o', b' ', b'!', b'?', 0, 0, 0,
        ];

        assert_eq!(extended_ack(&attributes).as_deref(), Some("no !?"));
    }

    #[test]
    fn refusal_without_text_has_none() {
        assert_eq!(extended_ack(&[]), None);
    }
}
