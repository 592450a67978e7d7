//! The BPF file system that holds the pins.
//!
//! Most machines have one at `/sys/fs/bpf`. Where it is missing, we mount one with the source
//! `ciliate`, by which it is told from others; only such a one is ever unmounted, and only
//! when nothing is left in it. Where the mount point was missing, too, the source says so.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::{Error, Result, errno};

/// Is the source that `findmnt` shows for a BPF file system that we mounted.
pub const SOURCE: &str = "ciliate";

/// Is that source where we made the mount point, too: it goes with the mount.
const SOURCE_ON_OUR_FOLDER: &str = "ciliate-folder";

/// Where `ip netns exec` puts a file system of its own.
const SYS: &str = "/sys";

/// Is what the kernel puts into every new BPF file system (5.10, with `CONFIG_BPF_PRELOAD`).
const FROM_KERNEL: [&str; 2] = ["maps.debug", "progs.debug"];

/// Tells whether a path is in a BPF file system; a missing path is not.
///
/// # Errors
/// When the path cannot be queried.
pub fn is_bpffs(path: &Path) -> Result<bool> {
    match statfs(path) {
        Ok(status) => Ok(status.filesystem_type() == BPF_FS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::system(format!("query {}", path.display()), errno)),
    }
}

/// Tells whether the mount on a path is one that we made.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn is_ours(path: &Path) -> Result<bool> {
    Ok(our_source(path)?.is_some())
}

/// Returns the source of the mount on a path, if we made it.
fn our_source(path: &Path) -> Result<Option<&'static str>> {
    // The table has absolute paths without symbolic links.
    let Ok(path) = path.canonicalize() else {
        return Ok(None);
    };
    let what = "read /proc/thread-self/mountinfo";
    let table = fs::read_to_string("/proc/thread-self/mountinfo")
        .map_err(|error| Error::file(what, &error))?;
    let found = topmost_source(&table, &path);
    let mut ours = [SOURCE, SOURCE_ON_OUR_FOLDER].into_iter();
    Ok(ours.find(|source| found == Some(*source)))
}

/// Mounts a BPF file system on a path; "already so" is success.
///
/// # Errors
/// When the caller is not privileged or the kernel has no BPF.
pub fn mount_on(path: &Path) -> Result<()> {
    if is_bpffs(path)? {
        return Ok(());
    }
    if path.starts_with(SYS) && !is_machine_wide() {
        return Err(Error::TransientMount {
            path: path.display().to_string(),
        });
    }
    let source = if path.exists() {
        SOURCE
    } else {
        SOURCE_ON_OUR_FOLDER
    };
    fs::create_dir_all(path).map_err(|error| Error::Folder {
        path: path.display().to_string(),
        errno: errno(&error),
        advice: "mount /sys, or name the mount point of a BPF file system with --bpffs",
    })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(source), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| Error::system(format!("mount bpffs on {}", path.display()), errno))
}

/// Tells whether this process sees the mounts of the first process. `ip netns exec` gives each
/// command mounts of its own, with a fresh `/sys` that goes with the command; pins there would be
/// lost, and with them the tail calls of every program that is attached.
fn is_machine_wide() -> bool {
    let [own, first] = ["/proc/self/ns/mnt", "/proc/1/ns/mnt"].map(fs::read_link);
    // Where the first process cannot be asked, nothing speaks against it.
    !matches!((own, first), (Ok(own), Ok(first)) if own != first)
}

/// Unmounts the BPF file system on a path if we mounted it and nothing is left in it; returns
/// whether it did.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount_if_empty(path: &Path) -> Result<bool> {
    let Some(source) = our_source(path)? else {
        return Ok(false);
    };
    let failed = |error: io::Error| Error::file(format!("list {}", path.display()), &error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !FROM_KERNEL.iter().any(|from_kernel| name == *from_kernel) {
            return Ok(false);
        }
    }
    umount2(path, MntFlags::empty())
        .map_err(|errno| Error::system(format!("unmount {}", path.display()), errno))?;
    if source == SOURCE_ON_OUR_FOLDER {
        // What somebody put there before the mount keeps it.
        drop(fs::remove_dir(path));
    }
    Ok(true)
}

/// Returns the source of the BPF file system that is mounted last on a path.
///
/// A line is `36 35 0:31 / /sys/fs/bpf rw,nosuid shared:9 - bpf ciliate rw`: the mount point
/// is the fifth field, type and source follow the dash (proc(5)).
fn topmost_source<'a>(table: &'a str, path: &Path) -> Option<&'a str> {
    let line = table.lines().rfind(|line| {
        let point = line.split(' ').nth(4).map(unescape);
        point.is_some_and(|point| Path::new(&point) == path)
    })?;
    let mut rest = line.split_once(" - ")?.1.split(' ');
    (rest.next() == Some("bpf")).then(|| rest.next())?
}

/// Mount points show blanks and backslashes as three octal digits.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
24 29 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
33 24 0:29 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700
90 24 0:50 / /tmp/a\\040b rw - bpf ciliate rw,mode=700
91 33 0:51 / /sys/fs/bpf rw - bpf ciliate rw,mode=700
";

    #[test]
    fn last_mount_on_a_path_counts() {
        assert_eq!(
            topmost_source(TABLE, Path::new("/sys/fs/bpf")),
            Some("ciliate")
        );
    }

    #[test]
    fn other_file_systems_have_no_source() {
        assert_eq!(topmost_source(TABLE, Path::new("/sys")), None);
        assert_eq!(topmost_source(TABLE, Path::new("/tmp")), None);
    }

    #[test]
    fn blank_in_a_mount_point_is_unescaped() {
        assert_eq!(
            topmost_source(TABLE, Path::new("/tmp/a b")),
            Some("ciliate")
        );
    }
}
