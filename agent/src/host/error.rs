//! What can go wrong with the host's network objects.
//!
//! A message is operation and object, then the cause; refusals of the kernel carry its extended
//! acknowledgement. "Already so" and "already gone" never get here: the functions that expect
//! them ask [`Error::is_exists`] and [`Error::is_gone`] and succeed.

use std::io;

use nix::errno::Errno;

use crate::plan::object::Netns;

/// Abbreviates the result of everything in this module tree.
pub type Result<T> = std::result::Result<T, Error>;

/// Tells what went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("{what}: {}{}", errno.desc(), in_parentheses(kernel.as_ref().map(|text| format!("kernel: {text}")).as_deref()))]
    Refused {
        what: String,
        errno: Errno,
        /// The text of the extended acknowledgement, if there was one.
        kernel: Option<String>,
    },
    /// A netlink answer could not be parsed; what it describes would be missing silently.
    #[error("{what}: cannot read the kernel's answer: {detail}")]
    Unreadable { what: String, detail: String },
    /// A table changed during every attempt to read it.
    #[error("{what}: interrupted {attempts} times by changes")]
    Interrupted { what: String, attempts: u32 },
    /// A system call or file operation failed.
    #[error("{what}: {}", errno.desc())]
    System { what: String, errno: Errno },
    /// A namespace cannot be opened; `advice` says what to do.
    #[error("open network namespace {netns}: {}; {advice}", errno.map_or("not a network namespace", Errno::desc))]
    Netns {
        netns: String,
        /// `None` if the file is not a namespace.
        errno: Option<Errno>,
        advice: String,
    },
    /// The namespace of an endpoint cannot be used.
    #[error("endpoint {endpoint}: {cause}")]
    EndpointNetns {
        endpoint: String,
        netns: Netns,
        cause: Box<Error>,
    },
    /// An endpoint is in the namespace of its node, where nothing can be redirected to it.
    #[error("endpoint {endpoint}: namespace {netns} is the node's own")]
    OwnNetns { endpoint: String, netns: Netns },
    /// Two endpoints are in one namespace.
    #[error("endpoint {endpoint}: namespace {netns} is the one of endpoint {other}")]
    SharedNetns {
        endpoint: String,
        netns: Netns,
        other: String,
    },
    /// A link that is not ours has a name that we need.
    #[error("link {name}: exists and is not ours{}; rename it, or remove it with `ip link del {name}`",
        in_parentheses(alias.as_ref().map(|alias| format!("alias {alias}")).as_deref()))]
    ForeignLink { name: String, alias: Option<String> },
    /// A namespace that a lab did not make.
    #[error("network namespace {name}: {cause}")]
    ForeignNetns { name: String, cause: String },
    /// A sysctl shows another value after it was written.
    #[error("write sysctl {path} = {wanted}: reads back as {found}")]
    SysctlIgnored {
        path: String,
        wanted: String,
        found: String,
    },
    /// A folder that we need cannot be made.
    #[error("create {path}: {}; {advice}", errno.desc())]
    Folder {
        path: String,
        errno: Errno,
        /// What to do.
        advice: &'static str,
    },
    /// A mount here would end with the process that has this mount namespace.
    #[error(
        "mount bpffs on {path}: the mount namespace is not the machine's, as under `ip netns exec`: \
             enter the network namespace with `nsenter --net=…` instead, or mount one there first"
    )]
    TransientMount { path: String },
    /// Another process works on the node.
    #[error("lock {path}: held by {holder}")]
    Locked { path: String, holder: String },
    /// A change that only removal and creation can bring about.
    #[error("change {object}: {attribute} of an existing object cannot be changed")]
    Immutable {
        object: String,
        attribute: &'static str,
    },
    /// An object that the request names is missing.
    #[error("{what}: no such object")]
    Missing { what: String },
    /// A key that another module executes, or a value of another key.
    #[error("{what}: not an object of the host's network")]
    NotHost { what: String },
    /// Several independent errors.
    #[error("{}", list(.0))]
    Several(Vec<Error>),
}

impl Error {
    /// Wraps the failure of a system call.
    pub fn system(what: impl Into<String>, errno: Errno) -> Self {
        Self::System {
            what: what.into(),
            errno,
        }
    }

    /// Wraps the failure of a file operation.
    pub fn file(what: impl Into<String>, error: &io::Error) -> Self {
        Self::system(what, errno(error))
    }

    /// Returns the error number of a refused request or system call.
    pub fn errno(&self) -> Option<Errno> {
        if let Self::Refused { errno, .. } | Self::System { errno, .. } = self {
            Some(*errno)
        } else {
            None
        }
    }

    /// Tells whether the object exists already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// Tells whether the object, its link or its namespace does not exist.
    pub fn is_gone(&self) -> bool {
        let unfound = matches!(self, Self::Missing { .. } | Self::Netns { errno: None, .. });
        let errno = if let Self::Netns { errno, .. } = self {
            *errno
        } else {
            self.errno()
        };
        let gone = [
            Errno::ENODEV,
            Errno::ENOENT,
            Errno::ESRCH,
            Errno::EADDRNOTAVAIL,
        ];
        unfound || errno.is_some_and(|errno| gone.contains(&errno))
    }

    /// Folds errors that were collected into one, if there are any.
    pub fn collected(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// Returns the error number of a failed file operation.
pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Turns "already gone" into success.
pub(crate) fn gone_is_done(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}

fn in_parentheses(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}

fn list(errors: &[Error]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
