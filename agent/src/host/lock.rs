//! The lock of a node: one process at a time changes it.
//!
//! An exclusive `flock` on `<state dir>/lock`, which the kernel drops with the process, also
//! when it is killed. Nothing is written to the file (a run that changes nothing writes
//! nothing); who holds it is read from `/proc/locks`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{fstat, major, minor, stat};

use super::error::{Error, Result, errno};

const NAME: &str = "lock";

/// Holds the lock of a node until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the node whose state lives in `directory`, creating that directory.
    ///
    /// # Errors
    /// When another process holds it; the message names the process.
    pub fn take(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).map_err(|error| Error::Folder {
            path: directory.display().to_string(),
            errno: errno(&error),
            advice: "mount a tmpfs on /run, or name another folder with --state-dir",
        })?;
        let path = directory.join(NAME);
        loop {
            let lock = Self::attempt(&path)?;
            // The holder before us may have removed the file between our open and our lock.
            if lock.is_current()? {
                return Ok(lock);
            }
        }
    }

    /// Tells whether a process holds the lock in `directory`; nothing is made or written.
    ///
    /// # Errors
    /// When the file is there and cannot be tried.
    pub fn is_held(directory: &Path) -> Result<bool> {
        let path = directory.join(NAME);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => {
                other.map_err(|error| Error::file(format!("open {}", path.display()), &error))?
            }
        };
        // Shared, so that two who look do not take each other for a holder.
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(false),
            Err((_, Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, errno)) => Err(Error::system(format!("try {}", path.display()), errno)),
        }
    }

    /// Returns the process that holds the lock in a directory, if one does.
    pub fn holder(directory: &Path) -> Option<u32> {
        let file = File::open(directory.join(NAME)).ok()?;
        holder_pid(&file)
    }

    /// Removes the file and drops the lock.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let what = format!("remove {}", self.path.display());
                Err(Error::file(what, &error))
            }
            _ => Ok(()),
        }
    }

    fn attempt(path: &Path) -> Result<Self> {
        let file =
            open(path).map_err(|error| Error::file(format!("open {}", path.display()), &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self {
                file,
                path: path.to_owned(),
            }),
            Err((file, Errno::EWOULDBLOCK)) => Err(Error::Locked {
                path: path.display().to_string(),
                holder: holder(&file),
            }),
            Err((_, errno)) => Err(Error::system(format!("lock {}", path.display()), errno)),
        }
    }

    fn is_current(&self) -> Result<bool> {
        let failed = |errno| Error::system(format!("stat {}", self.path.display()), errno);
        let held = fstat(&*self.file).map_err(failed)?;
        match stat(&self.path) {
            Ok(present) => Ok((held.st_dev, held.st_ino) == (present.st_dev, present.st_ino)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// Opens the file to read if it is there, so that taking the lock of a node that is set up writes
/// nothing; else makes it.
fn open(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path),
        other => other,
    }
}

fn holder(file: &File) -> String {
    holder_pid(file).map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn holder_pid(file: &File) -> Option<u32> {
    let status = fstat(file).ok()?;
    let table = fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (major(status.st_dev), minor(status.st_dev));
    let inode = format!("{major:02x}:{minor:02x}:{}", status.st_ino);
    find_holder(&table, &inode)?.parse().ok()
}

/// Finds the pid in lines like `3: FLOCK  ADVISORY  WRITE 714 00:18:1234 0 EOF`; lines of
/// processes that wait have an arrow before the kind.
fn find_holder<'a>(table: &'a str, inode: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let held = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&inode);
        held.then(|| fields[4])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let _held = Lock::take(directory.path()).unwrap();

        let error = Lock::take(directory.path()).unwrap_err();

        let Error::Locked { holder, .. } = &error else {
            panic!("should have been locked: {error}");
        };
        let own = std::process::id();
        assert_eq!(*holder, format!("process {own}"));
        assert_eq!(Lock::holder(directory.path()), Some(own));
    }

    #[test]
    fn lock_is_free_after_the_holder_is_gone() {
        let directory = tempfile::tempdir().unwrap();

        drop(Lock::take(directory.path()).unwrap());

        Lock::take(directory.path()).unwrap().remove().unwrap();
        assert!(!directory.path().join(NAME).exists());
    }

    #[test]
    fn who_only_looks_is_told_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!Lock::is_held(directory.path()).unwrap());
        assert!(!directory.path().join(NAME).exists(), "should not be made");

        let held = Lock::take(directory.path()).unwrap();

        assert!(Lock::is_held(directory.path()).unwrap());
        drop(held);
        assert!(!Lock::is_held(directory.path()).unwrap());
    }

    #[test]
    fn waiting_process_is_not_the_holder() {
        let table = "1: -> FLOCK  ADVISORY  WRITE 9 00:18:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 714 00:18:5 0 EOF\n";

        assert_eq!(find_holder(table, "00:18:5"), Some("714"));
    }
}
