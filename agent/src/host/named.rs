//! Network namespaces with a name below `/run/netns`, made for a lab.
//!
//! They look like those of `ip netns add`, and carry a mark: the alias `ciliate-lab:<lab>` on
//! their `lo`, which is read back before anything is deleted. A namespace without that mark
//! is somebody else's.
//!
//! A thread makes the namespace, marks it, and only then mounts it on its name: a kill at any
//! point leaves nothing, or an empty name, or a complete namespace. An empty name (a file
//! that nothing is mounted on) can be entered by nobody; it is taken over and removed freely.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::error::{Error, Result};
use super::netns::{OWN, netlink_in, on_thread, open};
use super::{Netlink, link};
use crate::plan::object::Netns;

const DIRECTORY: &str = "/run/netns";
const LOOPBACK: &str = "lo";
const NOTHING: Option<&str> = None;

/// Creates the namespace `name` for the lab `lab`, with `lo` up.
///
/// # Errors
/// When the name is taken ([`Error::is_exists`]) or the caller is not privileged.
pub fn create(name: &str, lab: &str) -> Result<()> {
    prepare_directory()?;
    let path = path_of(name);
    if is_namespace(name) {
        let what = format!("create network namespace {name}");
        return Err(Error::system(what, Errno::EEXIST));
    }
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system("unshare network namespace", errno))?;
        let mut netlink = Netlink::open()?;
        link::set_up(&mut netlink, LOOPBACK, true)?;
        link::set_alias(&mut netlink, LOOPBACK, &mark(lab))?;
        touch(&path)?;
        mount(Some(OWN), &path, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(|errno| {
            drop(fs::remove_file(&path));
            Error::system(format!("mount network namespace {name}"), errno)
        })
    })
}

/// Deletes the namespace `name` of the lab `lab`; "already gone" is success.
///
/// # Errors
/// When the lab did not make it.
pub fn delete(name: &str, lab: &str) -> Result<()> {
    let path = path_of(name);
    if is_namespace(name) {
        match lab_of(name)? {
            Some(found) if found == lab => {}
            Some(found) => return Err(foreign(name, &format!("made by the lab {found}"))),
            None => return Err(foreign(name, "not made by a lab; it is left alone")),
        }
        detach_all(&path)?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => remove_covered(&path),
        other => removed(&path, other),
    }
}

/// Tells whether a name has no namespace: an empty file that nothing is mounted on.
pub fn is_dead(name: &str) -> bool {
    let metadata = fs::symlink_metadata(path_of(name));
    !is_namespace(name) && metadata.is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// Unmounts everything that can be reached on a path, last mount first.
fn detach_all(path: &Path) -> Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // Nothing (more) is mounted there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => {
                return Err(Error::system(format!("unmount {}", path.display()), errno));
            }
        }
    }
}

/// Removes a name with a mount below another mount.
///
/// Where `/run` is not shared, the first `ip netns add` binds the directory of names over
/// itself, with all that is mounted in it. The older mount of a name is out of reach then, and
/// keeps its file busy. From mounts of its own, which it uncovers first, a thread can remove the
/// file all the same; the kernel (3.18) then detaches it in all others.
fn remove_covered(path: &Path) -> Result<()> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Error::system("unshare mount namespace", errno))?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NOTHING, "/", NOTHING, private, NOTHING)
            .map_err(|errno| Error::system("keep mounts to this thread", errno))?;
        detach_all(Path::new(DIRECTORY))?;
        detach_all(path)?;
        removed(path, fs::remove_file(path))
    })
}

fn removed(path: &Path, result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file(format!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Removes the directory of names if it is empty, and not a mount point as `ip netns` leaves it.
pub fn remove_directory() {
    // Somebody's names keep it, and that is as it should be.
    drop(fs::remove_dir(DIRECTORY));
}

/// Returns the lab that made the namespace `name`, if one did.
///
/// # Errors
/// When there is no such namespace.
pub fn lab_of(name: &str) -> Result<Option<String>> {
    let mut netlink = netlink_in(open(&Netns::Name(name.into()))?)?;
    let alias = link::get(&mut netlink, LOOPBACK)?.and_then(|lo| lo.alias);
    Ok(alias.and_then(|alias| alias.strip_prefix(MARK).map(str::to_owned)))
}

/// Lists the names below `/run/netns`, sorted.
///
/// # Errors
/// When the directory cannot be read; a missing one holds nothing.
pub fn list() -> Result<Vec<String>> {
    let failed = |error: io::Error| Error::file(format!("list {DIRECTORY}"), &error);
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

const MARK: &str = "ciliate-lab:";

fn mark(lab: &str) -> String {
    format!("{MARK}{lab}")
}

fn path_of(name: &str) -> PathBuf {
    Netns::Name(name.into()).path()
}

fn is_namespace(name: &str) -> bool {
    open(&Netns::Name(name.into())).is_ok()
}

fn foreign(name: &str, cause: &str) -> Error {
    Error::ForeignNetns {
        name: name.into(),
        cause: cause.into(),
    }
}

fn touch(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o444)
        .open(path)
        .map_err(|error| Error::file(format!("create {}", path.display()), &error))
}

/// Makes the directory of names. It becomes no mount of its own, as under `ip netns add`: that
/// one could not be told from somebody else's when it is to go again.
fn prepare_directory() -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(DIRECTORY)
        .map_err(|error| Error::file(format!("create {DIRECTORY}"), &error))
}
