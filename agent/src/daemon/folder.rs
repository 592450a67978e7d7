//! Folders in which files come and go: names of network namespaces, pins (inotify(7)).
//!
//! A watch is about one folder as it is, and ends with it: it is set again before every look, so
//! that a folder that came meanwhile, or came again, is watched from then on.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::host::{Error, Result};

/// Names the files that come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Folders in which every file counts.
    pub folders: BTreeSet<PathBuf>,
    /// Files that count in other folders.
    pub single: BTreeSet<PathBuf>,
}

impl Files {
    /// Returns all folders in which something counts.
    fn all_folders(&self) -> BTreeSet<&Path> {
        let parents = self.single.iter().filter_map(|file| file.parent());
        parents
            .chain(self.folders.iter().map(PathBuf::as_path))
            .collect()
    }

    fn contains(&self, folder: &Path, event: &InotifyEvent) -> bool {
        match &event.name {
            Some(name) => self.folders.contains(folder) || self.single.contains(&folder.join(name)),
            // The folder itself.
            None => true,
        }
    }
}

/// Listens to what happens in some folders.
pub struct Folders {
    inotify: Inotify,
    files: Files,
    watched: HashMap<WatchDescriptor, PathBuf>,
}

impl Folders {
    /// Prepares to watch folders.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn open() -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| Error::system("watch folders", errno))?;
        Ok(Self {
            inotify,
            files: Files::default(),
            watched: HashMap::new(),
        })
    }

    /// Watches these files, as far as their folders are there. What happened before is not told.
    pub fn watch(&mut self, files: Files) {
        self.files = files;
        self.watched.clear();
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for path in self.files.all_folders() {
            match self.inotify.add_watch(path, flags) {
                Ok(watch) => drop(self.watched.insert(watch, path.to_owned())),
                // What happens there is found by the next check.
                Err(errno) => log::trace!("watch {}: {}", path.display(), errno.desc()),
            }
        }
    }

    /// Takes everything that happened; tells whether any of it counts.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self) -> Result<bool> {
        let mut happened = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => happened |= events.iter().any(|event| self.counts(event)),
                Err(Errno::EAGAIN) => return Ok(happened),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::system("read changes of folders", errno)),
            }
        }
    }

    fn counts(&self, event: &InotifyEvent) -> bool {
        // Events of a folder that is not watched any more, or were too many to be kept, have none.
        let folder = self.watched.get(&event.wd);
        folder.is_none_or(|folder| self.files.contains(folder, event))
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn single(file: &Path) -> Files {
        Files {
            single: BTreeSet::from([file.to_owned()]),
            ..Files::default()
        }
    }

    #[test]
    fn folder_that_comes_later_is_watched_from_the_next_look_on() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("netns");
        let web = folder.join("web");
        let mut folders = Folders::open().unwrap();
        folders.watch(single(&web));
        assert!(!folders.read().unwrap(), "nothing is there");

        fs::create_dir(&folder).unwrap();
        folders.watch(single(&web));
        fs::write(&web, "").unwrap();

        assert!(folders.read().unwrap(), "a name came");
        assert!(!folders.read().unwrap(), "and is told once");
        fs::remove_file(&web).unwrap();
        assert!(folders.read().unwrap(), "a name went");
    }

    #[test]
    fn other_files_count_only_where_all_do() {
        let place = tempfile::tempdir().unwrap();
        let mut folders = Folders::open().unwrap();

        folders.watch(single(&place.path().join("web")));
        fs::write(place.path().join("other"), "").unwrap();
        assert!(!folders.read().unwrap());

        folders.watch(Files {
            folders: BTreeSet::from([place.path().to_owned()]),
            ..Files::default()
        });
        fs::remove_file(place.path().join("other")).unwrap();
        assert!(folders.read().unwrap());
    }
}
