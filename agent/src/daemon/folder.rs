//! Folders in which files come and go: names of network namespaces, pins, configuration
//! (inotify(7)).
//!
//! A watch is about one folder as it is, and ends with it: it is set again before every look, so
//! that a folder that came meanwhile, or came again, is watched from then on.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::host::{Error, Result};

/// What happens to names in a folder, and to the folder.
const NAMES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// The same, and what happens to the files: written and closed, or with new permissions.
const CONTENTS: AddWatchFlags = NAMES
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB);

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
    /// What is told.
    flags: AddWatchFlags,
    files: Files,
    watched: HashMap<WatchDescriptor, PathBuf>,
}

impl Folders {
    /// Prepares to watch folders, in which names count.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn open() -> Result<Self> {
        Self::open_for(NAMES)
    }

    /// Prepares to watch folders, in which also counts what files contain, and who may write them.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn open_for_contents() -> Result<Self> {
        Self::open_for(CONTENTS)
    }

    fn open_for(flags: AddWatchFlags) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| Error::system("watch folders", errno))?;
        Ok(Self {
            inotify,
            flags,
            files: Files::default(),
            watched: HashMap::new(),
        })
    }

    /// Watches these files, as far as their folders are there. What happened before is not told.
    pub fn watch(&mut self, files: Files) {
        self.files = files;
        let mut former = std::mem::take(&mut self.watched);
        for path in self.files.all_folders() {
            match self.inotify.add_watch(path, self.flags) {
                Ok(watch) => drop(self.watched.insert(watch, path.to_owned())),
                // What happens there is found by the next check.
                Err(errno) => log::trace!("watch {}: {}", path.display(), errno.desc()),
            }
        }
        former.retain(|watch, _| !self.watched.contains_key(watch));
        for watch in former.into_keys() {
            // One of a folder that is gone has ended with it.
            let _ = self.inotify.rm_watch(watch);
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
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            // The end of a watch: what ended it was told, or was us.
            return false;
        }
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
