//! Programs on hooks: clsact filters on endpoint links, pinned tcx links on devices and on
//! `cilium_host`.
//!
//! A tcx attach waits for a grace period of RCU, 6 to 23 ms; a filter takes 0.1 ms. So only links
//! on which the order towards other tools matters have tcx links. Both are replaced in place.

use std::fs;
use std::hash::{Hash as _, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya_obj::generated::bpf_attach_type;

use super::pin::Pins;
use super::{Error, sys};
use crate::host::HOST_LINK;
use crate::host::clsact;
use crate::host::netlink::Netlink;
use crate::plan::object::{AttachKind, Hook, Link, Program};

/// How long the kernel may take to detach the program of a removed link: a grace period of RCU
/// and the work before it.
const DETACHED_WITHIN: Duration = Duration::from_secs(2);

/// Is what was found on a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub program_id: u32,
    /// The program that belongs on this hook.
    pub program: Program,
    pub kind: AttachKind,
}

/// Finds our program on a hook of a link.
///
/// # Errors
/// When the kernel refuses to list filters, or a pin cannot be opened.
pub fn find(
    pins: &Pins,
    netlink: &mut Netlink,
    link: &Link,
    ifindex: u32,
    hook: Hook,
) -> Result<Option<Attached>, Error> {
    let Some(program) = Program::of(link, hook) else {
        return Ok(None);
    };
    if let Some(pin) = pin(pins, link, hook)
        && let Some(tcx) = open_link(&pin)?
    {
        let info = info(&tcx, &pin)?;
        let found = Attached {
            program_id: info.program_id,
            program,
            kind: AttachKind::Tcx,
        };
        return Ok(is_on(&info, ifindex, hook).then_some(found));
    }
    let filters = clsact::dump(netlink, ifindex, hook)?;
    let ours = filters.into_iter().find(clsact::Filter::is_ours);
    Ok(ours.map(|filter| Attached {
        program_id: filter.program_id,
        program,
        kind: AttachKind::Clsact,
    }))
}

/// Adds what is on a hook, and our pinned link there, to a number.
///
/// # Errors
/// When a pin cannot be opened, or a link not be inspected.
pub fn take(pins: &Pins, link: &Link, hook: Hook, hasher: &mut impl Hasher) -> Result<(), Error> {
    let Some(pin) = pin(pins, link, hook) else {
        return Ok(());
    };
    let Some(tcx) = open_link(&pin)? else {
        return Ok(());
    };
    let info = info(&tcx, &pin)?;
    let present = sys::tcx_links(info.ifindex, direction(hook)).unwrap_or_default();
    (info.id, info.program_id, info.ifindex, present).hash(hasher);
    Ok(())
}

/// Puts a program on a hook, in place of the one that we have there.
///
/// # Errors
/// When the program is not pinned, or the kernel refuses.
pub fn set(
    pins: &Pins,
    netlink: &mut Netlink,
    (link, ifindex, hook): (&Link, u32, Hook),
    program: (&Path, Program),
    kind: AttachKind,
) -> Result<(), Error> {
    let (path, name) = program;
    let program = sys::open_pin(path).map_err(Error::at("open program", path))?;
    if kind == AttachKind::Clsact {
        clsact::ensure_qdisc(netlink, ifindex)?;
        return Ok(clsact::set(netlink, ifindex, hook, name.name(), &program)?);
    }
    let pin = pin(pins, link, hook).ok_or_else(|| Error::NotOurs(format!("tcx on {link:?}")))?;
    if let Some(link) = open_link(&pin)? {
        if is_on(&info(&link, &pin)?, ifindex, hook) {
            return sys::update_link(link.as_fd(), program.as_fd())
                .map_err(Error::at("update link", &pin));
        }
        remove_pin(&pin)?;
    }
    let link = create_link(program.as_fd(), ifindex, direction(hook))
        .map_err(Error::at("attach", &pin))?;
    sys::pin(link.as_fd(), &pin).map_err(Error::at("pin link", &pin))
}

/// Takes our program off a hook; one that is gone already is success. The qdisc stays: filters
/// of others may be on it.
///
/// # Errors
/// When the kernel refuses.
pub fn unset(
    pins: &Pins,
    netlink: &mut Netlink,
    (link, ifindex, hook): (&Link, u32, Hook),
    kind: AttachKind,
) -> Result<(), Error> {
    match kind {
        AttachKind::Tcx => pin(pins, link, hook).map_or(Ok(()), |pin| remove_pin(&pin)),
        AttachKind::Clsact => Ok(clsact::del(netlink, ifindex, hook)?),
    }
}

/// Returns the pin of a link's tcx link, if it is of a kind that has them.
pub fn pin(pins: &Pins, link: &Link, hook: Hook) -> Option<PathBuf> {
    match link {
        Link::Host => Some(pins.link(HOST_LINK, hook)),
        Link::Device(name) => Some(pins.link(name, hook)),
        Link::Net | Link::Lxc(_) | Link::Eth0(_) => None,
    }
}

/// Attaches a program. The kernel detaches the program of a link whose pin was removed some time
/// later, in a work queue; until then it refuses to attach the same one a second time.
fn create_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let deadline = Instant::now() + DETACHED_WITHIN;
    loop {
        match sys::create_tcx_link(program, ifindex, hook) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn direction(hook: Hook) -> bpf_attach_type {
    match hook {
        Hook::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        Hook::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    }
}

fn info(link: &OwnedFd, pin: &Path) -> Result<sys::TcxLink, Error> {
    sys::tcx_link_info(link.as_fd()).map_err(Error::at("inspect link", pin))
}

/// Tells whether a tcx link is on the hook of this very link: an index alone may be that of a
/// link in another namespace.
fn is_on(info: &sys::TcxLink, ifindex: u32, hook: Hook) -> bool {
    // Where the hook cannot be asked about, nothing of ours is on it.
    let present = || sys::tcx_links(ifindex, direction(hook)).unwrap_or_default();
    info.ifindex == ifindex && present().contains(&info.id)
}

fn open_link(pin: &Path) -> Result<Option<OwnedFd>, Error> {
    match sys::open_pin(pin) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::at("open link", pin)(error)),
    }
}

/// Removes a pin, and with it the link, which nothing else holds.
fn remove_pin(pin: &Path) -> Result<(), Error> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::at("remove pin", pin)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
