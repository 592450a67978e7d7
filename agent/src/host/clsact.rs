//! BPF filters on the clsact hooks of a link.
//!
//! Called by `datapath` for endpoint links, and for every link where the kernel has no tcx
//! (before 6.6). A filter is identified by link, hook, priority and handle. Ours have numbers
//! of their own: people and Cilium use 1, and a `tc filter add` without a priority gets 49152
//! with handle 1, then counts down. So filters with small hand-given priorities run before
//! ours and automatic ones after.
//!
//! Adding replaces the program of our filter in place. The qdisc is never deleted, for others
//! may have filters on it; an empty clsact costs nothing.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::error::{Error, Result};
use super::netlink::Netlink;
use crate::plan::object::Hook;

/// Is the priority of our filters; lower ones run first.
pub const PRIORITY: u16 = 3089;

/// Is the handle of our filters, unique within a priority.
pub const HANDLE: u32 = 0xc11;

const QDISC: &str = "clsact";

/// Frames of every protocol (`ETH_P_ALL`, host order).
const PROTOCOL_ALL: u16 = 0x0003;

/// Describes a BPF filter, ours or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub priority: u16,
    pub handle: u32,
    pub name: String,
    pub program_id: u32,
    /// Digest of the program's instructions.
    pub tag: [u8; 8],
}

impl Filter {
    /// Tells whether the filter has our priority and handle.
    pub fn is_ours(&self) -> bool {
        (self.priority, self.handle) == (PRIORITY, HANDLE)
    }
}

/// Makes sure that a link has a clsact qdisc.
///
/// # Errors
/// When the kernel refuses, as it does where an `ingress` qdisc is in the way.
pub fn ensure_qdisc(netlink: &mut Netlink, link: u32) -> Result<()> {
    let mut message = TcMessage::with_index(signed(link));
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    message.attributes.push(TcAttribute::Kind(QDISC.into()));
    let result = netlink.execute(
        RouteNetlinkMessage::NewQueueDiscipline(message),
        NLM_F_CREATE | NLM_F_EXCL,
        format_args!("add qdisc clsact dev {link}"),
    );
    match result {
        // Somebody's, or ours from before. Filters of all parties share it.
        Err(error) if error.is_exists() => require_clsact(netlink, link, error),
        other => other,
    }
}

/// Adds our filter to a hook, or replaces its program in place.
///
/// # Errors
/// When the kernel refuses.
pub fn set(
    netlink: &mut Netlink,
    link: u32,
    hook: Hook,
    name: &str,
    program: impl AsFd,
) -> Result<()> {
    let fd = program.as_fd().as_raw_fd();
    let options = [
        TcFilterBpfOption::ProgFd(fd.cast_unsigned()),
        TcFilterBpfOption::ProgName(name.into()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let mut message = ours(link, hook);
    let options = options.into_iter().map(TcOption::Bpf).collect();
    message.attributes.push(TcAttribute::Options(options));
    netlink.execute(
        RouteNetlinkMessage::NewTrafficFilter(message),
        NLM_F_CREATE | NLM_F_REPLACE,
        format_args!("set filter {name} dev {link} {}", word(hook)),
    )
}

/// Deletes our filter from a hook; "already gone" is success.
///
/// # Errors
/// When the kernel refuses.
pub fn del(netlink: &mut Netlink, link: u32, hook: Hook) -> Result<()> {
    let result = netlink.execute(
        RouteNetlinkMessage::DelTrafficFilter(ours(link, hook)),
        0,
        format_args!("delete filter dev {link} {}", word(hook)),
    );
    match result {
        Err(error) if error.is_gone() => Ok(()),
        // Without any clsact qdisc the kernel calls the request invalid.
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            if dump(netlink, link, hook)?.iter().any(Filter::is_ours) {
                Err(error)
            } else {
                Ok(())
            }
        }
        other => other,
    }
}

/// Lists the BPF filters of a hook, in the order in which they run; none if the link is gone.
///
/// # Errors
/// When the kernel refuses.
pub fn dump(netlink: &mut Netlink, link: u32, hook: Hook) -> Result<Vec<Filter>> {
    let mut message = TcMessage::with_index(signed(link));
    message.header.parent = parent(hook);
    let what = format_args!("list filters dev {link} {}", word(hook));
    match netlink.dump(&RouteNetlinkMessage::GetTrafficFilter(message), what) {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        other => Ok(other?.into_iter().filter_map(read).collect()),
    }
}

/// Is a filter of somebody else, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    pub priority: u16,
    /// Such as `bpf` or `flower`.
    pub kind: String,
}

/// Lists the filters of others on a hook by their priorities; none if the link is gone.
///
/// # Errors
/// When the kernel refuses.
pub fn foreign(netlink: &mut Netlink, link: u32, hook: Hook) -> Result<Vec<Foreign>> {
    let mut message = TcMessage::with_index(signed(link));
    message.header.parent = parent(hook);
    let what = format_args!("list filters dev {link} {}", word(hook));
    let replies = match netlink.dump(&RouteNetlinkMessage::GetTrafficFilter(message), what) {
        Err(error) if error.is_gone() => Vec::new(),
        other => other?,
    };
    let mut found: Vec<Foreign> = replies.into_iter().filter_map(read_foreign).collect();
    // The kernel lists each priority by itself, and then every filter in it.
    found.dedup_by_key(|filter| filter.priority);
    found.retain(|filter| filter.priority != PRIORITY);
    Ok(found)
}

fn read_foreign(reply: RouteNetlinkMessage) -> Option<Foreign> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = reply else {
        return None;
    };
    let priority = u16::try_from(message.header.info >> 16).ok()?;
    let mut attributes = message.attributes.into_iter();
    let kind = attributes.find_map(|attribute| {
        if let TcAttribute::Kind(kind) = attribute {
            Some(kind)
        } else {
            None
        }
    })?;
    Some(Foreign { priority, kind })
}

/// An `ingress` qdisc sits in the same place, answers the same error, and has no egress.
fn require_clsact(netlink: &mut Netlink, link: u32, error: Error) -> Result<()> {
    // The kernel ignores the link when it lists qdiscs.
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(signed(link)));
    let qdiscs = netlink.dump(&request, format_args!("list qdiscs dev {link}"))?;
    let kind = TcAttribute::Kind(QDISC.into());
    let found = qdiscs.into_iter().any(|reply| {
        matches!(reply, RouteNetlinkMessage::NewQueueDiscipline(qdisc)
            if qdisc.header.index == signed(link) && qdisc.attributes.contains(&kind))
    });
    if found { Ok(()) } else { Err(error) }
}

fn ours(link: u32, hook: Hook) -> TcMessage {
    let mut message = TcMessage::with_index(signed(link));
    message.header.parent = parent(hook);
    message.header.handle = HANDLE.into();
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(PROTOCOL_ALL.to_be());
    let kind = TcAttribute::Kind(TcFilterBpf::KIND.into());
    message.attributes.push(kind);
    message
}

fn parent(hook: Hook) -> TcHandle {
    TcHandle {
        major: TcHandle::CLSACT.major,
        minor: match hook {
            Hook::Ingress => TcHandle::MIN_INGRESS,
            Hook::Egress => TcHandle::MIN_EGRESS,
        },
    }
}

fn read(reply: RouteNetlinkMessage) -> Option<Filter> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = reply else {
        return None;
    };
    let mut filter = Filter {
        priority: u16::try_from(message.header.info >> 16).ok()?,
        handle: message.header.handle.into(),
        name: String::new(),
        program_id: 0,
        tag: [0; 8],
    };
    for attribute in message.attributes {
        if let TcAttribute::Options(options) = attribute {
            for option in options {
                take(&mut filter, option);
            }
        }
    }
    // The kernel also lists each priority by itself, without a program; and other kinds.
    (filter.program_id != 0).then_some(filter)
}

fn take(filter: &mut Filter, option: TcOption) {
    if let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option {
        filter.name = name;
    } else if let TcOption::Bpf(TcFilterBpfOption::ProgId(id)) = option {
        filter.program_id = id;
    } else if let TcOption::Bpf(TcFilterBpfOption::ProgTag(tag)) = option {
        filter.tag = tag;
    }
}

fn word(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress",
        Hook::Egress => "egress",
    }
}

fn signed(link: u32) -> i32 {
    link.cast_signed()
}
