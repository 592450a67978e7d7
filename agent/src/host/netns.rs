//! Network namespaces: found, compared, entered.
//!
//! A namespace is entered on a thread of its own that ends with the work, so that the caller's
//! thread never leaves its own namespace, not even after a panic. Descriptors are
//! close-on-exec and dropped by whoever opened them: a namespace lives as long as somebody
//! holds one, and an agent must not keep a namespace alive that its owner removed.
//!
//! `/proc/self/ns/net` is the namespace of the process's *first* thread; a thread asks for
//! its own through `/proc/thread-self`.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result, errno};
use super::named;
use super::netlink::Netlink;
use crate::plan::object::Netns;

/// Is the calling thread's own namespace.
pub const OWN: &str = "/proc/thread-self/ns/net";

/// Stack of a thread inside a namespace, in bytes: parsing messages nests a little.
const STACK_LEN: usize = 1024 * 1024;

/// Tells namespaces apart: two paths with the same identity are the same namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    dev: u64,
    ino: u64,
}

/// Opens a namespace.
///
/// # Errors
/// When there is none; the message says what to do about it.
pub fn open(netns: &Netns) -> Result<OwnedFd> {
    open_path(&netns.path()).map_err(|errno| Error::Netns {
        netns: netns.to_string(),
        errno,
        advice: match netns {
            Netns::Name(name) => format!("create it with `ip netns add {name}`"),
            Netns::Path(path) => format!("mount a network namespace on {}", path.display()),
            Netns::Pid(_) => "name a process that runs".into(),
        },
    })
}

/// Opens the calling thread's own namespace.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn open_own() -> Result<OwnedFd> {
    open_path(Path::new(OWN)).map_err(|errno| Error::Netns {
        netns: OWN.into(),
        errno,
        advice: "mount /proc".into(),
    })
}

/// Opens a namespace; fails without an error number if the file is something else.
fn open_path(path: &Path) -> std::result::Result<OwnedFd, Option<Errno>> {
    let file = File::open(path).map_err(|error| Some(errno(&error)))?;
    // The file of a name whose namespace is not mounted on it is a plain, empty one.
    if fstatfs(&file).map_err(Some)?.filesystem_type() == NSFS_MAGIC {
        Ok(file.into())
    } else {
        Err(None)
    }
}

/// Returns what tells the namespace from others.
///
/// # Errors
/// When the descriptor cannot be queried.
pub fn identity(netns: impl AsFd) -> Result<Identity> {
    let stat = fstat(netns).map_err(|errno| Error::system("stat network namespace", errno))?;
    Ok(Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    })
}

/// Finds a namespace by its identity, wherever somebody holds it: by a name below `/run/netns`,
/// by a mount elsewhere, or by a process or one of its threads.
///
/// # Errors
/// When the names cannot be listed.
pub fn find(wanted: Identity) -> Result<Option<OwnedFd>> {
    let names = named::list()?.into_iter();
    let places = names
        .map(|name| Netns::Name(name).path())
        .chain(mounts(wanted))
        .chain(threads());
    // Looking at the file first spares opening those of all others.
    let mut candidates = places.filter(|place| {
        fs::metadata(place)
            .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev, wanted.ino))
    });
    Ok(candidates.find_map(|place| {
        let found = open_path(&place).ok()?;
        // A process may have ended, and another one have taken its number.
        identity(&found)
            .is_ok_and(|identity| identity == wanted)
            .then_some(found)
    }))
}

/// Lists where the namespace is mounted (`proc_pid_mountinfo(5)`: the fourth field is
/// `net:[<inode>]`, the fifth the mount point).
fn mounts(wanted: Identity) -> Vec<PathBuf> {
    let root = format!("net:[{}]", wanted.ino);
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let point = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let is_wanted = fields.next() == Some(root.as_str());
        fields.next().filter(|_| is_wanted).map(PathBuf::from)
    };
    table.lines().filter_map(point).collect()
}

/// Lists the namespaces of all threads, those of the first process first: it has the host's own.
fn threads() -> impl Iterator<Item = PathBuf> {
    let mut processes = numbers(Path::new("/proc"));
    processes.sort_unstable();
    processes.into_iter().flat_map(|process| {
        let tasks = PathBuf::from(format!("/proc/{process}/task"));
        let namespace = move |task: u32| tasks.join(format!("{task}/ns/net"));
        numbers(Path::new(&format!("/proc/{process}/task")))
            .into_iter()
            .map(namespace)
    })
}

fn numbers(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Runs `work` inside a namespace, on a thread that ends with it.
///
/// # Errors
/// When the namespace cannot be entered.
///
/// # Panics
/// When `work` panics.
pub fn in_netns<T: Send>(netns: impl AsFd, work: impl FnOnce() -> T + Send) -> Result<T> {
    let netns = netns.as_fd();
    on_thread(move || {
        move_to(netns)?;
        Ok(work())
    })
}

/// Moves the calling thread, and the threads that it starts from here on, into a namespace for good.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn move_to(netns: impl AsFd) -> Result<()> {
    setns(netns, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::system("enter network namespace", errno))
}

/// Runs `work` in a new, empty namespace that goes with it.
///
/// # Errors
/// When the caller is not privileged.
///
/// # Panics
/// When `work` panics.
pub fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system("unshare network namespace", errno))?;
        Ok(work())
    })
}

/// Opens a netlink socket that works on a namespace, to be used from any thread.
///
/// The socket keeps the namespace alive: drop it as soon as the work is done.
///
/// # Errors
/// When the namespace cannot be entered or no socket can be opened.
pub fn netlink_in(netns: impl AsFd) -> Result<Netlink> {
    in_netns(netns, Netlink::open)?
}

/// Runs `work` on a thread of its own, whose namespaces it may change.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".into())
            .stack_size(STACK_LEN)
            .spawn_scoped(scope, work)
            .map_err(|error| Error::file("start thread for network namespace", &error))?
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_name_says_how_to_create_it() {
        let error = open(&Netns::Name("no-such-netns".into())).unwrap_err();

        assert_eq!(
            error.to_string(),
            "open network namespace no-such-netns: No such file or directory; \
             create it with `ip netns add no-such-netns`"
        );
    }

    #[test]
    fn plain_file_is_no_namespace() {
        let error = open(&Netns::Path(PathBuf::from("/etc/passwd"))).unwrap_err();

        assert!(
            error.to_string().contains("not a network namespace"),
            "{error}"
        );
    }

    #[test]
    fn namespace_without_a_name_is_found_by_a_thread_in_it() {
        let own = identity(open_own().unwrap()).unwrap();
        let found = find(own).unwrap().expect("this thread is in it");
        assert_eq!(identity(found).unwrap(), own);

        let nowhere = Identity {
            dev: own.dev,
            ino: 1,
        };
        assert!(find(nowhere).unwrap().is_none());
    }

    #[test]
    fn name_and_thread_show_the_same_identity() {
        let own = identity(open_own().unwrap()).unwrap();
        let process = open(&Netns::Pid(std::process::id())).unwrap();

        assert_eq!(own, identity(process).unwrap());
    }
}
